/*
 * The program dies while it brings a policy to the kernel: at every message of the transaction, and just before
 * and after it.  What is in force afterwards has to be the old ruleset or the new one, whole.
 *
 *   fw_nft_crash      exits 1 when it was something else
 *
 * A transaction is one datagram of many messages, handed over by one sendto(), so a crash cannot divide it; this
 * divides it all the same, as a kernel would find it that was given a part.  sendto() is ours here: a child process
 * stops in it.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "fw/nft/kernel.h"
#include "tests/tools/nft_lab.h"

#define WHOLE UINT32_MAX

static uint32_t die_at = WHOLE; /* messages that are sent yet; WHOLE: nobody dies */
static bool dies_after;         /* when all of them are in force, but nobody has heard of it */
static uint32_t nb_messages;    /* of the last transaction */

/* The libraries' calls come here, too. */
ssize_t
sendto(
    int fd, const void *bytes, size_t len, int flags, const struct sockaddr *to, socklen_t to_len)
{
	const struct nlmsghdr *h = bytes;
	uint32_t nb = 0;
	size_t at = 0;

	if (len < sizeof(*h) || h->nlmsg_type != NFNL_MSG_BATCH_BEGIN)
		return syscall(__NR_sendto, fd, bytes, len, flags, to, to_len);
	while (at < len && nb < die_at) {
		at += MNL_ALIGN(((const struct nlmsghdr *)((const char *)bytes + at))->nlmsg_len);
		nb++;
	}
	nb_messages = nb;
	if (at > 0)
		(void)!syscall(__NR_sendto, fd, bytes, at, flags, to, to_len);
	if (die_at != WHOLE || dies_after)
		_exit(0);
	return (ssize_t)len;
}

/* Two rulesets that differ in everything a plan has: sets, maps, chains, counters, a hook's rules. */
static struct nft_plan *
make_plan(bool newer)
{
	static const struct nft_hook hook = { .is = true, .number = 2, .priority = 0 };
	struct nft_plan *p = nft_plan_create();
	struct nft_code c;
	struct nft_set *s;

	must(p != NULL, "plan");
	s = nft_plan_set(
	    p, NFT_TABLE_INET, "members", NFT_SET_HASH, NFT_SET_KEYS, NFT_TYPE_IPV4, 4);
	for (uint32_t i = 0; i < 600; i++) {
		uint32_t addr = htonl(0x0a000000 + (newer ? 300 : 0) + i);

		(void)nft_plan_element(p, s, &addr, sizeof(addr));
	}
	nft_plan_counter(p, NFT_TABLE_INET, newer ? "counter-new" : "counter-old");
	for (unsigned int n = 0; n < 6; n++) {
		char name[NFT_NAME_LEN];

		snprintf(name, sizeof(name), "p%u-%s", n,
		    n % 2 == 0  ? "both"
		        : newer ? "new"
		                : "old");
		nft_code_begin(&c, "picket", name);
		for (unsigned int i = 0; i < (newer ? 5u : 3u); i++) {
			nft_count(&c, newer ? "counter-new" : "counter-old");
			nft_return(&c);
			nft_rule_end(&c);
		}
		nft_plan_chain(p, NFT_TABLE_INET, &c, NULL);
	}
	nft_code_begin(&c, "picket", "forward");
	nft_jump(&c, newer ? "p1-new" : "p1-old");
	nft_rule_end(&c);
	nft_accept(&c);
	nft_rule_end(&c);
	nft_plan_chain(p, NFT_TABLE_INET, &c, &hook);
	must(nft_plan_seal(p) == 0, "seal");
	return p;
}

static uint64_t
digest(void)
{
	/* Words in an order of their own, since nft lists chains by age and elements by hash; without the owner, who has
	 * died. */
	FILE *f = popen(
	    "nft -s list table inet picket | sed 's/#.*//; /flags/d' | tr -s ' \\t,' '\\n' | sort",
	    "r");
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	int c;

	must(f != NULL, "nft");
	while ((c = getc(f)) != EOF)
		h = (h ^ (uint8_t)c) * UINT64_C(0x100000001b3);
	must(pclose(f) == 0, "nft list");
	return h;
}

/* In a child, which is the program that dies; its sockets go with it. */
static void
apply(const struct nft_plan *from, const struct nft_plan *to, uint32_t at, bool after)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0, "fork");
	if (pid == 0) {
		struct pk_diag diag = { .text = "" };
		struct nft_kernel *k;

		must(nft_kernel_open(&k, "picket", 0, &diag) == 0, diag.text);
		die_at = at;
		dies_after = after;
		if (nft_kernel_apply(k, from, to, NULL, &diag) < 0)
			fprintf(stderr, "%s\n", diag.text);
		_exit(1); /* it should have died */
	}
	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "the child");
}

int
main(void)
{
	struct nft_plan *old = make_plan(false), *new = make_plan(true);
	struct pk_diag diag = { .text = "" };
	uint32_t nb, wrong = 0;
	struct nft_kernel *k;
	uint64_t is_old, is_new;

	must(unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0,
	    "network namespace");
	/* What each looks like; and how many messages lie between them. */
	must(nft_kernel_open(&k, "picket", 0, &diag) == 0, diag.text);
	must(nft_kernel_apply(k, NULL, new, NULL, &diag) == 0, diag.text);
	is_new = digest();
	must(nft_kernel_apply(k, NULL, old, NULL, &diag) == 0, diag.text);
	nft_kernel_close(k);
	is_old = digest();
	must(is_old != is_new, "two rulesets");
	for (nb = 0;; nb++) {
		uint64_t is;

		apply(old, new, nb, false);
		is = digest();
		if (is == is_new)
			break; /* with its last message it is in force */
		if (is != is_old) {
			printf("after %u messages: neither the old ruleset nor the new one\n", nb);
			wrong++;
		}
		must(nb < 1000, "an end");
	}
	/* Whole, but nobody was there to hear; and from the unknown, as a new process does it. */
	apply(new, old, WHOLE, true);
	wrong += digest() != is_old;
	for (uint32_t at = 0; at < 20; at++) {
		apply(NULL, new, at, false);
		wrong += digest() != is_old;
	}
	apply(NULL, new, WHOLE, true);
	wrong += digest() != is_new;
	printf("%u crashes: %u times neither the old ruleset nor the new one\n", nb + 23, wrong);
	nft_plan_destroy(old);
	nft_plan_destroy(new);
	return wrong != 0;
}
