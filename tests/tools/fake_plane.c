/*
 * A data plane that enforces nothing and remembers everything, for tests of distribution.
 *
 *   fake_plane SOCKET [DUMP [LOG]]
 *
 * It keeps what transactions give it as picketd would, checks references at commit, and answers
 * accepted and realised.  After each commit it writes all objects, sorted, one to a line, to DUMP
 * (beside it first, then renamed), led by the generation.  While the file DUMP.reject exists it
 * rejects; while DUMP.hold exists it accepts and does not realise.  DUMP.counts, two numbers, is what it says
 * policy has refused and revoked.  LOG gets one line per transaction:
 * generation, full or changes, number of messages, outcome.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/msg.h"

struct object {
	char key[96];
	char *text;
};

struct objects {
	struct object *item;
	size_t nb, room;
};

static struct objects in_force, staged;
static uint64_t generation, epoch, target;
static uint32_t nb_messages;
static bool open_transaction, full;
static const char *dump_path, *log_path;
static int fd = -1;

static size_t
place(const struct objects *o, const char *key, bool *found)
{
	size_t lo = 0, hi = o->nb;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(o->item[mid].key, key);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void
put(struct objects *o, const char *key, const char *text)
{
	bool found;
	size_t i = place(o, key, &found);

	if (found) {
		free(o->item[i].text);
		o->item[i].text = strdup(text);
		return;
	}
	if (o->nb == o->room) {
		o->room = o->room != 0 ? o->room * 2 : 256;
		o->item = realloc(o->item, o->room * sizeof(o->item[0]));
		PK_ASSERT(o->item != NULL);
	}
	memmove(o->item + i + 1, o->item + i, (o->nb - i) * sizeof(o->item[0]));
	snprintf(o->item[i].key, sizeof(o->item[i].key), "%s", key);
	o->item[i].text = strdup(text);
	o->nb++;
}

/* Everything whose key begins so.  Returns how many. */
static size_t
drop(struct objects *o, const char *prefix)
{
	size_t kept = 0, n = o->nb, len = strlen(prefix);

	for (size_t i = 0; i < n; i++) {
		if (strncmp(o->item[i].key, prefix, len) == 0)
			free(o->item[i].text);
		else
			o->item[kept++] = o->item[i];
	}
	o->nb = kept;
	return n - kept;
}

static size_t
drop_one(struct objects *o, const char *key)
{
	bool found;
	size_t i = place(o, key, &found);

	if (!found)
		return 0;
	free(o->item[i].text);
	o->nb--;
	memmove(o->item + i, o->item + i + 1, (o->nb - i) * sizeof(o->item[0]));
	return 1;
}

static bool
has(const struct objects *o, const char *key)
{
	bool found;

	(void)place(o, key, &found);
	return found;
}

static void
clear(struct objects *o)
{
	for (size_t i = 0; i < o->nb; i++)
		free(o->item[i].text);
	free(o->item);
	memset(o, 0, sizeof(*o));
}

static void
copy(struct objects *to, const struct objects *from)
{
	clear(to);
	for (size_t i = 0; i < from->nb; i++)
		put(to, from->item[i].key, from->item[i].text);
}

static bool
flag(const char *suffix)
{
	char path[512];

	if (dump_path == NULL)
		return false;
	snprintf(path, sizeof(path), "%s.%s", dump_path, suffix);
	return access(path, F_OK) == 0;
}

static void
dump(void)
{
	char made[512];
	FILE *f;

	if (dump_path == NULL)
		return;
	snprintf(made, sizeof(made), "%s.new", dump_path);
	f = fopen(made, "w");
	PK_ASSERT(f != NULL);
	fprintf(f, "generation %" PRIu64 "\n", generation);
	for (size_t i = 0; i < in_force.nb; i++)
		fprintf(f, "%s %s\n", in_force.item[i].key, in_force.item[i].text);
	fclose(f);
	PK_ASSERT(rename(made, dump_path) == 0);
}

static void
note(const char *outcome)
{
	FILE *f = log_path != NULL ? fopen(log_path, "a") : NULL;

	if (f == NULL)
		return;
	fprintf(
	    f, "%" PRIu64 " %s %u %s\n", target, full ? "full" : "changes", nb_messages, outcome);
	fclose(f);
}

static void
say(struct pk_msg *m)
{
	if (fd >= 0 && send(fd, m, sizeof(*m), MSG_NOSIGNAL) != (ssize_t)sizeof(*m))
		fprintf(stderr, "fake_plane: %s\n", strerror(errno));
}

static void
say_status(enum pk_stage stage, int error, const char *text)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_STATUS, target);
	m.status.stage = (uint8_t)stage;
	m.status.error = error;
	m.status.at_mono_ns = pk_clock_mono_ns();
	snprintf(m.status.text, sizeof(m.status.text), "%s", text);
	say(&m);
}

static void
say_counts(bool again)
{
	static struct pk_msg_policy_counts said;
	struct pk_msg m;
	char path[512];
	FILE *f;

	pk_msg_init(&m, PK_MSG_POLICY_COUNTS, generation);
	snprintf(path, sizeof(path), "%s.counts", dump_path != NULL ? dump_path : "");
	f = fopen(path, "r");
	if (f != NULL) {
		if (fscanf(f, "%" SCNu64 " %" SCNu64, &m.counts.refused, &m.counts.revoked) != 2)
			m.counts = said;
		fclose(f);
	}
	if (again || memcmp(&said, &m.counts, sizeof(said)) != 0)
		say(&m);
	said = m.counts;
}

static void
refuse(const char *text)
{
	if (open_transaction) {
		open_transaction = false;
		note("rejected");
		say_status(PK_STAGE_REJECTED, -EINVAL, text);
	}
}

/* What names something names something that is there. */
static const char *
check(const struct objects *o)
{
	for (size_t i = 0; i < o->nb; i++) {
		const struct object *x = &o->item[i];
		char name[256], text[4096];
		char *word, *save;

		snprintf(text, sizeof(text), "%s", x->text);
		for (word = strtok_r(text, " ", &save); word != NULL;
		     word = strtok_r(NULL, " ", &save)) {
			if (strncmp(word, "peer=", 5) == 0)
				snprintf(name, sizeof(name), "set %s", word + 5);
			else if (strncmp(word, "program=", 8) == 0 && strcmp(word + 8, "0") != 0)
				snprintf(name, sizeof(name), "program %s", word + 8);
			else if (strncmp(word, "identity=", 9) == 0 && strcmp(word + 9, "0") != 0)
				snprintf(name, sizeof(name), "identity %s", word + 9);
			else
				continue;
			if (!has(o, name)) {
				fprintf(stderr, "fake_plane: %s names %s, which is not there\n",
				    x->key, name);
				return "something names what is not there";
			}
		}
	}
	return NULL;
}

static void
match_text(const struct pk_msg_rule_match *m, char *text, size_t size)
{
	int n = (int)strlen(text);

	for (unsigned int i = 0; i < m->nb_peers && n < (int)size; i++)
		n += snprintf(text + n, size - (size_t)n, " peer=%016" PRIx64, m->peer[i]);
	for (unsigned int i = 0; i < m->nb_services && n < (int)size; i++)
		n += snprintf(text + n, size - (size_t)n, " service=%u:%u-%u", m->service[i].proto,
		    m->service[i].low, m->service[i].high);
}

static void
take(const struct pk_msg *m)
{
	char key[96], text[4096], addr[PK_PREFIX_TEXT];
	bool put_it = m->raw[0] == PK_OP_PUT; /* each body begins with its operation */
	size_t dropped;

	switch (m->h.type) {
	case PK_MSG_IDENTITY:
		snprintf(key, sizeof(key), "identity %u", m->identity.identity);
		snprintf(text, sizeof(text), "%s{%s} program=%" PRIx64 " program=%" PRIx64,
		    m->identity.tenant_name, m->identity.labels, m->identity.program[0],
		    m->identity.program[1]);
		break;
	case PK_MSG_ENDPOINT:
		snprintf(key, sizeof(key), "endpoint %u %s", m->endpoint.vrf,
		    pk_addr_text(&m->endpoint.addr, addr));
		snprintf(text, sizeof(text), "%s local=%u wire=%u identity=%u", m->endpoint.name,
		    m->endpoint.local, m->endpoint.wire, m->endpoint.identity);
		break;
	case PK_MSG_SET:
		snprintf(key, sizeof(key), "set %016" PRIx64, m->set.set);
		snprintf(text, sizeof(text), "kind=%u", m->set.kind);
		if (!put_it) {
			char members[96];

			snprintf(members, sizeof(members), "member %016" PRIx64 " ", m->set.set);
			drop(&staged, members);
		}
		break;
	case PK_MSG_SET_MEMBERS:
		for (unsigned int i = 0; i < m->members.count; i++) {
			if (m->members.kind == PK_SET_IDENTITY) {
				snprintf(key, sizeof(key), "member %016" PRIx64 " %u.",
				    m->members.set, m->members.identity[i]);
				snprintf(text, sizeof(text), "identity=%u", m->members.identity[i]);
			} else {
				snprintf(key, sizeof(key), "member %016" PRIx64 " %s.",
				    m->members.set, pk_prefix_text(&m->members.prefix[i], addr));
				snprintf(text, sizeof(text), "prefix");
			}
			if (m->members.op == PK_OP_PUT)
				put(&staged, key, text);
			else if (drop_one(&staged, key) != 1)
				refuse("a member to be removed is not there");
		}
		return;
	case PK_MSG_PROGRAM:
		snprintf(key, sizeof(key), "rule %" PRIx64 " ", m->program.program);
		drop(&staged, key);
		snprintf(key, sizeof(key), "program %" PRIx64, m->program.program);
		snprintf(text, sizeof(text), "direction=%u rules=%u", m->program.direction,
		    m->program.nb_rules);
		break;
	case PK_MSG_RULE:
		snprintf(key, sizeof(key), "rule %" PRIx64 " %06u", m->rule.program, m->rule.index);
		snprintf(text, sizeof(text), "%s/%s %s:%u tier=%u %s", m->rule.policy, m->rule.name,
		    m->rule.file, m->rule.line, m->rule.tier, pk_verdict_name(m->rule.verdict));
		match_text(&m->rule.match, text, sizeof(text));
		put(&staged, key, text);
		return;
	case PK_MSG_RULE_MORE: {
		bool found;
		size_t i;

		snprintf(key, sizeof(key), "rule %" PRIx64 " %06u", m->more.program, m->more.index);
		i = place(&staged, key, &found);
		if (!found) {
			refuse("more of a rule that is not there");
			return;
		}
		snprintf(text, sizeof(text), "%s", staged.item[i].text);
		match_text(&m->more.match, text, sizeof(text));
		put(&staged, key, text);
		return;
	}
	default:
		refuse("a message that has no place here");
		return;
	}
	if (put_it) {
		put(&staged, key, text);
		return;
	}
	dropped = drop_one(&staged, key);
	if (dropped == 0) {
		fprintf(stderr, "fake_plane: delete of %s, which is not there\n", key);
		refuse("what is to be deleted is not there");
	}
}

static void
commit(const struct pk_msg *m)
{
	const char *why = check(&staged);

	if (m->commit.nb_messages != nb_messages)
		why = "a message was lost";
	if (flag("reject"))
		why = "told to reject";
	if (why != NULL) {
		refuse(why);
		return;
	}
	open_transaction = false;
	say_status(PK_STAGE_ACCEPTED, 0, "");
	while (flag("hold"))
		usleep(1000);
	copy(&in_force, &staged);
	generation = target;
	dump();
	note("realised");
	say_status(PK_STAGE_REALISED, 0, "");
}

static void
hear(const struct pk_msg *m)
{
	struct pk_msg hello;

	switch (m->h.type) {
	case PK_MSG_HELLO:
		pk_msg_init(&hello, PK_MSG_HELLO, 0);
		snprintf(hello.hello.program, sizeof(hello.hello.program), "fake_plane");
		hello.hello.in_force = generation;
		hello.hello.epoch = epoch;
		hello.hello.pid = (uint32_t)getpid();
		say(&hello);
		say_counts(true);
		return;
	case PK_MSG_POLICY_BEGIN:
		target = m->h.generation;
		full = m->begin.full != 0;
		open_transaction = true;
		nb_messages = 0;
		if (full)
			clear(&staged);
		else
			copy(&staged, &in_force);
		if (!full && m->begin.base != generation)
			refuse("changes of another generation");
		return;
	case PK_MSG_POLICY_COMMIT:
		if (open_transaction)
			commit(m);
		return;
	default:
		nb_messages++;
		if (open_transaction)
			take(m);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener;

	if (argc < 2 || argc > 4 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "usage: fake_plane SOCKET [DUMP [LOG]]\n");
		return 2;
	}
	dump_path = argc > 2 ? argv[2] : NULL;
	log_path = argc > 3 ? argv[3] : NULL;
	signal(SIGPIPE, SIG_IGN);
	PK_ASSERT(getrandom(&epoch, sizeof(epoch), 0) == (ssize_t)sizeof(epoch));
	strcpy(addr.sun_path, argv[1]);
	unlink(argv[1]);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    listen(listener, 4) != 0) {
		fprintf(stderr, "fake_plane: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (;;) {
		struct pollfd p[2] = { { .fd = listener, .events = POLLIN },
			{ .fd = fd, .events = POLLIN } };

		if (poll(p, 2, 100) < 0)
			continue;
		if (fd >= 0)
			say_counts(false);
		if (p[0].revents != 0) {
			if (fd >= 0)
				close(fd);
			open_transaction = false;
			fd = accept(listener, NULL, NULL);
			continue;
		}
		if (p[1].revents != 0) {
			struct pk_diag diag;
			struct pk_msg m;
			ssize_t n = recv(fd, &m, sizeof(m), MSG_TRUNC);

			if (n <= 0 || pk_msg_check(&m, (size_t)n, &diag) != 0) {
				if (n > 0)
					fprintf(stderr, "fake_plane: %s\n", diag.text);
				close(fd);
				fd = -1;
				open_transaction = false;
				continue;
			}
			hear(&m);
		}
	}
}
