#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "policy/server/store.h"
#include "tests/unit/test.h"

#define KILLS 200

static char dir[64], path[96];

static int
setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/store_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/policy.db", dir);
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

/* The other driver is tests/unit/server_etcd_test.c's. */
static int
open_at(struct server_store **out, struct pk_diag *diag)
{
	char where[128];

	snprintf(where, sizeof(where), "sqlite:%s", path);
	return server_store_open(out, where, NULL, diag);
}

static struct server_store *
open_store(void)
{
	struct server_store *s;
	struct pk_diag diag = { "" };
	int err = open_at(&s, &diag);

	if (err != 0)
		fail_msg("%s", diag.text);
	return s;
}

/* Commit with all of `t` put. */
static int
commit_texts(struct server_store *s, struct server_generation *g, const struct server_texts *t,
    bool inventory, const struct server_identity *id)
{
	struct server_edit *edits = calloc(t->nb + 1, sizeof(edits[0]));
	struct pk_diag diag;
	int err;

	assert_non_null(edits);
	for (size_t i = 0; i < t->nb; i++)
		edits[i] = (struct server_edit){ inventory, t->item[i].name, t->item[i].text,
			t->item[i].len };
	g->nb_sources = inventory ? g->nb_sources : t->nb;
	err = server_store_commit(s, g, edits, t->nb, id, id != NULL, NULL, &diag);
	free(edits);
	return err;
}

/* A generation whose every source says which one it is. */
static int
commit_variant(struct server_store *s, unsigned int variant, uint64_t *generation)
{
	struct server_generation g = { .kind = SERVER_KIND_APPLY, .author = "alice" };
	struct server_texts t = { 0 };
	char key[32];
	struct server_identity id = { .key = key, .id = variant + 1 };
	int err = 0;

	for (unsigned int i = 0; i < 20; i++) {
		char name[32], text[64];

		snprintf(name, sizeof(name), "source%02u", i);
		snprintf(text, sizeof(text), "variant %u source %u", variant, i);
		err |= server_texts_put(&t, name, text, strlen(text));
	}
	snprintf(key, sizeof(key), "identity %u", variant);
	if (err == 0)
		err = commit_texts(s, &g, &t, false, &id);
	server_texts_fini(&t);
	*generation = g.generation;
	return err;
}

/* The variant all sources agree on. */
static unsigned int
read_variant(struct server_store *s, uint64_t *generation)
{
	struct server_texts t, inventory;
	struct pk_diag diag;
	unsigned int variant = 0, source;

	assert_int_equal(server_store_load(s, generation, &t, &inventory, &diag), 0);
	if (*generation != 0)
		assert_int_equal(t.nb, 20);
	for (size_t i = 0; i < t.nb; i++) {
		unsigned int v;

		assert_int_equal(sscanf(t.item[i].text, "variant %u source %u", &v, &source), 2);
		assert_int_equal(source, i);
		if (i == 0)
			variant = v;
		assert_int_equal(v, variant);
	}
	server_texts_fini(&t);
	server_texts_fini(&inventory);
	return variant;
}

static int
expect_id(void *arg, const char *key, uint32_t id)
{
	char want[32];

	snprintf(want, sizeof(want), "identity %u", id - 1);
	assert_string_equal(key, want);
	(*(unsigned int *)arg)++;
	return 0;
}

static int
collect(void *arg, const struct server_generation *g)
{
	struct server_generation *out = arg;

	for (; out->generation != 0; out++)
		;
	*out = *g;
	return 0;
}

static void
test_reopen(void **state)
{
	struct server_generation history[8] = { { 0 } };
	struct server_store *s = open_store();
	struct pk_diag diag;
	unsigned int nb_ids = 0;
	uint64_t g;

	(void)state;
	assert_int_equal(read_variant(s, &g), 0);
	assert_int_equal(g, 0);
	assert_int_equal(commit_variant(s, 7, &g), 0);
	assert_int_equal(commit_variant(s, 8, &g), 0);
	assert_int_equal(g, 2);
	server_store_close(s);
	s = open_store();
	assert_int_equal(read_variant(s, &g), 8);
	assert_int_equal(g, 2);
	assert_int_equal(server_store_identities(s, expect_id, &nb_ids, &diag), 0);
	assert_int_equal(nb_ids, 2);
	assert_int_equal(server_store_history(s, 0, 7, collect, history, &diag), 0);
	assert_int_equal(history[0].generation, 2);
	assert_int_equal(history[1].generation, 1);
	assert_string_equal(history[1].author, "alice");
	server_store_close(s);
}

static void
test_rollback(void **state)
{
	struct server_generation back = { .kind = SERVER_KIND_ROLLBACK, .of = 1 };
	struct server_store *s = open_store();
	struct server_texts t;
	struct pk_diag diag;
	uint64_t g;

	(void)state;
	assert_int_equal(commit_variant(s, 1, &g), 0);
	assert_int_equal(commit_variant(s, 2, &g), 0);
	assert_int_equal(server_store_sources(s, 1, &t, &diag), 0);
	assert_int_equal(commit_texts(s, &back, &t, false, NULL), 0);
	assert_int_equal(back.generation, 3);
	assert_int_equal(read_variant(s, &g), 1);
	assert_int_equal(g, 3);
	/* A rollback to a rollback leads to what that one led to. */
	back = (struct server_generation){ .kind = SERVER_KIND_ROLLBACK, .of = 3 };
	assert_int_equal(commit_texts(s, &back, &t, false, NULL), 0);
	server_texts_fini(&t);
	assert_int_equal(back.of, 1);
	assert_int_equal(read_variant(s, &g), 1);
	/* Each generation still has its own, whatever came after it. */
	assert_int_equal(server_store_sources(s, 2, &t, &diag), 0);
	assert_int_equal(t.nb, 20);
	assert_string_equal(t.item[3].text, "variant 2 source 3");
	server_texts_fini(&t);
	assert_int_equal(server_store_sources(s, 99, &t, &diag), -ENOENT);
	assert_string_equal(diag.text, "there is no generation 99");
	server_store_close(s);
}

static void
test_inventory(void **state)
{
	static const struct server_edit edits[] = {
		{ true, "shop/new", "n", 1 }, { true, "shop/web", NULL, 0 },
		{ true, "shop/db", "B", 1 },
		{ true, "shop/new", NULL, 0 }, /* in turn: it has not been */
	};
	struct server_generation g = { .kind = SERVER_KIND_INVENTORY };
	struct server_texts inventory = { 0 }, sources, loaded;
	struct server_store *s = open_store();
	struct pk_diag diag;
	uint64_t generation;

	(void)state;
	assert_int_equal(commit_variant(s, 1, &generation), 0);
	assert_int_equal(server_texts_put(&inventory, "shop/web", "a", 1), 0);
	assert_int_equal(server_texts_put(&inventory, "shop/db", "b", 1), 0);
	assert_int_equal(commit_texts(s, &g, &inventory, true, NULL), 0);
	assert_int_equal(server_texts_remove(&inventory, "shop/web"), 0);
	assert_int_equal(server_texts_put(&inventory, "shop/db", "B", 1), 0);
	assert_int_equal(
	    server_store_commit(s, &g, edits, PK_COUNT(edits), NULL, 0, NULL, &diag), 0);
	assert_int_equal(server_store_load(s, &generation, &sources, &loaded, &diag), 0);
	assert_int_equal(generation, 3);
	assert_int_equal(sources.nb, 20); /* untouched by it */
	assert_true(server_texts_equal(&loaded, &inventory));
	server_texts_fini(&sources);
	server_texts_fini(&loaded);
	server_texts_fini(&inventory);
	server_store_close(s);
}

static void
test_not_ours(void **state)
{
	struct server_store *s;
	struct pk_diag diag = { "" };
	FILE *f = fopen(path, "w");

	(void)state;
	assert_non_null(f);
	for (int i = 0; i < 1000; i++)
		fputs("this is no database\n", f);
	fclose(f);
	assert_true(open_at(&s, &diag) < 0);
	assert_non_null(strstr(diag.text, path));
}

static void
test_one_at_a_time(void **state)
{
	struct server_store *s = open_store(), *second;
	struct pk_diag diag = { "" };

	(void)state;
	assert_int_equal(open_at(&second, &diag), -EBUSY);
	assert_non_null(strstr(diag.text, "another process has the store open"));
	server_store_close(s);
}

/* A child commits one generation after the other and is killed; what is left is one of them, whole,
 * and not older than the last it had told us of. */
static void
test_kill(void **state)
{
	unsigned int last = 0;

	(void)state;
	for (unsigned int i = 0; i < KILLS; i++) {
		uint64_t generation;
		struct server_store *s;
		unsigned int told = last, got, nb_ids = 0;
		struct pk_diag diag;
		uint16_t chance;
		int fds[2];
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			s = open_store();
			for (unsigned int v = last + 1;; v++) {
				if (commit_variant(s, v, &generation) != 0)
					_exit(1);
				(void)!write(fds[1], &v, sizeof(v));
			}
		}
		close(fds[1]);
		assert_int_equal(getrandom(&chance, sizeof(chance), 0), sizeof(chance));
		usleep(chance % 20000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(fds[0], &got, sizeof(got)) == (ssize_t)sizeof(got))
			told = got;
		close(fds[0]);
		s = open_store();
		got = read_variant(s, &generation);
		assert_true(got == told || got == told + 1);
		assert_int_equal(server_store_identities(s, expect_id, &nb_ids, &diag), 0);
		assert_int_equal(nb_ids, got);
		server_store_close(s);
		last = got;
	}
	print_message("# %u kills, %u generations\n", KILLS, last);
	assert_true(last > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reopen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rollback, setup, teardown),
		cmocka_unit_test_setup_teardown(test_inventory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_ours, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
	};

	return cmocka_run_group_tests_name("server/store", tests, NULL, NULL);
}
