#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "policy/server/etcd.h"
#include "policy/server/store.h"
#include "tests/unit/test.h"

/* The store in etcd, against one real member (Debian's etcd-server) on the loopback with mutual TLS. */

static char dir[64], where[128];
static pid_t member;
static bool here; /* there is an etcd */
static struct server_store_tls tls;
static char cert[96], key[96], ca[96];

static int
sh(const char *fmt, ...)
{
	char command[1200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

/* Ports that nobody uses are not to be had by name; two of a number that is our own are unlikely to be taken. */
static int
setup(void **state)
{
	unsigned int port = 20000 + (unsigned int)getpid() % 20000;
	char client[64], peer[64], data[96];
	struct server_store *s;
	struct pk_diag diag;

	(void)state;
	here = sh("command -v etcd >/dev/null && command -v openssl >/dev/null") == 0;
	if (!here)
		return 0;
	snprintf(dir, sizeof(dir), "/tmp/etcd_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	if (sh("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca "
	       "-keyout ca.key -out ca.crt 2>/dev/null && "
	       "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout id.key "
	       "-out id.csr 2>/dev/null && "
	       "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >ext && "
	       "openssl x509 -req -in id.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out id.crt 2>/dev/null",
	        dir) != 0)
		return -1;
	snprintf(cert, sizeof(cert), "%s/id.crt", dir);
	snprintf(key, sizeof(key), "%s/id.key", dir);
	snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
	snprintf(data, sizeof(data), "%s/data", dir);
	snprintf(client, sizeof(client), "https://localhost:%u", port);
	snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", port + 1);
	snprintf(where, sizeof(where), "etcd:%s/test", client);
	tls = (struct server_store_tls){ .cert = cert, .key = key, .ca = ca };
	member = fork();
	if (member == 0) {
		char log[96];

		snprintf(log, sizeof(log), "%s/log", dir);
		if (freopen(log, "w", stderr) == NULL || freopen(log, "a", stdout) == NULL)
			_exit(1);
		execlp("etcd", "etcd", "--data-dir", data, "--listen-client-urls", client,
		    "--advertise-client-urls", client, "--listen-peer-urls", peer,
		    "--initial-advertise-peer-urls", peer, "--initial-cluster",
		    strcat(strcpy((char[160]){ 0 }, "default="), peer), "--cert-file", cert,
		    "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth", (char *)NULL);
		_exit(1);
	}
	/* It waits for the member to come up. */
	if (server_store_open(&s, where, &tls, &diag) != 0) {
		fprintf(stderr, "%s\n", diag.text);
		return -1;
	}
	server_store_close(s);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	if (!here)
		return 0;
	kill(member, SIGKILL);
	waitpid(member, NULL, 0);
	return sh("rm -rf %s", dir);
}

static struct server_store *
open_store(void)
{
	struct server_store *s;
	struct pk_diag diag = { "" };

	if (server_store_open(&s, where, &tls, &diag) != 0)
		fail_msg("%s", diag.text);
	return s;
}

static uint64_t
load(struct server_store *s, struct server_texts *sources, struct server_texts *inventory)
{
	struct pk_diag diag = { "" };
	uint64_t generation;

	if (server_store_load(s, &generation, sources, inventory, &diag) != 0)
		fail_msg("%s", diag.text);
	return generation;
}

static uint64_t
look(struct server_store *s)
{
	struct server_texts a, b;
	uint64_t generation = load(s, &a, &b);

	server_texts_fini(&a);
	server_texts_fini(&b);
	return generation;
}

static int
commit(struct server_store *s, enum server_kind kind, uint64_t of, bool inventory, const char *name,
    const char *text, size_t len, uint32_t id)
{
	struct server_generation g = { .kind = kind, .of = of, .author = "alice", .at_unix_ns = 7 };
	struct server_edit e = { inventory, name, text, len };
	struct server_identity i = { "acme{}", id };
	struct pk_diag diag = { "" };
	int err = server_store_commit(s, &g, &e, 1, &i, id != 0, NULL, &diag);

	if (err != 0 && err != -ESTALE)
		fail_msg("%s", diag.text);
	return err;
}

struct told {
	unsigned int nb;
	uint64_t last;
	char text[64];
	uint32_t id;
};

static int
tell(void *arg, const struct server_record *r)
{
	struct told *t = arg;

	t->nb++;
	t->last = r->g.generation;
	if (r->nb_edits > 0)
		snprintf(t->text, sizeof(t->text), "%.*s", (int)PK_MIN(r->edits[0].len, (size_t)60),
		    r->edits[0].text != NULL ? r->edits[0].text : "");
	if (r->nb_ids > 0)
		t->id = r->ids[0].id;
	return 0;
}

static int
count_id(void *arg, const char *name, uint32_t id)
{
	(void)name;
	*(uint32_t *)arg += id;
	return 0;
}

static int
first_kind(void *arg, const struct server_generation *g)
{
	struct server_generation *out = arg;

	if (out->generation == 0)
		*out = *g;
	return 0;
}

/* Two servers: who comes second is told, follows, and goes on from there. */
static void
test_two(void **state)
{
	struct server_store *a, *b;
	struct server_generation g = { 0 };
	struct server_texts t, w;
	struct told told = { 0 };
	struct pk_diag diag;
	uint32_t ids = 0;

	(void)state;
	if (!here)
		skip();
	a = open_store();
	b = open_store();
	assert_true(server_store_shared(a));
	assert_int_equal(look(a), 0);
	assert_int_equal(look(b), 0);
	assert_int_equal(commit(a, SERVER_KIND_APPLY, 0, false, "p.yaml", "one", 3, 1), 0);
	assert_int_equal(commit(b, SERVER_KIND_APPLY, 0, false, "p.yaml", "two", 3, 1), -ESTALE);
	assert_int_equal(server_store_follow(b, tell, &told, &diag), 0);
	assert_int_equal(told.nb, 1);
	assert_int_equal(told.last, 1);
	assert_int_equal(told.id, 1);
	assert_string_equal(told.text, "one");
	assert_int_equal(commit(b, SERVER_KIND_APPLY, 0, false, "p.yaml", "two", 3, 2), 0);
	assert_int_equal(commit(b, SERVER_KIND_INVENTORY, 0, true, "acme/w", "workload", 8, 0), 0);
	/* One is told what others have done, and never what oneself has. */
	told.nb = 0;
	assert_int_equal(server_store_follow(b, tell, &told, &diag), 0);
	assert_int_equal(told.nb, 0);
	assert_int_equal(server_store_follow(a, tell, &told, &diag), 0);
	assert_int_equal(told.nb, 2);
	assert_int_equal(commit(a, SERVER_KIND_ROLLBACK, 1, false, "p.yaml", "one", 3, 0), 0);
	assert_int_equal(server_store_history(a, 0, 1, first_kind, &g, &diag), 0);
	assert_int_equal(g.generation, 4);
	assert_int_equal(g.kind, SERVER_KIND_ROLLBACK);
	assert_int_equal(g.of, 1);
	assert_string_equal(g.author, "alice");
	assert_int_equal(server_store_sources(a, 3, &t, &diag), 0);
	assert_int_equal(t.nb, 1);
	assert_string_equal(t.item[0].text, "two");
	server_texts_fini(&t);
	assert_int_equal(server_store_sources(a, 9, &t, &diag), -ENOENT);
	assert_int_equal(load(b, &t, &w), 4);
	assert_string_equal(t.item[0].text, "one");
	assert_int_equal(w.nb, 1);
	assert_int_equal(server_store_identities(b, count_id, &ids, &diag), 0);
	assert_int_equal(ids, 1 + 2);
	server_texts_fini(&t);
	server_texts_fini(&w);
	server_store_close(a);
	server_store_close(b);
}

/* What does not fit into a request goes in parts, and comes back whole. */
static void
test_long(void **state)
{
	struct server_store *a, *b;
	size_t len = 3 << 20;
	char *text = test_calloc(len, 1);
	struct server_texts t, w;
	uint64_t generation;
	struct told told = { 0 };
	struct pk_diag diag;

	(void)state;
	if (!here) {
		test_free(text);
		skip();
	}
	for (size_t i = 0; i < len; i++)
		text[i] = (char)('a' + i % 23);
	a = open_store();
	b = open_store();
	(void)look(b);
	(void)look(a);
	assert_int_equal(commit(a, SERVER_KIND_APPLY, 0, false, "long", text, len, 0), 0);
	assert_int_equal(server_store_follow(b, tell, &told, &diag), 0);
	assert_int_equal(told.nb, 1);
	assert_memory_equal(told.text, text, 60);
	generation = load(b, &t, &w);
	assert_int_equal(generation, told.last);
	assert_non_null(server_texts_find(&t, "long"));
	assert_int_equal(server_texts_find(&t, "long")->len, len);
	assert_memory_equal(server_texts_find(&t, "long")->text, text, len);
	server_texts_fini(&t);
	server_texts_fini(&w);
	server_store_close(a);
	server_store_close(b);
	test_free(text);
}

/* A snapshot says the same as the log it stands for, and who has seen neither finds all of it. */
static void
test_snapshot(void **state)
{
	struct server_store *a, *b;
	struct server_identity id = { "acme{}", 5 };
	struct server_texts t, w, t2, w2;
	struct pk_diag diag = { "" };
	uint32_t ids = 0;

	(void)state;
	if (!here)
		skip();
	a = open_store();
	assert_true(load(a, &t, &w) > 0);
	assert_int_equal(server_store_snapshot(a, &t, &w, &id, 1, &diag), 0);
	assert_int_equal(commit(a, SERVER_KIND_INVENTORY, 0, true, "acme/v", "later", 5, 6), 0);
	assert_int_equal(server_texts_put(&w, "acme/v", "later", 5), 0);
	b = open_store();
	(void)load(b, &t2, &w2);
	assert_true(server_texts_equal(&t, &t2));
	assert_true(server_texts_equal(&w, &w2));
	assert_int_equal(server_store_identities(b, count_id, &ids, &diag), 0);
	assert_int_equal(ids, 5 + 6);
	assert_int_equal(commit(b, SERVER_KIND_INVENTORY, 0, true, "acme/v", "more", 4, 0), 0);
	server_texts_fini(&t);
	server_texts_fini(&w);
	server_texts_fini(&t2);
	server_texts_fini(&w2);
	server_store_close(a);
	server_store_close(b);
}

static void
test_urls(void **state)
{
	static const char *const bad[] = { "", "http://a:1", "https://", "https://a",
		"https://a:1,", "https://a:1,http://b:1" };
	char target[ETCD_MEMBERS_MAX][256], prefix[ETCD_PREFIX_MAX];
	struct pk_diag diag;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(bad); i++)
		assert_int_equal(etcd_parse(bad[i], target, prefix, &diag), -EINVAL);
	assert_int_equal(etcd_parse("https://a:1,https://b:22/x/y", target, prefix, &diag), 2);
	assert_string_equal(target[1], "b:22");
	assert_string_equal(prefix, "/x/y");
	assert_int_equal(etcd_parse("https://a:1", target, prefix, &diag), 1);
	assert_string_equal(prefix, "/picket");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_two),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_snapshot),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
