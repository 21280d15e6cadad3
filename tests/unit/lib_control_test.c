#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/thread.h>

#include "lib/control.h"
#include "tests/unit/test.h"

#define LONG_ROWS 200000

static struct event_base *base;
static char path[64];
static int gone;

static void
echo(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	char json[256];

	assert_ptr_equal(arg, &base);
	for (int i = 0; i < argc; i++)
		pk_control_rowf(r, "{\"word\":%s}", pk_json_string(argv[i], json, sizeof(json)));
	pk_control_done(r);
}

static void
no(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	(void)arg;
	pk_control_refuse(r, "\"%s\" is not to be had", "it");
}

struct counting {
	unsigned int next;
	size_t most;
};

static void
count_more(struct pk_control_request *r, void *state)
{
	struct counting *c = state;

	if (pk_control_backlog(r) > c->most)
		c->most = pk_control_backlog(r);
	for (int i = 0; i < 100 && c->next < LONG_ROWS; i++)
		pk_control_rowf(r, "{\"n\":%u}", c->next++);
	if (c->next == LONG_ROWS)
		pk_control_done(r);
}

static void
count_gone(void *state)
{
	struct counting *c = state;

	/* Rows are made as the reader takes them, not all at once. */
	assert_true(c->most < 1 << 20);
	gone++;
	free(c);
}

static void
count(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	(void)argc;
	(void)argv;
	(void)arg;
	pk_control_stream(r, count_more, count_gone, calloc(1, sizeof(struct counting)));
}

static const struct pk_control_command commands[] = {
	{ "echo", "WORD...", "say it again", echo },
	{ "echo no", "", "the longer match wins", no },
	{ "count", "", "many rows", count },
	{ NULL, NULL, NULL, NULL },
};

static void *
serve(void *arg)
{
	(void)arg;
	event_base_dispatch(base);
	return NULL;
}

static int
keep(void *arg, const char *json)
{
	strcat(arg, json);
	return 0;
}

static int
tally(void *arg, const char *json)
{
	unsigned int *n = arg;
	char want[32];

	snprintf(want, sizeof(want), "{\"n\":%u}", (*n)++);
	assert_string_equal(json, want);
	return 0;
}

static int
enough(void *arg, const char *json)
{
	(void)json;
	return ++*(int *)arg == 10;
}

static void
test_exchange(void **state)
{
	char got[512] = "";
	struct pk_diag diag;
	unsigned int n = 0;
	int few = 0;

	(void)state;
	assert_int_equal(pk_control_ask(path, "echo a  b\"c", keep, got, &diag), 0);
	assert_string_equal(got, "{\"word\":\"a\"}{\"word\":\"b\\\"c\"}");
	assert_int_equal(pk_control_ask(path, "echo no", NULL, NULL, &diag), -EREMOTEIO);
	assert_string_equal(diag.text, "\"it\" is not to be had");
	assert_int_equal(pk_control_ask(path, "cuont", NULL, NULL, &diag), -EREMOTEIO);
	assert_string_equal(diag.text, "there is no command \"cuont\"; did you mean \"count\"?");
	assert_int_equal(pk_control_ask(path, "count", tally, &n, &diag), 0);
	assert_int_equal(n, LONG_ROWS);
	/* A reader that goes away in the middle. */
	assert_int_equal(pk_control_ask(path, "count", enough, &few, &diag), 0);
	for (int i = 0; i < 200 && gone < 2; i++)
		usleep(10000);
	assert_int_equal(gone, 2);
	assert_int_equal(pk_control_ask("/nonexistent", "x", NULL, NULL, &diag), -ENOENT);
}

/* A line without end is cut off with a sentence, not collected for ever. */
static void
test_long_line(void **state)
{
	static char line[PK_CONTROL_LINE_MAX * 2];
	struct pk_diag diag;

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	assert_true(pk_control_ask(path, line, NULL, NULL, &diag) < 0);
	assert_int_equal(pk_control_ask(path, "echo", NULL, NULL, &diag), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_long_line),
	};
	struct pk_control *control;
	struct pk_diag diag;
	pthread_t thread;
	int rc;

	snprintf(path, sizeof(path), "/tmp/picket-control-%d", (int)getpid());
	signal(SIGPIPE, SIG_IGN); /* as pk_program_start() does */
	evthread_use_pthreads();
	base = event_base_new();
	if (pk_control_create(&control, base, path, commands, &base, &diag) < 0) {
		fprintf(stderr, "%s\n", diag.text);
		return 1;
	}
	pthread_create(&thread, NULL, serve, NULL);
	rc = cmocka_run_group_tests_name("lib/control", tests, NULL, NULL);
	event_base_loopbreak(base);
	pthread_join(thread, NULL);
	pk_control_destroy(control);
	event_base_free(base);
	return rc;
}
