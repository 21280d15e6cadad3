#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/agent/state.h"
#include "policy/proto/picket.pb-c.h"
#include "tests/unit/test.h"

static char dir[64], path[96];

static int
setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/state_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/policy.state", dir);
	return 0;
}

static int
teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static struct policy_state *
some_state(void)
{
	static const uint32_t ids[] = { 3, 5, 900 };
	static const struct pk_service service = { .proto = 6, .low = 80, .high = 443 };
	static const uint64_t peer = 17;
	const struct policy_identity identity = { .id = 5,
		.tenant = 1,
		.tenant_name = "shop",
		.labels = "app=web",
		.program = { 21, 0 } };
	const struct policy_endpoint endpoint = { .name = "shop/web",
		.dpu = "dpu1",
		.identity = 5,
		.addr = { .family = 4, .bytes = { 192, 0, 2, 1 } } };
	const struct policy_set set = {
		.id = 17, .kind = PK_SET_IDENTITY, .nb_members = 3, .name = "web", .identities = ids
	};
	const struct policy_rule rule = { .id = 1,
		.verdict = PK_VERDICT_ALLOW,
		.nb_peers = 1,
		.nb_services = 1,
		.peers = &peer,
		.services = &service,
		.policy = "p",
		.name = "r",
		.file = "f.yaml",
		.line = 3 };
	const struct policy_program program = {
		.id = 21, .direction = PK_EGRESS, .nb_rules = 1, .rules = &rule
	};
	struct policy_resource *r[] = { policy_resource_of_identity(&identity, 1),
		policy_resource_of_endpoint(&endpoint), policy_resource_of_set(&set),
		policy_resource_of_program(&program) };
	struct policy_state *s = policy_state_create();

	assert_non_null(s);
	for (size_t i = 0; i < PK_COUNT(r); i++) {
		assert_non_null(r[i]);
		assert_int_equal(policy_state_put(s, r[i]), 0);
		policy_resource_put(r[i]);
	}
	return s;
}

static void
save_some(void)
{
	struct agent_saved s = {
		.generation = 42, .epoch = 7, .dpu = "dpu1", .state = some_state()
	};
	struct pk_diag diag = { "" };

	assert_int_equal(agent_state_save(path, &s, &diag), 0);
	policy_state_destroy(s.state);
}

static void
test_round_trip(void **state)
{
	struct policy_state *want = some_state();
	struct agent_saved s;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(agent_state_load(path, &s, &diag), -ENOENT);
	save_some();
	assert_int_equal(agent_state_load(path, &s, &diag), 0);
	assert_int_equal(s.generation, 42);
	assert_int_equal(s.epoch, 7);
	assert_string_equal(s.dpu, "dpu1");
	assert_int_equal(policy_state_count(s.state), 4);
	assert_true(policy_state_hash(s.state) == policy_state_hash(want));
	policy_state_destroy(s.state);
	policy_state_destroy(want);
}

/* Every byte altered, and every length: never believed, never a crash. */
static void
test_damage(void **state)
{
	struct agent_saved s;
	struct pk_diag diag;
	uint8_t bytes[4096];
	size_t len;
	FILE *f;

	(void)state;
	save_some();
	f = fopen(path, "r");
	assert_non_null(f);
	len = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	assert_in_range(len, 100, sizeof(bytes) - 1);
	for (size_t i = 0; i < 2 * len; i++) {
		size_t cut = i < len ? len : i - len;

		if (i < len)
			bytes[i] ^= 0x10;
		f = fopen(path, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(bytes, 1, cut, f), cut);
		fclose(f);
		assert_int_equal(agent_state_load(path, &s, &diag), -EBADMSG);
		assert_non_null(strstr(diag.text, "is damaged"));
		if (i < len)
			bytes[i] ^= 0x10;
	}
}

static void
test_save_fails(void **state)
{
	struct agent_saved s = { .generation = 1, .state = some_state() };
	struct pk_diag diag = { "" };

	(void)state;
	assert_int_equal(agent_state_save("/nonexistent/policy.state", &s, &diag), -ENOENT);
	assert_non_null(strstr(diag.text, "could not be saved"));
	policy_state_destroy(s.state);
}

static struct policy_resource *
set_of(const uint32_t *ids, uint32_t n)
{
	const struct policy_set set = { .id = 17,
		.kind = PK_SET_IDENTITY,
		.nb_members = n,
		.name = "a set with a name long enough to make the whole cost more than its change",
		.identities = ids };

	return policy_resource_of_set(&set);
}

static void
test_set_delta(void **state)
{
	uint32_t a[] = { 1, 2, 3, 1000, 2000 }, b[] = { 2, 3, 999, 1000, 2000 };
	struct policy_resource *from = set_of(a, 5), *to = set_of(b, 5), *got;
	Picket__V1__SetDelta *delta;
	struct pk_diag diag;
	uint8_t *bytes;
	size_t len;

	(void)state;
	assert_int_equal(policy_resource_diff(from, to, &bytes, &len), 0);
	assert_true(len < to->len);
	delta = picket__v1__set_delta__unpack(NULL, len, bytes);
	assert_non_null(delta);
	assert_int_equal(policy_resource_patch(&got, from, delta, &diag), 0);
	assert_true(got->version == to->version);
	policy_resource_put(got);
	/* Based on something else, or leading somewhere else: refused. */
	assert_int_equal(policy_resource_patch(&got, to, delta, &diag), -EINVAL);
	assert_int_equal(policy_resource_patch(&got, NULL, delta, &diag), -EINVAL);
	delta->version++;
	assert_int_equal(policy_resource_patch(&got, from, delta, &diag), -EINVAL);
	picket__v1__set_delta__free_unpacked(delta, NULL);
	free(bytes);
	policy_resource_put(from);
	policy_resource_put(to);
}

static void
test_resource_checks(void **state)
{
	uint32_t backwards[] = { 5, 4 };
	struct policy_resource *bad = set_of(backwards, 2), *good, *out;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(policy_resource_create(
	                     &out, bad->type, bad->key, bad->key_len, bad->body, bad->len, &diag),
	    -EINVAL);
	assert_string_equal(diag.text, "set: want identities in ascending order");
	good = set_of(backwards, 1);
	assert_int_equal(policy_resource_create(&out, good->type, (const uint8_t *)"12345678", 8,
	                     good->body, good->len, &diag),
	    -EINVAL);
	assert_string_equal(diag.text, "set: want the key of its body");
	assert_int_equal(
	    policy_resource_create(&out, 9, good->key, 8, good->body, good->len, &diag), -EINVAL);
	for (size_t len = 1; len < good->len; len++)
		if (policy_resource_create(
		        &out, good->type, good->key, 8, good->body, len, &diag) == 0)
			policy_resource_put(
			    out); /* a shorter one may be whole; it must not crash */
	policy_resource_put(good);
	policy_resource_put(bad);
}

/* Put and remove at random against the plainest model: an array. */
static void
test_state_map(void **state)
{
	enum {
		N = 500
	};
	struct policy_state *s = policy_state_create();
	struct policy_resource *have[N] = { NULL };
	uint64_t hash = 0, seed = 1;
	size_t count = 0;

	(void)state;
	for (unsigned int step = 0; step < 20000; step++) {
		struct policy_identity o = { .tenant_name = "t", .labels = "" };
		unsigned int i;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		i = (unsigned int)(seed >> 33) % N;
		o.id = i + 1;
		o.tenant = (uint32_t)(seed >> 20);
		if (have[i] != NULL) {
			hash -= have[i]->version;
			count--;
		}
		if ((seed >> 60) % 2 != 0) {
			int err = have[i] != NULL ? 0 : -ENOENT;
			uint8_t key[4] = { 0, 0, (uint8_t)(o.id >> 8), (uint8_t)o.id };

			assert_int_equal(
			    policy_state_remove(s, POLICY_RESOURCE_IDENTITY, key, 4), err);
			policy_resource_put(have[i]);
			have[i] = NULL;
		} else {
			policy_resource_put(have[i]);
			have[i] = policy_resource_of_identity(&o, 0);
			assert_int_equal(policy_state_put(s, have[i]), 0);
			hash += have[i]->version;
			count++;
		}
		assert_int_equal(policy_state_count(s), count);
		assert_true(policy_state_hash(s) == hash);
	}
	for (unsigned int i = 0; i < N; i++) {
		if (have[i] != NULL)
			assert_ptr_equal(policy_state_like(s, have[i]), have[i]);
		policy_resource_put(have[i]);
	}
	policy_state_destroy(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
		cmocka_unit_test(test_save_fails),
		cmocka_unit_test(test_set_delta),
		cmocka_unit_test(test_resource_checks),
		cmocka_unit_test(test_state_map),
	};

	return cmocka_run_group_tests_name("agent/state", tests, NULL, NULL);
}
