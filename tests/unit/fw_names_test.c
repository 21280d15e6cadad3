#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fw/names.h"
#include "lib/base.h"
#include "tests/unit/test.h"

static const uint64_t seed[2] = { 1, 2 }, other_seed[2] = { 3, 4 };

static struct pk_addr
addr(uint8_t last)
{
	return (struct pk_addr){ .family = 4, .bytes = { 192, 0, 2, last } };
}

static struct fw_named
named(uint64_t pattern)
{
	return (struct fw_named){ .nb = 1, .pattern = { pattern } };
}

static uint32_t
known(struct fw_names *t, uint8_t asker, uint8_t last, bool held, uint64_t now_ns)
{
	struct pk_addr a = addr(asker), b = addr(last);
	struct fw_named out;

	fw_names_find(t, 0, &a, &b, held, now_ns, &out);
	return out.nb;
}

static void
test_lasting(void **state)
{
	struct pk_addr me = addr(1), you = addr(9);
	struct fw_named seven = named(7), eight = named(8);
	struct fw_names *t;

	(void)state;
	assert_int_equal(fw_names_create(&t, 100, seed, NULL), 0);
	assert_true(fw_names_learn(t, 0, &me, &you, &seven, 0, 10));
	assert_true(fw_names_learn(t, 0, NULL, &you, &eight, 0, 20));
	assert_int_equal(known(t, 1, 9, false, 5), 2);
	assert_int_equal(known(t, 2, 9, false, 5), 1);
	assert_int_equal(known(t, 1, 9, false, 15), 1);
	assert_int_equal(known(t, 1, 9, false, 25), 0);
	assert_int_equal(known(t, 1, 9, true, 25), 2);
	assert_int_equal(known(t, 1, 8, true, 5), 0);
	/* a shorter answer takes nothing away */
	assert_true(fw_names_learn(t, 0, NULL, &you, &eight, 0, 12));
	assert_int_equal(known(t, 2, 9, false, 15), 1);
	assert_int_equal(fw_names_nb(t), 2);
	fw_names_destroy(t);
}

/* What is good is not pushed out; what has run out makes room. */
static void
test_room(void **state)
{
	struct fw_named seven = named(7);
	struct fw_names *t;
	uint32_t kept = 0;

	(void)state;
	assert_int_equal(fw_names_create(&t, 8, seed, NULL), 0);
	for (unsigned int i = 1; i <= 20; i++) {
		struct pk_addr a = addr((uint8_t)i);

		kept += fw_names_learn(t, 0, NULL, &a, &seven, 0, 10 + i);
	}
	assert_int_equal(kept, 8);
	assert_int_equal(known(t, 100, 8, false, 0), 1);
	for (unsigned int i = 101; i <= 103; i++) {
		struct pk_addr a = addr((uint8_t)i);

		assert_int_equal(fw_names_learn(t, 0, NULL, &a, &seven, 12, 100), i <= 102);
	}
	/* those that ran out first are gone */
	assert_int_equal(known(t, 100, 1, true, 12), 0);
	assert_int_equal(known(t, 100, 3, true, 12), 1);
	assert_int_equal(fw_names_nb(t), 8);
	fw_names_destroy(t);
}

static void
test_kept(void **state)
{
	char dir[] = "/tmp/fw-names-XXXXXX", path[64];
	struct pk_addr me = addr(1), you = addr(9);
	struct fw_named seven = named(7);
	struct fw_names *t;
	struct stat st;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/names", dir);
	assert_int_equal(fw_names_create(&t, 100, seed, path), 0);
	assert_true(fw_names_learn(t, 0, &me, &you, &seven, 0, 10));
	fw_names_destroy(t);
	/* another process has another seed */
	assert_int_equal(fw_names_create(&t, 100, other_seed, path), 0);
	assert_int_equal(fw_names_nb(t), 1);
	assert_int_equal(known(t, 1, 9, false, 5), 1);
	fw_names_destroy(t);
	/* another size */
	assert_int_equal(fw_names_create(&t, 100000, seed, path), 0);
	assert_int_equal(fw_names_nb(t), 0);
	assert_true(fw_names_learn(t, 0, &me, &you, &seven, 0, 10));
	fw_names_destroy(t);
	/* somebody else's boot, as it looks */
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, 48, SEEK_SET), 0);
	assert_int_equal(fwrite("x", 1, 1, f), 1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(fw_names_create(&t, 100000, seed, path), 0);
	assert_int_equal(fw_names_nb(t), 0);
	assert_true(fw_names_learn(t, 0, &me, &you, &seven, 0, 10));
	fw_names_destroy(t);
	/* a file that others could write to is left alone, and nothing kept */
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(fw_names_create(&t, 100000, seed, path), 0);
	assert_int_equal(fw_names_nb(t), 0);
	assert_true(fw_names_learn(t, 0, &me, &you, &seven, 0, 10));
	fw_names_destroy(t);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lasting),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
