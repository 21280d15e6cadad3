#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/grant.h"
#include "lib/helper.h"
#include "lib/hex.h"
#include "policy/agent/grants.h"
#include "tests/unit/test.h"

static const uint8_t secret[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const struct pk_grant three[] = {
	{ "mka", "link a, wire 0", "0 6162", secret, sizeof(secret) },
	{ "ike", "peer b", "remote 192.0.2.1", secret, 5 },
	{ "mka", "link a, wire 1", "1 6162", NULL, 0 },
};

struct seen {
	unsigned int nb;
	struct pk_grant at[8];
};

static void
see(void *arg, const struct pk_grant *g)
{
	struct seen *s = arg;

	assert_true(s->nb < PK_COUNT(s->at));
	s->at[s->nb++] = *g;
}

static void
equal(const struct pk_grant *a, const struct pk_grant *b)
{
	assert_string_equal(a->program, b->program);
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->settings, b->settings);
	assert_int_equal(a->secret_len, b->secret_len);
	if (a->secret_len != 0)
		assert_memory_equal(a->secret, b->secret, a->secret_len);
}

static void
test_round_trip(void **state)
{
	struct pk_secret p;
	struct seen s = { 0 };
	struct pk_diag diag;

	(void)state;
	assert_int_equal(pk_grants_pack(&p, three, PK_COUNT(three)), 0);
	assert_int_equal(pk_grants_parse(p.bytes, p.len, see, &s, &diag), 0);
	assert_int_equal(s.nb, PK_COUNT(three));
	for (unsigned int i = 0; i < s.nb; i++)
		equal(&s.at[i], &three[i]);
	pk_secret_fini(&p);
	s.nb = 0;
	assert_int_equal(pk_grants_pack(&p, NULL, 0), 0);
	assert_int_equal(pk_grants_parse(p.bytes, p.len, see, &s, &diag), 0);
	assert_int_equal(s.nb, 0);
	pk_secret_fini(&p);
}

/* Cut anywhere, with a byte more, or with any one byte changed: refused whole, or read without harm. */
static void
test_damage(void **state)
{
	struct pk_secret p;
	struct pk_diag diag;
	uint8_t *copy;

	(void)state;
	assert_int_equal(pk_grants_pack(&p, three, PK_COUNT(three)), 0);
	for (size_t len = 0; len < p.len; len++) {
		struct seen s = { 0 };

		copy = malloc(len + 1); /* so that a read behind the end is seen */
		memcpy(copy, p.bytes, len);
		assert_int_equal(pk_grants_parse(copy, len, see, &s, &diag), -EPROTO);
		assert_int_equal(s.nb, 0);
		free(copy);
	}
	copy = malloc(p.len + 1);
	memcpy(copy, p.bytes, p.len);
	copy[p.len] = 0;
	assert_int_equal(pk_grants_parse(copy, p.len + 1, NULL, NULL, &diag), -EPROTO);
	for (size_t i = 0; i < p.len; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			struct seen s = { 0 };

			copy[i] ^= (uint8_t)(1 << bit);
			(void)pk_grants_parse(copy, p.len, see, &s, &diag);
			copy[i] ^= (uint8_t)(1 << bit);
		}
	}
	free(copy);
	pk_secret_fini(&p);
}

static void
test_too_long(void **state)
{
	struct pk_secret p;
	uint8_t long_secret[PK_GRANT_SECRET_MAX + 1] = { 1 };
	struct pk_grant g = { "mka", "x", "", long_secret, sizeof(long_secret) };

	(void)state;
	assert_int_equal(pk_grants_pack(&p, &g, 1), -E2BIG);
	g.secret_len--;
	assert_int_equal(pk_grants_pack(&p, &g, 1), 0);
	pk_secret_fini(&p);
	g.program = "a-program-too-long";
	assert_int_equal(pk_grants_pack(&p, &g, 1), -E2BIG);
}

static void
test_unhex(void **state)
{
	uint8_t out[4];

	(void)state;
	assert_int_equal(pk_unhex("00fFaA9", 7, out, 4), -1);
	assert_int_equal(pk_unhex("", 0, out, 4), -1);
	assert_int_equal(pk_unhex("0g", 2, out, 4), -1);
	assert_int_equal(pk_unhex("0x", 2, out, 4), -1);
	assert_int_equal(pk_unhex("\xe1\xe1", 2, out, 4), -1);
	assert_int_equal(pk_unhex("0011223344", 10, out, 4), -1);
	assert_int_equal(pk_unhex("00fFaA9b", 8, out, 4), 4);
	assert_memory_equal(out, "\x00\xff\xaa\x9b", 4);
}

/* ---- from the server by the agent to a program ---- */

struct world {
	char dir[64], path[128], file[128];
	struct event_base *base;
	struct pk_helper *helper;
	struct agent_grants *agent;
	struct pk_grant_source *source;
	unsigned int nb_taken; /* sets */
	struct seen seen;
	char texts[512];
	uint8_t secrets[512];
};

/* What is borrowed is gone after the call, so it is copied. */
static void
take(void *arg, const struct pk_grant *g, size_t nb)
{
	struct world *w = arg;
	size_t at = 0, at_secret = 0;

	w->nb_taken++;
	w->seen.nb = 0;
	for (size_t i = 0; i < nb; i++) {
		struct pk_grant *o = &w->seen.at[w->seen.nb++];

		*o = g[i];
#define KEEP(member)                                    \
	o->member = strcpy(w->texts + at, g[i].member); \
	at += strlen(g[i].member) + 1
		KEEP(program);
		KEEP(name);
		KEEP(settings);
		if (g[i].secret_len != 0)
			o->secret = memcpy(w->secrets + at_secret, g[i].secret, g[i].secret_len);
		at_secret += g[i].secret_len;
	}
}

static void
start_agent(struct world *w, const char *dpu)
{
	struct pk_diag diag;

	assert_int_equal(pk_helper_create(&w->helper, w->base, "helper", &diag), 0);
	assert_int_equal(
	    agent_grants_create(&w->agent, w->base, w->path, w->file, dpu, w->helper, &diag), 0);
}

static void
stop_agent(struct world *w)
{
	pk_helper_destroy(w->helper); /* what is to be saved is */
	agent_grants_destroy(w->agent);
	w->agent = NULL;
}

/* In parts of seven bytes, as if it were long. */
static void
send_set(struct world *w, const struct pk_grant *g, size_t nb)
{
	struct pk_secret p;

	assert_int_equal(pk_grants_pack(&p, g, nb), 0);
	for (size_t at = 0; at < p.len; at += 7) {
		Picket__V1__Grants m = PICKET__V1__GRANTS__INIT;

		m.offset = at;
		m.size = p.len;
		m.set.data = p.bytes + at;
		m.set.len = PK_MIN(p.len - at, (size_t)7);
		agent_grants_part(w->agent, &m);
	}
	pk_secret_fini(&p);
}

static void
run_until(struct world *w, unsigned int nb_taken)
{
	uint64_t end = pk_clock_mono_ns() + 5 * PK_NS_PER_S;

	while (w->nb_taken < nb_taken && pk_clock_mono_ns() < end)
		event_base_loop(w->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	assert_int_equal(w->nb_taken, nb_taken);
}

static void
run_a_while(struct world *w)
{
	for (unsigned int i = 0; i < 300; i++) {
		event_base_loop(w->base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

static void
test_distribution(void **state)
{
	struct world w = { .dir = "/tmp/picket-grant-XXXXXX" };
	const struct pk_grant mine[] = { three[0], three[2] };

	(void)state;
	assert_non_null(mkdtemp(w.dir));
	snprintf(w.path, sizeof(w.path), "%s/grants.sock", w.dir);
	snprintf(w.file, sizeof(w.file), "%s/grants", w.dir);
	w.base = event_base_new();
	assert_int_equal(pk_grant_source_create(&w.source, w.base, w.path, "mka", take, &w), 0);
	start_agent(&w, "dpu1");
	run_a_while(&w);
	assert_true(pk_grant_source_connected(w.source));
	assert_int_equal(w.nb_taken, 0); /* nothing is known: nothing is said */
	send_set(&w, three, PK_COUNT(three));
	run_until(&w, 1);
	assert_int_equal(w.seen.nb, 2);
	equal(&w.seen.at[0], &mine[0]);
	equal(&w.seen.at[1], &mine[1]);
	send_set(&w, three, PK_COUNT(three)); /* no news */
	run_a_while(&w);
	assert_int_equal(w.nb_taken, 1);

	/* The agent comes back with what is on its disk. */
	stop_agent(&w);
	start_agent(&w, "dpu1");
	run_until(&w, 2);
	assert_int_equal(w.seen.nb, 2);
	equal(&w.seen.at[0], &mine[0]);

	/* A part that is missing: what there is stays. */
	{
		Picket__V1__Grants m = PICKET__V1__GRANTS__INIT;
		uint8_t byte = 0;

		m.offset = 5;
		m.size = 10;
		m.set.data = &byte;
		m.set.len = 1;
		agent_grants_part(w.agent, &m);
		m.offset = 0;
		m.size = PK_GRANTS_MAX + 1;
		agent_grants_part(w.agent, &m);
	}
	run_a_while(&w);
	assert_int_equal(w.nb_taken, 2);

	/* None any more is something to be told. */
	send_set(&w, &three[1], 1);
	run_until(&w, 3);
	assert_int_equal(w.seen.nb, 0);

	/* What another DPU was given is nobody's here. */
	stop_agent(&w);
	start_agent(&w, "dpu2");
	run_a_while(&w);
	assert_int_equal(w.nb_taken, 3);
	stop_agent(&w);
	pk_grant_source_destroy(w.source);
	event_base_free(w.base);
	unlink(w.file);
	rmdir(w.dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_unhex),
		cmocka_unit_test(test_distribution),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
