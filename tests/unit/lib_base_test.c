/* The small modules of lib/: wire cursor, messages, secrets, log limit. */
#include <errno.h>
#include <string.h>

#include "lib/counter.h"
#include "lib/log.h"
#include "lib/msg.h"
#include "lib/secret.h"
#include "lib/wire.h"
#include "tests/unit/test.h"

static void
test_wire(void **state)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	struct pk_wire w = pk_wire_from(bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(pk_wire_u8(&w), 1);
	assert_int_equal(pk_wire_be16(&w), 0x0203);
	assert_int_equal(pk_wire_be32(&w), 0x04050607);
	assert_int_equal(pk_wire_le32(&w), 0x0b0a0908);
	assert_true(pk_wire_ok(&w));
	assert_int_equal(pk_wire_left(&w), 4);
	/* One byte too few: fails, reads zero, and stays failed. */
	assert_int_equal(pk_wire_be64(&w), (uint64_t)0x0c0d0e0f << 32);
	assert_false(pk_wire_ok(&w));
	assert_int_equal(pk_wire_u8(&w), 0);
	assert_null(pk_wire_bytes(&w, 0));
}

static void
refuse(const struct pk_msg *m, const char *part)
{
	struct pk_diag diag;

	assert_int_equal(pk_msg_check(m, sizeof(*m), &diag), -EPROTO);
	if (strstr(diag.text, part) == NULL)
		fail_msg("\"%s\" does not speak of \"%s\"", diag.text, part);
}

/* Every field that could point out of an array, or mean nothing. */
static void
test_msg_check(void **state)
{
	struct pk_diag diag;
	struct pk_msg m;

	(void)state;
	pk_msg_init(&m, PK_MSG_HELLO, 0);
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), 0);
	assert_int_equal(pk_msg_check(&m, sizeof(m) - 1, &diag), -EPROTO);
	m.h.version++;
	refuse(&m, "version");
	pk_msg_init(&m, PK_MSG_HELLO, 0);
	memset(m.hello.instance, 'x', sizeof(m.hello.instance));
	refuse(&m, "ends inside");
	pk_msg_init(&m, PK_MSG_TYPE_COUNT, 0);
	refuse(&m, "known message type");
	pk_msg_init(&m, PK_MSG_NONE, 0);
	refuse(&m, "known message type");
	pk_msg_init(&m, PK_MSG_IDENTITY, 0);
	refuse(&m, "put or delete");
	m.identity.op = PK_OP_PUT;
	refuse(&m, "identity other than 0");
	pk_msg_init(&m, PK_MSG_ENDPOINT, 0);
	m.endpoint.op = PK_OP_PUT;
	refuse(&m, "family 4 or 6");
	m.endpoint.addr.family = 4;
	m.endpoint.addr.bytes[4] = 1;
	refuse(&m, "nothing behind");
	m.endpoint.addr.bytes[4] = 0;
	m.endpoint.addr.zero[1] = 1;
	refuse(&m, "zeros where nothing is said");
	pk_msg_init(&m, PK_MSG_SET_MEMBERS, 0);
	m.members.op = PK_OP_PUT;
	m.members.set = 1;
	m.members.kind = PK_SET_IDENTITY;
	m.members.count = PK_MSG_IDENTITIES + 1;
	refuse(&m, "at most 112");
	m.members.kind = PK_SET_PREFIX;
	m.members.count = PK_MSG_PREFIXES + 1;
	refuse(&m, "at most 19");
	m.members.count = 1;
	m.members.prefix[0].addr.family = 4;
	m.members.prefix[0].len = 33;
	refuse(&m, "within the address");
	m.members.prefix[0].len = 8;
	m.members.prefix[0].addr.bytes[3] = 1;
	refuse(&m, "beyond its length");
	pk_msg_init(&m, PK_MSG_RULE, 0);
	m.rule.program = 1;
	m.rule.verdict = PK_VERDICT_COUNT;
	refuse(&m, "known verdict");
	m.rule.verdict = 0;
	m.rule.flags = 0x80;
	refuse(&m, "known rule flags");
	m.rule.flags = 0;
	m.rule.match.nb_services = PK_MSG_SERVICES + 1;
	refuse(&m, "at most 12");
	m.rule.match.nb_services = 1;
	m.rule.match.service[0] = (struct pk_service){ .proto = 6, .low = 2, .high = 1 };
	refuse(&m, "backwards");
	m.rule.match.nb_services = 0;
	m.rule.match.nb_peers = 1;
	refuse(&m, "other than 0");
	m.rule.match.peer[0] = 1;
	m.rule.match.any_peer = 1;
	refuse(&m, "either a list");
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 1);
	m.begin.full = 1;
	m.begin.base = 3;
	refuse(&m, "base 0");
	pk_msg_init(&m, PK_MSG_PROGRAM, 1);
	m.program.op = PK_OP_PUT;
	m.program.program = 1;
	m.program.direction = PK_DIRECTION_COUNT;
	refuse(&m, "egress or ingress");
	pk_msg_init(&m, PK_MSG_POLICY_STATUS, 1);
	refuse(&m, "known stage");
}

static void
test_secret(void **state)
{
	struct pk_secret a = { 0 }, b = { 0 };

	(void)state;
	assert_int_equal(pk_secret_init(&a, "key", 0), -EINVAL);
	assert_int_equal(pk_secret_init(&a, "key", 3), 0);
	assert_int_equal(pk_secret_init(&b, "kez", 3), 0);
	assert_false(pk_secret_equal(&a, &b));
	b.bytes[2] = 'y';
	assert_true(pk_secret_equal(&a, &b));
	pk_secret_fini(&b);
	assert_int_equal(pk_secret_random(&b, 4), 0);
	assert_false(pk_secret_equal(&a, &b));
	pk_secret_fini(&a);
	pk_secret_fini(&a); /* twice is allowed */
	pk_secret_fini(&b);
}

static void
test_log_limit(void **state)
{
	struct pk_log_limit limit = PK_LOG_LIMIT(10, 3); /* 3 at once, then one each 100 ms */
	uint32_t suppressed = 99;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_true(pk_log_limit(&limit, PK_NS_PER_S, &suppressed));
		assert_int_equal(suppressed, 0);
	}
	assert_false(pk_log_limit(&limit, PK_NS_PER_S, &suppressed));
	assert_false(pk_log_limit(&limit, PK_NS_PER_S + 50 * PK_NS_PER_MS, &suppressed));
	assert_true(pk_log_limit(&limit, PK_NS_PER_S + 100 * PK_NS_PER_MS, &suppressed));
	assert_int_equal(suppressed, 2);
	assert_true(pk_log_limit(&limit, 3 * PK_NS_PER_S, &suppressed));
	assert_int_equal(suppressed, 0);
}

static void
test_counter(void **state)
{
	pk_counter c = 0;

	(void)state;
	pk_counter_add(&c, 3);
	pk_counter_add(&c, UINT32_MAX);
	assert_int_equal(pk_counter_read(&c), (uint64_t)UINT32_MAX + 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_msg_check),
		cmocka_unit_test(test_secret),
		cmocka_unit_test(test_log_limit),
		cmocka_unit_test(test_counter),
	};

	return cmocka_run_group_tests_name("lib/base", tests, NULL, NULL);
}
