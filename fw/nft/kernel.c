#include "fw/nft/kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter/nfnetlink.h>

#include "lib/log.h"

#ifndef NFT_TABLE_F_PERSIST
#define NFT_TABLE_F_PERSIST 0x4 /* since Linux 6.9 */
#endif

#define OWNER_MARK     "picket-nftd " /* of our tables, in their user data; then the wires */
#define MESSAGE_MAX    131072         /* bytes of one message: a list of elements is below 65536 */
#define ELEMENTS_MAX   256            /* in one message */
#define REPLAYS_MAX    8
#define OWNER_AND_STAY (NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST)

struct nft_kernel {
	struct mnl_socket *socket, *reader; /* one owns the tables, the other asks */
	const char *table;
	char mark[sizeof(OWNER_MARK) + 16];
	uint32_t seq;
	uint32_t flags; /* of our tables */
	char *batch;
	size_t len, room;
	uint32_t first_seq;
	uint32_t set_id;
	struct nft_kernel_cost cost;
	bool failed;
};

static const uint16_t families[NFT_TABLE_COUNT] = { NFPROTO_NETDEV, NFPROTO_INET };

/* ---- a batch ---- */

/* Room for a message at the end of the batch; a place to throw away when there is no memory. */
static char *
room(struct nft_kernel *k)
{
	static char nowhere[MESSAGE_MAX] __attribute__((aligned(8)));

	if (k->len + MESSAGE_MAX > k->room) {
		size_t want = PK_MAX(2 * k->room, k->len + 4 * MESSAGE_MAX);
		char *grown = realloc(k->batch, want);

		if (grown == NULL) {
			k->failed = true;
			return nowhere;
		}
		k->batch = grown;
		k->room = want;
	}
	return k->batch + k->len;
}

static struct nlmsghdr *
message(struct nft_kernel *k, uint16_t type, enum nft_table table, uint16_t flags)
{
	return nftnl_nlmsg_build_hdr(room(k), type, families[table], flags, k->seq++);
}

static void
sent(struct nft_kernel *k, const struct nlmsghdr *h)
{
	if (k->failed)
		return;
	k->len += MNL_ALIGN(h->nlmsg_len);
	k->cost.messages++;
}

static void
begin(struct nft_kernel *k)
{
	k->len = 0;
	k->failed = false;
	k->cost = (struct nft_kernel_cost){ 0 };
	k->first_seq = k->seq;
	sent(k, nftnl_batch_begin(room(k), k->seq++));
}

static const char *
message_name(uint16_t type)
{
	static const char *const names[] = { [NFT_MSG_NEWTABLE] = "a new table",
		[NFT_MSG_DELTABLE] = "a table that goes",
		[NFT_MSG_NEWCHAIN] = "a new chain",
		[NFT_MSG_DELCHAIN] = "a chain that goes",
		[NFT_MSG_NEWRULE] = "a new rule",
		[NFT_MSG_DELRULE] = "rules that go",
		[NFT_MSG_NEWSET] = "a new set",
		[NFT_MSG_DELSET] = "a set that goes",
		[NFT_MSG_NEWSETELEM] = "new elements",
		[NFT_MSG_DELSETELEM] = "elements that go",
		[NFT_MSG_NEWOBJ] = "a new object",
		[NFT_MSG_DELOBJ] = "an object that goes" };

	type &= 0xff;
	return type < PK_COUNT(names) && names[type] != NULL ? names[type] : "the transaction";
}

/* What the message of that number was about: its kind and the name it gives. */
static void
describe(const struct nft_kernel *k, uint32_t seq, int error, struct pk_diag *diag)
{
	size_t at = 0;

	while (at < k->len) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)(k->batch + at);

		if (h->nlmsg_seq == seq) {
			const struct nlattr *a;
			const char *name = "";

			/* Attribute 2 of chains is a handle; of all else it is the name after the table's. */
			mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
			{
				uint16_t type = mnl_attr_get_type(a);

				if (type ==
				        ((h->nlmsg_type & 0xff) == NFT_MSG_NEWCHAIN
				                ? NFTA_CHAIN_NAME
				                : 2) &&
				    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0)
					name = mnl_attr_get_str(a);
			}
			pk_diag_set(diag, "the kernel refuses %s%s%s: %s",
			    message_name(h->nlmsg_type), name[0] != '\0' ? " of " : "", name,
			    strerror(error));
			return;
		}
		at += MNL_ALIGN(h->nlmsg_len);
	}
	pk_diag_set(diag, "the kernel refuses the transaction: %s", strerror(error));
}

/* Read answers until that of message `last`.  Returns 0, the error of the transaction, or -EAGAIN to send again. */
static int
answers(struct nft_kernel *k, uint32_t last, struct pk_diag *diag)
{
	char buffer[65536];
	int rc = 0;

	for (;;) {
		ssize_t n = mnl_socket_recvfrom(k->socket, buffer, sizeof(buffer));
		int left = (int)n;

		if (n < 0) {
			pk_diag_set(diag, "netlink: %s", strerror(errno));
			return -errno;
		}
		for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			if (e->error != 0 && (int32_t)(h->nlmsg_seq - k->first_seq) >= 0) {
				if (rc == 0) {
					rc = e->error;
					describe(k, h->nlmsg_seq, -rc, diag);
				}
				/* After an error of the batch as a whole nothing follows. */
				if (h->nlmsg_seq == k->first_seq)
					return rc;
			}
			if (h->nlmsg_seq == last)
				return rc;
		}
	}
}

/* A grace period: what was under way when the kernel changed over is through (membarrier(2)). */
static void
settle(void)
{
	if (syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0) {
		struct timespec t = { .tv_nsec = 20 * 1000 * 1000 };

		nanosleep(&t, NULL);
	}
}

/*
 * Send it in one piece, since the kernel takes a message of a batch after the other out of one buffer.  The last
 * message but one asks for an answer, which comes when all are in force.
 */
static int
commit(struct nft_kernel *k, struct pk_diag *diag)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct nlmsghdr *h = NULL;
	uint32_t last;
	int rc = -EAGAIN;

	if (k->failed) {
		pk_diag_set(diag, "out of memory for the transaction");
		return -ENOMEM;
	}
	for (size_t at = 0; at < k->len; at += MNL_ALIGN(h->nlmsg_len))
		h = (struct nlmsghdr *)(k->batch + at);
	if (k->cost.messages == 1)
		return 0; /* nothing to say */
	h->nlmsg_flags |= NLM_F_ACK;
	last = h->nlmsg_seq;
	sent(k, nftnl_batch_end(room(k), k->seq++));
	if (k->failed)
		return -ENOMEM;
	k->cost.bytes = k->len;
	for (unsigned int i = 0; rc == -EAGAIN && i < REPLAYS_MAX; i++) {
		int size = (int)PK_MIN(2 * k->len + 65536, (size_t)INT32_MAX / 4);

		(void)setsockopt(
		    mnl_socket_get_fd(k->socket), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
		if (sendto(mnl_socket_get_fd(k->socket), k->batch, k->len, 0,
		        (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
			pk_diag_set(diag, "netlink: a transaction of %zu bytes: %s", k->len,
			    strerror(errno));
			return -errno;
		}
		rc = answers(k, last, diag);
	}
	if (rc == 0)
		settle();
	return rc;
}

/* ---- messages ---- */

static void
put_table(struct nft_kernel *k, enum nft_table table, uint16_t type)
{
	struct nlmsghdr *h = message(k, type, table, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
	struct nftnl_table *t = nftnl_table_alloc();

	if (t == NULL) {
		k->failed = true;
		return;
	}
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, k->table);
	if (type == NFT_MSG_NEWTABLE) {
		nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, k->flags);
		nftnl_table_set_data(t, NFTNL_TABLE_USERDATA, k->mark, sizeof(k->mark));
	}
	nftnl_table_nlmsg_build_payload(h, t);
	nftnl_table_free(t);
	sent(k, h);
}

static void
put_chain(struct nft_kernel *k, const struct nft_chain *c, bool is_new)
{
	struct nlmsghdr *h = message(
	    k, is_new ? NFT_MSG_NEWCHAIN : NFT_MSG_DELCHAIN, c->table, is_new ? NLM_F_CREATE : 0);
	struct nftnl_chain *n = nftnl_chain_alloc();

	if (n == NULL) {
		k->failed = true;
		return;
	}
	nftnl_chain_set_str(n, NFTNL_CHAIN_TABLE, k->table);
	nftnl_chain_set_str(n, NFTNL_CHAIN_NAME, c->name);
	if (is_new && c->hook.is) {
		nftnl_chain_set_str(n, NFTNL_CHAIN_TYPE, "filter");
		nftnl_chain_set_u32(n, NFTNL_CHAIN_HOOKNUM, c->hook.number);
		nftnl_chain_set_s32(n, NFTNL_CHAIN_PRIO, c->hook.priority);
		nftnl_chain_set_u32(n, NFTNL_CHAIN_POLICY, c->hook.drops ? NF_DROP : NF_ACCEPT);
		if (c->hook.device[0] != '\0')
			nftnl_chain_set_str(n, NFTNL_CHAIN_DEV, c->hook.device);
	}
	nftnl_chain_nlmsg_build_payload(h, n);
	nftnl_chain_free(n);
	sent(k, h);
}

static void
put_rules(struct nft_kernel *k, const struct nft_chain *c)
{
	for (size_t at = 0; at < c->len;) {
		struct nlmsghdr *h =
		    message(k, NFT_MSG_NEWRULE, c->table, NLM_F_CREATE | NLM_F_APPEND);
		uint32_t len;

		memcpy(&len, c->bytes + at, sizeof(len));
		at += sizeof(len);
		memcpy(mnl_nlmsg_put_extra_header(h, 0), c->bytes + at, len);
		h->nlmsg_len += len;
		at += len;
		k->cost.rules++;
		sent(k, h);
	}
}

static void
flush_rules(struct nft_kernel *k, const struct nft_chain *c)
{
	struct nlmsghdr *h = message(k, NFT_MSG_DELRULE, c->table, 0);

	mnl_attr_put_strz(h, NFTA_RULE_TABLE, k->table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, c->name);
	sent(k, h);
}

static void
put_set(struct nft_kernel *k, const struct nft_set *s, bool is_new)
{
	struct nlmsghdr *h = message(
	    k, is_new ? NFT_MSG_NEWSET : NFT_MSG_DELSET, s->table, is_new ? NLM_F_CREATE : 0);
	struct nftnl_set *n = nftnl_set_alloc();
	uint32_t flags = 0;

	if (n == NULL) {
		k->failed = true;
		return;
	}
	nftnl_set_set_str(n, NFTNL_SET_TABLE, k->table);
	nftnl_set_set_str(n, NFTNL_SET_NAME, s->name);
	if (is_new) {
		if (s->kind == NFT_SET_RANGES || s->kind == NFT_SET_BOXES)
			flags |= NFT_SET_INTERVAL;
		if (s->kind == NFT_SET_METER)
			flags |= NFT_SET_EVAL;
		if (s->kind == NFT_SET_BOXES) {
			flags |= NFT_SET_CONCAT;
			nftnl_set_set_data(
			    n, NFTNL_SET_DESC_CONCAT, s->part_len, sizeof(s->part_len));
		}
		if (s->data != NFT_SET_KEYS)
			flags |= NFT_SET_MAP;
		if (s->data == NFT_SET_NUMBERS) {
			nftnl_set_set_u32(n, NFTNL_SET_DATA_TYPE, NFT_TYPE_MARK);
			nftnl_set_set_u32(n, NFTNL_SET_DATA_LEN, sizeof(uint32_t));
		} else if (s->data == NFT_SET_CHAINS) {
			nftnl_set_set_u32(n, NFTNL_SET_DATA_TYPE, NFT_DATA_VERDICT);
			nftnl_set_set_u32(n, NFTNL_SET_DATA_LEN, 0);
		}
		nftnl_set_set_u32(n, NFTNL_SET_FLAGS, flags);
		nftnl_set_set_u32(n, NFTNL_SET_KEY_TYPE, s->key_type);
		nftnl_set_set_u32(n, NFTNL_SET_KEY_LEN, s->key_len);
		nftnl_set_set_u32(n, NFTNL_SET_ID, ++k->set_id);
		if (s->kind == NFT_SET_METER)
			nftnl_set_set_u32(n, NFTNL_SET_DESC_SIZE, 65535);
	}
	nftnl_set_nlmsg_build_payload(h, n);
	nftnl_set_free(n);
	sent(k, h);
}

/* The number after that in key[0 .. len - 1], in network order; false beyond the last. */
static bool
next_key(uint8_t *key, uint32_t len)
{
	for (uint32_t i = len; i-- > 0;)
		if (++key[i] != 0)
			return true;
	return false;
}

static void
add_element(
    struct nft_kernel *k, struct nftnl_set *n, const struct nft_set *s, const struct nft_element *e)
{
	struct nftnl_set_elem *x = nftnl_set_elem_alloc(), *end;
	uint8_t after[sizeof(e->end)];

	if (x == NULL) {
		k->failed = true;
		return;
	}
	nftnl_set_elem_set(x, NFTNL_SET_ELEM_KEY, e->key, s->key_len);
	if (s->kind == NFT_SET_BOXES)
		nftnl_set_elem_set(x, NFTNL_SET_ELEM_KEY_END, e->end, s->key_len);
	if (s->data == NFT_SET_NUMBERS) {
		nftnl_set_elem_set(x, NFTNL_SET_ELEM_DATA, &e->number, sizeof(e->number));
	} else if (s->data == NFT_SET_CHAINS) {
		nftnl_set_elem_set_u32(x, NFTNL_SET_ELEM_VERDICT, (uint32_t)NFT_GOTO);
		nftnl_set_elem_set_str(x, NFTNL_SET_ELEM_CHAIN, e->chain);
	}
	nftnl_set_elem_add(n, x);
	k->cost.elements++;
	if (s->kind != NFT_SET_RANGES)
		return;
	/* A range is two elements, and the second stands one behind it. */
	memcpy(after, e->end, sizeof(after));
	if (!next_key(after, s->key_len))
		return;
	end = nftnl_set_elem_alloc();
	if (end == NULL) {
		k->failed = true;
		return;
	}
	nftnl_set_elem_set(end, NFTNL_SET_ELEM_KEY, after, s->key_len);
	nftnl_set_elem_set_u32(end, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
	nftnl_set_elem_add(n, end);
}

/* Collects elements of one set into messages. */
struct elements {
	struct nft_kernel *k;
	const struct nft_set *set;
	uint16_t type;
	struct nftnl_set *n;
	uint32_t nb;
};

static void
elements_flush(struct elements *l)
{
	struct nlmsghdr *h;

	if (l->n == NULL)
		return;
	h = message(l->k, l->type, l->set->table, l->type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0);
	nftnl_set_elems_nlmsg_build_payload(h, l->n);
	nftnl_set_free(l->n);
	l->n = NULL;
	l->nb = 0;
	sent(l->k, h);
}

static void
elements_add(struct elements *l, const struct nft_element *e)
{
	if (l->n == NULL) {
		l->n = nftnl_set_alloc();
		if (l->n == NULL) {
			l->k->failed = true;
			return;
		}
		nftnl_set_set_str(l->n, NFTNL_SET_TABLE, l->k->table);
		nftnl_set_set_str(l->n, NFTNL_SET_NAME, l->set->name);
	}
	add_element(l->k, l->n, l->set, e);
	if (++l->nb == ELEMENTS_MAX)
		elements_flush(l);
}

static void
put_object(struct nft_kernel *k, const struct nft_object *o, bool is_new)
{
	struct nlmsghdr *h = message(
	    k, is_new ? NFT_MSG_NEWOBJ : NFT_MSG_DELOBJ, o->table, is_new ? NLM_F_CREATE : 0);
	struct nftnl_obj *n = nftnl_obj_alloc();

	if (n == NULL) {
		k->failed = true;
		return;
	}
	nftnl_obj_set_str(n, NFTNL_OBJ_TABLE, k->table);
	nftnl_obj_set_str(n, NFTNL_OBJ_NAME, o->name);
	if (o->timeout_of == 0) {
		nftnl_obj_set_u32(n, NFTNL_OBJ_TYPE, NFT_OBJECT_COUNTER);
		if (is_new)
			nftnl_obj_set_u64(n, NFTNL_OBJ_CTR_PKTS, 0);
	} else {
		nftnl_obj_set_u32(n, NFTNL_OBJ_TYPE, NFT_OBJECT_CT_TIMEOUT);
		if (is_new) {
			nftnl_obj_set_u16(n, NFTNL_OBJ_CT_TIMEOUT_L3PROTO,
			    o->family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
			nftnl_obj_set_u8(n, NFTNL_OBJ_CT_TIMEOUT_L4PROTO, o->timeout_of);
			nftnl_obj_set_data(
			    n, NFTNL_OBJ_CT_TIMEOUT_ARRAY, o->seconds, sizeof(o->seconds));
		}
	}
	nftnl_obj_nlmsg_build_payload(h, n);
	nftnl_obj_free(n);
	sent(k, h);
}

/* ---- from one plan to another ---- */

static const struct nft_plan nothing;

static int
order(enum nft_table ta, const char *a, enum nft_table tb, const char *b)
{
	return ta != tb ? (ta < tb ? -1 : 1) : strcmp(a, b);
}

/* Elements that go, or come: one pass each, since all that go have to go first. */
static void
move_elements(struct nft_kernel *k, const struct nft_set *from, const struct nft_set *to, bool come)
{
	struct elements l = { .k = k,
		.set = come ? to : from,
		.type = come ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM };
	uint32_t i = 0, j = 0, nb_from = from != NULL ? from->nb : 0,
	         nb_to = to != NULL ? to->nb : 0;

	while (i < nb_from || j < nb_to) {
		const struct nft_element *a = i < nb_from ? &from->element[i] : NULL;
		const struct nft_element *b = j < nb_to ? &to->element[j] : NULL;
		int c = a == NULL ? 1 : b == NULL ? -1 : nft_element_compare(a, b);

		if (c == 0 && memcmp(a, b, sizeof(*a)) == 0) {
			i++;
			j++;
			continue;
		}
		if (c <= 0) {
			if (!come)
				elements_add(&l, a);
			i++;
		}
		if (c >= 0) {
			if (come)
				elements_add(&l, b);
			j++;
		}
	}
	elements_flush(&l);
}

/* Pairs up what stands in both plans under one name. */
#define PAIRS(from, to, what, a, b)                                                             \
	for (uint32_t i_ = 0, j_ = 0; i_ < (from)->nb_##what##s || j_ < (to)->nb_##what##s;)    \
		for (struct nft_##what *a = i_ < (from)->nb_##what##s ? (from)->what##s[i_]     \
		                                                      : NULL,                   \
		                       *b = j_ < (to)->nb_##what##s ? (to)->what##s[j_] : NULL, \
		                       *once_ = (void *)1;                                      \
		     once_ != NULL && pair_##what(&a, &b, &i_, &j_); once_ = NULL)

#define PAIR(what)                                                                          \
	static bool pair_##what(                                                            \
	    struct nft_##what **a, struct nft_##what **b, uint32_t *i, uint32_t *j)         \
	{                                                                                   \
		int c = *a == NULL ? 1                                                      \
		    : *b == NULL   ? -1                                                     \
		                   : order((*a)->table, (*a)->name, (*b)->table, (*b)->name); \
                                                                                            \
		*i += c <= 0;                                                               \
		*j += c >= 0;                                                               \
		if (c > 0)                                                                  \
			*a = NULL;                                                          \
		if (c < 0)                                                                  \
			*b = NULL;                                                          \
		return true;                                                                \
	}
PAIR(set)
PAIR(chain)
PAIR(object)

static bool
same_rules(const struct nft_chain *a, const struct nft_chain *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static bool
same_object(const struct nft_object *a, const struct nft_object *b)
{
	return a->timeout_of == b->timeout_of && a->family == b->family &&
	    memcmp(a->seconds, b->seconds, sizeof(a->seconds)) == 0;
}

/*
 * In the order in which the kernel can follow: what is named comes before who names it, and goes after.  A set or
 * chain whose definition changes has another name in our plans, but for base chains, which nobody names.
 */
static int
write_changes(struct nft_kernel *k, const struct nft_plan *from, const struct nft_plan *to,
    struct pk_diag *diag)
{
	PAIRS(from, to, set, a, b)
	if (a != NULL && b != NULL && !nft_set_same(a, b)) {
		pk_diag_set(diag, "set %s changes its kind", a->name);
		return -EINVAL;
	}
	PAIRS(from, to, chain, a, b)
	{
		if (a == NULL)
			continue;
		/* A base chain with another hook is another chain. */
		if (b != NULL && !nft_chain_same_hook(a, b)) {
			flush_rules(k, a);
			put_chain(k, a, false);
		} else if (a->nb_rules > 0 && (b == NULL || !same_rules(a, b))) {
			flush_rules(k, a);
		}
	}
	PAIRS(from, to, object, a, b)
	if (b != NULL && (a == NULL || !same_object(a, b))) {
		if (a != NULL)
			put_object(k, a, false);
		put_object(k, b, true);
	}
	PAIRS(from, to, chain, a, b)
	if (b != NULL && (a == NULL || !nft_chain_same_hook(a, b)))
		put_chain(k, b, true);
	PAIRS(from, to, set, a, b)
	{
		if (b != NULL && a == NULL)
			put_set(k, b, true);
		if (a != NULL)
			move_elements(k, a, b, false);
		if (b != NULL)
			move_elements(k, a, b, true);
	}
	PAIRS(from, to, chain, a, b)
	if (b != NULL && (a == NULL || !nft_chain_same_hook(a, b) || !same_rules(a, b)))
		put_rules(k, b);
	PAIRS(from, to, set, a, b)
	if (a != NULL && b == NULL)
		put_set(k, a, false);
	PAIRS(from, to, chain, a, b)
	if (a != NULL && b == NULL)
		put_chain(k, a, false);
	PAIRS(from, to, object, a, b)
	if (a != NULL && b == NULL)
		put_object(k, a, false);
	return 0;
}

int
nft_kernel_apply(struct nft_kernel *k, const struct nft_plan *from, const struct nft_plan *to,
    struct nft_kernel_cost *cost, struct pk_diag *diag)
{
	int rc;

	PK_ASSERT(to->sealed);
	begin(k);
	if (from == NULL) {
		for (unsigned int t = 0; t < NFT_TABLE_COUNT; t++) {
			/* So that there is something to delete: deleting what is not there is an error. */
			put_table(k, (enum nft_table)t, NFT_MSG_NEWTABLE);
			put_table(k, (enum nft_table)t, NFT_MSG_DELTABLE);
			put_table(k, (enum nft_table)t, NFT_MSG_NEWTABLE);
		}
		from = &nothing;
	}
	rc = write_changes(k, from, to, diag);
	if (rc == 0)
		rc = commit(k, diag);
	if (cost != NULL)
		*cost = k->cost;
	/* A first transaction may have been long, and the next are short. */
	if (k->room > 16 * MESSAGE_MAX) {
		free(k->batch);
		k->batch = NULL;
		k->room = 0;
	}
	return rc;
}

int
nft_kernel_remove(struct nft_kernel *k, struct pk_diag *diag)
{
	begin(k);
	for (unsigned int t = 0; t < NFT_TABLE_COUNT; t++) {
		put_table(k, (enum nft_table)t, NFT_MSG_NEWTABLE);
		put_table(k, (enum nft_table)t, NFT_MSG_DELTABLE);
	}
	return commit(k, diag);
}

/* ---- questions ---- */

/* Ask, and hand each answer to `each`.  Returns 0 or negative errno. */
static int
ask(struct nft_kernel *k, struct nlmsghdr *h, mnl_cb_t each, void *arg)
{
	char buffer[65536];
	uint32_t seq = h->nlmsg_seq;
	unsigned int port = mnl_socket_get_portid(k->reader);
	ssize_t n;
	int rc;

	if (mnl_socket_sendto(k->reader, h, h->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(k->reader, buffer, sizeof(buffer));
		if (n < 0)
			return -errno;
		rc = mnl_cb_run(buffer, (size_t)n, seq, port, each, arg);
	} while (rc > 0);
	return rc < 0 ? -errno : 0;
}

struct found {
	const struct nft_kernel *k;
	bool ours, same;
};

static int
look_at_table(const struct nlmsghdr *h, void *arg)
{
	struct nftnl_table *t = nftnl_table_alloc();
	struct found *f = arg;
	uint32_t len = 0;
	const void *data;

	if (t == NULL)
		return MNL_CB_ERROR;
	if (nftnl_table_nlmsg_parse(h, t) == 0) {
		data = nftnl_table_get_data(t, NFTNL_TABLE_USERDATA, &len);
		f->ours = data != NULL && len == sizeof(f->k->mark) &&
		    memcmp(data, OWNER_MARK, sizeof(OWNER_MARK) - 1) == 0;
		f->same = f->ours && memcmp(data, f->k->mark, len) == 0;
	}
	nftnl_table_free(t);
	return MNL_CB_OK; /* the acknowledgement follows */
}

int
nft_kernel_there(struct nft_kernel *k, struct pk_diag *diag)
{
	unsigned int nb = 0, same = 0;

	for (unsigned int t = 0; t < NFT_TABLE_COUNT; t++) {
		char buffer[1024] __attribute__((aligned(8)));
		struct nlmsghdr *h = nftnl_nlmsg_build_hdr(
		    buffer, NFT_MSG_GETTABLE, families[t], NLM_F_ACK, k->seq++);
		struct found found = { .k = k };
		int rc;

		mnl_attr_put_strz(h, NFTA_TABLE_NAME, k->table);
		rc = ask(k, h, look_at_table, &found);
		if (rc == -ENOENT)
			continue;
		if (rc < 0) {
			pk_diag_set(diag, "nftables cannot be read: %s", strerror(-rc));
			return rc;
		}
		if (!found.ours) {
			pk_diag_set(diag,
			    "there is a table %s %s that is not ours: want another name in option `table`",
			    t == NFT_TABLE_INET ? "inet" : "netdev", k->table);
			return -EEXIST;
		}
		nb++;
		same += found.same;
	}
	return nb == 0                ? NFT_KERNEL_NONE
	    : same == NFT_TABLE_COUNT ? NFT_KERNEL_SAME
	                              : NFT_KERNEL_OTHER;
}

struct counters {
	void (*each)(void *arg, const char *name, uint64_t packets, uint64_t bytes);
	void *arg;
};

static int
counter(const struct nlmsghdr *h, void *arg)
{
	struct counters *c = arg;
	struct nftnl_obj *o = nftnl_obj_alloc();

	if (o == NULL)
		return MNL_CB_ERROR;
	if (nftnl_obj_nlmsg_parse(h, o) == 0)
		c->each(c->arg, nftnl_obj_get_str(o, NFTNL_OBJ_NAME),
		    nftnl_obj_get_u64(o, NFTNL_OBJ_CTR_PKTS),
		    nftnl_obj_get_u64(o, NFTNL_OBJ_CTR_BYTES));
	nftnl_obj_free(o);
	return MNL_CB_OK;
}

int
nft_kernel_counters(struct nft_kernel *k, enum nft_table table,
    void (*each)(void *arg, const char *name, uint64_t packets, uint64_t bytes), void *arg)
{
	char buffer[1024] __attribute__((aligned(8)));
	struct nlmsghdr *h =
	    nftnl_nlmsg_build_hdr(buffer, NFT_MSG_GETOBJ, families[table], NLM_F_DUMP, k->seq++);
	struct counters c = { each, arg };

	mnl_attr_put_strz(h, NFTA_OBJ_TABLE, k->table);
	mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
	return ask(k, h, counter, &c);
}

/* ---- begin and end ---- */

/* Whether the kernel knows owners that stay: a table made, and undone by the end of its transaction. */
static bool
knows_owners(struct nft_kernel *k)
{
	const char *name = k->table;
	char probe[64];
	struct pk_diag diag;
	bool knows;

	snprintf(probe, sizeof(probe), "%s-probe-%d", name, (int)getpid());
	k->table = probe;
	k->flags = OWNER_AND_STAY;
	begin(k);
	put_table(k, NFT_TABLE_INET, NFT_MSG_NEWTABLE);
	put_table(k, NFT_TABLE_INET, NFT_MSG_DELTABLE);
	knows = commit(k, &diag) == 0;
	k->table = name;
	return knows;
}

int
nft_kernel_open(struct nft_kernel **out, const char *table, uint64_t wires, struct pk_diag *diag)
{
	struct nft_kernel *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -ENOMEM;
	k->table = table;
	snprintf(k->mark, sizeof(k->mark), OWNER_MARK "%016llx", (unsigned long long)wires);
	k->seq = (uint32_t)time(NULL);
	k->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	k->reader = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (k->socket == NULL || k->reader == NULL || mnl_socket_bind(k->socket, 0, 0) < 0 ||
	    mnl_socket_bind(k->reader, 0, 0) < 0) {
		int rc = -errno;

		pk_diag_set(diag, "no netlink socket for nftables: %s", strerror(-rc));
		nft_kernel_close(k);
		return rc;
	}
	k->flags = knows_owners(k) ? OWNER_AND_STAY : 0;
	*out = k;
	return 0;
}

void
nft_kernel_close(struct nft_kernel *k)
{
	if (k == NULL)
		return;
	if (k->socket != NULL)
		mnl_socket_close(k->socket);
	if (k->reader != NULL)
		mnl_socket_close(k->reader);
	free(k->batch);
	free(k);
}
