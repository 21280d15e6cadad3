#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/conf.h"
#include "tests/unit/test.h"

struct values {
	bool loose;
	uint64_t sessions, memory, idle;
	char *name;
	int mode;
	struct pk_conf_list wires;
};

static const char *const modes[] = { "enforce", "audit", NULL };

/* clang-format off */
static const struct pk_conf_option options[] = {
	{ "tcp-loose", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false, "Help.", offsetof(struct values, loose) },
	{ "sessions", PK_CONF_NUMBER, "sessions", "1000", 10, 100000, NULL, false, "Help.", offsetof(struct values, sessions) },
	{ "memory", PK_CONF_SIZE, NULL, "64m", 0, 0, NULL, false, "Help.", offsetof(struct values, memory) },
	{ "idle", PK_CONF_DURATION, NULL, "200us", 0, PK_NS_PER_S, NULL, true, "Help.", offsetof(struct values, idle) },
	{ "name", PK_CONF_STRING, NULL, "dpu", 0, 0, NULL, false, "Help.", offsetof(struct values, name) },
	{ "mode", PK_CONF_WORD, NULL, "enforce", 0, 0, modes, false, "Help.", offsetof(struct values, mode) },
	{ "wire", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false, "Help.", offsetof(struct values, wires) },
};
/* clang-format on */

#define N PK_COUNT(options)

static char path[] = "/tmp/picket-conf-XXXXXX";

static int
load(struct values *v, const char *text, struct pk_diag *diag)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return pk_conf_load(options, N, v, path, diag);
}

static void
test_values(void **state)
{
	struct values v;
	struct pk_diag diag;

	(void)state;
	pk_conf_init(options, N, &v);
	assert_int_equal(v.sessions, 1000);
	assert_int_equal(v.memory, 64 << 20);
	assert_int_equal(v.idle, 200000);
	assert_string_equal(v.name, "dpu");
	assert_int_equal(
	    load(&v,
	        "# comment\n tcp-loose = yes # why\nsessions=20\nidle = 1ms\nmode = audit\n"
	        "wire = a b\nwire = c d\n\nname = x y\n",
	        &diag),
	    0);
	assert_true(v.loose);
	assert_int_equal(v.sessions, 20);
	assert_int_equal(v.idle, 1000000);
	assert_int_equal(v.mode, 1);
	assert_int_equal(v.wires.nb, 2);
	assert_string_equal(v.wires.item[1], "c d");
	assert_string_equal(v.name, "x y");
	/* What a file does not name is at its default again. */
	assert_int_equal(load(&v, "", &diag), 0);
	assert_int_equal(v.sessions, 1000);
	assert_int_equal(v.wires.nb, 0);
	pk_conf_fini(options, N, &v);
}

static void
test_one_sentence(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "sesions = 5\n",
		    ":1:1: there is no option \"sesions\"; did you mean \"sessions\"?" },
		{ "\nsessions = 5\n", ":2:12: sessions = 5: want 10 to 100000" },
		{ "sessions = many\n", ":1:12: sessions = many: want a number" },
		{ "idle = 5\n",
		    ":1:8: idle = 5: want a time with its unit, such as 250ms, 30s or 2h" },
		{ "idle = 2s\n", ":1:8: idle = 2s: want 0 to 1s" },
		{ "memory = 5x\n", ":1:10: memory = 5x: want a size such as 64k, 16m or 2g" },
		{ "tcp-loose = maybe\n", ":1:13: tcp-loose = maybe: want yes or no" },
		{ "mode = adit\n", ":1:8: mode = adit: no such word; did you mean \"audit\"?" },
		{ "name\n", ":1:1: \"name\" is not a line of the form name = value" },
		{ "name = a\nname = b\n", ":2:1: name is set a second time; once is enough" },
		{ "memory = 99999999999999g\n",
		    ":1:10: memory = 99999999999999g: want a size such as 64k, 16m or 2g" },
	};
	struct values v;
	struct pk_diag diag;

	(void)state;
	pk_conf_init(options, N, &v);
	assert_int_equal(load(&v, "sessions = 77\n", &diag), 0);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		char want[512];

		snprintf(want, sizeof(want), "%s%s", path, cases[i].want);
		assert_int_equal(load(&v, cases[i].text, &diag), -EINVAL);
		assert_string_equal(diag.text, want);
		assert_int_equal(v.sessions, 77); /* as before */
	}
	pk_conf_fini(options, N, &v);
}

/* What -n prints must parse back to itself, and the sample to the defaults. */
static void
test_canonical(void **state)
{
	char *text = NULL, *again = NULL;
	size_t len = 0;
	struct values v;
	struct pk_diag diag;
	FILE *f;

	(void)state;
	pk_conf_init(options, N, &v);
	assert_int_equal(
	    load(&v, "idle = 120ms\nmemory = 3g\nsessions = 4096\nwire = a b\nwire = c\n", &diag),
	    0);
	f = open_memstream(&text, &len);
	pk_conf_print(options, N, &v, f);
	fclose(f);
	assert_int_equal(load(&v, text, &diag), 0);
	f = open_memstream(&again, &len);
	pk_conf_print(options, N, &v, f);
	fclose(f);
	assert_string_equal(text, again);
	free(text);
	free(again);
	f = fopen(path, "w");
	pk_conf_print_sample(options, N, "test", f);
	fclose(f);
	assert_int_equal(pk_conf_load(options, N, &v, path, &diag), 0);
	assert_int_equal(v.sessions, 1000);
	pk_conf_fini(options, N, &v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_one_sentence),
		cmocka_unit_test(test_canonical),
	};
	int fd = mkstemp(path), rc;

	close(fd);
	rc = cmocka_run_group_tests_name("lib/conf", tests, NULL, NULL);
	unlink(path);
	return rc;
}
