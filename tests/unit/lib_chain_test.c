/* A log that shows when it has been altered. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/chain.h"
#include "tests/unit/test.h"

static char path[] = "/tmp/chainXXXXXX";

static void
append(int n)
{
	struct pk_chain *c;
	struct pk_diag diag;
	char members[32];

	assert_int_equal(pk_chain_open(&c, path, &diag), 0);
	for (int i = 0; i < n; i++) {
		snprintf(members, sizeof(members), "\"i\":%d", i);
		assert_int_equal(pk_chain_append(c, members, i == n - 1), 0);
	}
	pk_chain_close(c);
}

static void
collect(void *arg, uint64_t i, const char *line)
{
	char(*lines)[256] = arg;

	assert_true(i < 16);
	snprintf(lines[i], sizeof(lines[i]), "%s", line);
}

static struct pk_chain_state
check(const char *hash, char (*lines)[256])
{
	struct pk_chain_state s;
	struct pk_diag diag;

	assert_int_equal(
	    pk_chain_check(path, hash, &s, lines != NULL ? collect : NULL, lines, &diag), 0);
	return s;
}

static void
write_lines(char (*lines)[256], const int *order, size_t n)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s\n", lines[order[i]]);
	fclose(f);
}

static void
test_chain(void **state)
{
	struct pk_chain_state s;
	char head[PK_CHAIN_HASH_TEXT], lines[16][256];

	(void)state;
	assert_int_equal(truncate(path, 0), 0);
	append(3);
	append(2); /* over a restart */
	s = check(NULL, lines);
	assert_int_equal(s.nb, 5);
	assert_false(s.broken);
	memcpy(head, s.head, sizeof(head));
	append(1);
	assert_true(check(head, NULL).found);
	assert_false(check("00", NULL).found);
}

static void
test_tampering(void **state)
{
	static const int orders[][5] = { { 1, 2, 3, 4 }, { 0, 2, 3, 4 }, { 0, 1, 3, 2, 4 },
		{ 0, 0, 1, 2, 3 }, { 4, 0, 1, 2, 3 } };
	static const size_t lens[] = { 4, 4, 5, 5, 5 };
	char lines[16][256];

	(void)state;
	assert_int_equal(truncate(path, 0), 0);
	append(5);
	(void)check(NULL, lines);
	for (size_t i = 0; i < PK_COUNT(orders); i++) {
		write_lines(lines, orders[i], lens[i]);
		assert_true(check(NULL, NULL).broken);
	}
	/* Any byte but of the last line, whose hash nothing holds yet. */
	for (int line = 0; line < 4; line++) {
		for (size_t at = 0; lines[line][at] != '\0'; at++) {
			static const int all[] = { 0, 1, 2, 3, 4 };

			lines[line][at] ^= 1;
			write_lines(lines, all, 5);
			assert_true(check(NULL, NULL).broken);
			lines[line][at] ^= 1;
		}
	}
	/* What follows does not mend it. */
	append(2);
}

static void
test_crash(void **state)
{
	struct pk_chain_state s;
	FILE *f;

	(void)state;
	assert_int_equal(truncate(path, 0), 0);
	append(2);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs("{\"n\":3,\"at\":\"20", f);
	fclose(f);
	append(1);
	s = check(NULL, NULL);
	assert_int_equal(s.nb, 3);
	assert_false(s.broken);
}

static void
test_too_long(void **state)
{
	struct pk_chain *c;
	struct pk_diag diag;
	char *members = malloc(PK_CHAIN_LINE_MAX + 1);

	(void)state;
	assert_non_null(members);
	memset(members, 'x', PK_CHAIN_LINE_MAX);
	members[PK_CHAIN_LINE_MAX] = '\0';
	assert_int_equal(pk_chain_open(&c, path, &diag), 0);
	assert_int_equal(pk_chain_append(c, members, 0), -EMSGSIZE);
	pk_chain_close(c);
	free(members);
	assert_false(check(NULL, NULL).broken);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_tampering),
		cmocka_unit_test(test_crash),
		cmocka_unit_test(test_too_long),
	};
	int fd = mkstemp(path), rc;

	PK_ASSERT(fd >= 0);
	close(fd);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
