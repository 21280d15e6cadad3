/* What documents give to programs on DPUs; and secrets, which are in files and nowhere else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/grant.h"
#include "policy/server/secret.h"
#include "tests/unit/test.h"

static const char text[] = "apiVersion: picket.io/v1\n"
                           "kind: Link\n"
                           "metadata: {name: rack-7}\n"
                           "spec:\n"
                           "  ports: [{dpu: dpu1, wire: 3}, {dpu: 'edge-*'}]\n"
                           "  macsec: {keys: [{ckn: AB, secret: old}, {ckn: cd01, secret: new}]}\n";

static void
test_link(void **state)
{
	static const struct policy_grant want[] = {
		{ .dpu = "dpu1",
		    .name = "link rack-7, wire 3",
		    .settings = "3 ab",
		    .secret = "old" },
		{ .dpu = "dpu1",
		    .name = "link rack-7, wire 3",
		    .settings = "3 cd01",
		    .secret = "new" },
		{ .dpu = "edge-*",
		    .name = "link rack-7, wire 0",
		    .settings = "0 ab",
		    .secret = "old" },
		{ .dpu = "edge-*",
		    .name = "link rack-7, wire 0",
		    .settings = "0 cd01",
		    .secret = "new" },
	};
	struct policy_findings *f;
	struct policy_grants *g;
	struct policy_model *m;

	(void)state;
	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_add_text(m, "l.yaml", text, strlen(text), f), 0);
	assert_int_equal(policy_grants_create(&g, m), 0);
	policy_model_destroy(m); /* nothing is borrowed */
	policy_findings_destroy(f);
	assert_int_equal(policy_grants_count(g), 4);
	for (size_t i = 0; i < 4; i++) {
		const struct policy_grant *o = policy_grants_get(g, i);

		assert_string_equal(o->program, "mka");
		assert_string_equal(o->dpu, want[i].dpu);
		assert_string_equal(o->name, want[i].name);
		assert_string_equal(o->settings, want[i].settings);
		assert_string_equal(o->secret, want[i].secret);
		assert_int_equal(o->form, POLICY_SECRET_CAK);
		assert_string_equal(o->file, "l.yaml");
	}
	policy_grants_destroy(g);
	assert_int_equal(policy_grants_create(&g, NULL), 0);
	assert_int_equal(policy_grants_count(g), 0);
	policy_grants_destroy(g);
}

static char dir[] = "/tmp/picket-secret-XXXXXX";

static void
put(const char *name, const char *line, mode_t mode)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	close(fd);
}

static void
test_secret(void **state)
{
	static const struct {
		const char *line;
		enum policy_secret_form form;
		size_t len; /* 0: refused */
	} cases[] = {
		{ "00112233445566778899aabbccddeeff\n", POLICY_SECRET_CAK, 16 },
		{ "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
		    POLICY_SECRET_CAK, 32 },
		{ "00112233445566778899aabbccddee\n", POLICY_SECRET_CAK, 0 },
		{ "00112233445566778899aabbccddeeff \n", POLICY_SECRET_CAK, 0 },
		{ "", POLICY_SECRET_CAK, 0 },
		{ "correct horse\n", POLICY_SECRET_CAK, 0 },
		{ "correct horse\r\n", POLICY_SECRET_PSK, 13 },
		{ "0x00ff\n", POLICY_SECRET_PSK, 2 },
		{ "0x00f\n", POLICY_SECRET_PSK, 0 },
		{ "one\ntwo\n", POLICY_SECRET_PSK, 0 },
		{ "\n", POLICY_SECRET_PSK, 0 },
	};
	struct pk_diag diag;
	struct pk_secret s;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		int rc;

		put("one", cases[i].line, 0600);
		rc = server_secret_read(&s, dir, "one", cases[i].form, &diag);
		if (cases[i].len == 0) {
			assert_int_equal(rc, -EINVAL);
			/* What is in the file is not in the sentence. */
			assert_null(strstr(diag.text, "horse"));
			assert_null(strstr(diag.text, "0011"));
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(s.len, cases[i].len);
		pk_secret_fini(&s);
	}
	put("open", "00112233445566778899aabbccddeeff\n", 0640);
	assert_int_equal(server_secret_read(&s, dir, "open", POLICY_SECRET_CAK, &diag), -EACCES);
	assert_int_equal(server_secret_read(&s, dir, "none", POLICY_SECRET_CAK, &diag), -ENOENT);
}

static void
test_make(void **state)
{
	struct pk_secret a, b;
	struct pk_diag diag;
	char path[128];
	struct stat st;

	(void)state;
	assert_int_equal(server_secret_make(dir, "made", 32, NULL, &diag), 0);
	assert_int_equal(server_secret_make(dir, "made", 32, NULL, &diag), -EEXIST);
	assert_int_equal(server_secret_make(dir, "other", 32, NULL, &diag), 0);
	assert_int_equal(server_secret_make(dir, "../made", 32, NULL, &diag), -EINVAL);
	assert_int_equal(server_secret_read(&a, dir, "made", POLICY_SECRET_CAK, &diag), 0);
	assert_int_equal(server_secret_read(&b, dir, "other", POLICY_SECRET_CAK, &diag), 0);
	assert_int_equal(a.len, 32);
	assert_false(pk_secret_equal(&a, &b));
	snprintf(path, sizeof(path), "%s/made", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	pk_secret_fini(&a);
	pk_secret_fini(&b);
}

static int
clean(void **state)
{
	static const char *const names[] = { "one", "open", "made", "other" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < PK_COUNT(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)unlink(path);
	}
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_link),
		cmocka_unit_test(test_secret),
		cmocka_unit_test(test_make),
	};

	if (mkdtemp(dir) == NULL)
		return 1;
	return cmocka_run_group_tests(tests, NULL, clean);
}
