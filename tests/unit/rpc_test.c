#include "lib/rpc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "policy/server/ca.h"
#include "tests/unit/test.h"

#define LARGE (900 << 10)

static char dir[64];
static struct event_base *base;
static struct pk_rpc *rpc;
static struct pk_rpc_server *server;
static char target[64];

/* What happened on either end of the one stream of a test. */
static struct {
	unsigned int server_open, server_messages, server_closed;
	unsigned int client_messages, client_closed;
	size_t client_bytes;
	unsigned int status;
	char text[256], peer[PK_RPC_PEER_MAX];
	bool shut;
	struct pk_rpc_stream *at_server;
} seen;

static const char *
file(const char *who, const char *name)
{
	static char path[8][160];
	static unsigned int next;
	char *p = path[next++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s/%s", dir, who, name);
	return p;
}

static struct pk_rpc_tls
identity(const char *who)
{
	return (struct pk_rpc_tls){ .cert = file(who, "identity.crt"),
		.key = file(who, "identity.key"),
		.ca = file(who, "ca.crt") };
}

static struct pk_rpc_buffer *
buffer(const void *bytes, size_t len)
{
	uint8_t *to;
	struct pk_rpc_buffer *b = pk_rpc_buffer_create(len, &to);

	assert_non_null(b);
	memcpy(to, bytes, len);
	return b;
}

/* Run the loop until *what is at least `n`. */
static void
await(const unsigned int *what, unsigned int n)
{
	uint64_t end = pk_clock_mono_ns() + 20 * PK_NS_PER_S;

	while (*what < n) {
		const struct timeval tick = { .tv_usec = 20000 };

		if (pk_clock_mono_ns() > end)
			fail_msg("nothing came: %s", seen.text);
		event_base_loopexit(base, &tick);
		event_base_dispatch(base);
	}
}

/* ---- the server: echo everything ---- */

static unsigned int
echo_open(struct pk_rpc_stream *s, const char *peer, void *arg, void **state, struct pk_diag *diag)
{
	(void)arg;
	snprintf(seen.peer, sizeof(seen.peer), "%s", peer);
	if (seen.shut) {
		pk_diag_set(diag, "not today");
		return PK_RPC_PERMISSION_DENIED;
	}
	seen.server_open++;
	seen.at_server = s;
	*state = NULL;
	return PK_RPC_OK;
}

static void
echo_message(struct pk_rpc_stream *s, const uint8_t *bytes, size_t len, void *state)
{
	(void)state;
	seen.server_messages++;
	assert_int_equal(pk_rpc_stream_send(s, buffer(bytes, len)), 0);
}

static void
echo_closed(struct pk_rpc_stream *s, unsigned int status, const char *text, void *state)
{
	(void)s;
	(void)status;
	(void)text;
	(void)state;
	seen.server_closed++;
}

static const struct pk_rpc_stream_ops echo_ops = { .message = echo_message, .closed = echo_closed };

static void
twice(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	(void)peer;
	(void)arg;
	if (len == 1 && bytes[0] == '?') {
		pk_rpc_refuse(c, PK_RPC_NOT_FOUND, "there is no \"%c\"", bytes[0]);
		return;
	}
	{
		uint8_t both[64];

		memcpy(both, bytes, len);
		memcpy(both + len, bytes, len);
		pk_rpc_reply(c, buffer(both, 2 * len));
	}
}

static void
never(struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	(void)c;
	(void)peer;
	(void)bytes;
	(void)len;
	(void)arg;
}

static const struct pk_rpc_method methods[] = {
	{ .path = "/test/Echo", .open = echo_open, .stream = &echo_ops },
	{ .path = "/test/Twice", .call = twice },
	{ .path = "/test/Never", .call = never },
	{ .path = NULL },
};

/* ---- the client ---- */

static void
client_message(struct pk_rpc_stream *s, const uint8_t *bytes, size_t len, void *state)
{
	(void)s;
	(void)bytes;
	(void)state;
	seen.client_messages++;
	seen.client_bytes += len;
}

static void
client_closed(struct pk_rpc_stream *s, unsigned int status, const char *text, void *state)
{
	(void)s;
	(void)state;
	seen.client_closed++;
	seen.status = status;
	snprintf(seen.text, sizeof(seen.text), "%s", text);
}

static const struct pk_rpc_stream_ops client_ops = {
	.message = client_message,
	.closed = client_closed,
};

static struct pk_rpc_client *
client_of(const char *who, const char *where)
{
	const struct pk_rpc_tls tls = identity(who);
	struct pk_rpc_client *c;
	struct pk_diag diag = { "" };

	if (pk_rpc_client_create(&c, rpc, where, &tls, NULL, &diag) != 0)
		fail_msg("%s", diag.text);
	return c;
}

static struct pk_rpc_stream *
stream_of(struct pk_rpc_client *c, const char *path)
{
	struct pk_rpc_stream *s;

	assert_int_equal(pk_rpc_client_stream(&s, c, path, &client_ops, NULL), 0);
	return s;
}

static int
group_setup(void **state)
{
	static const char *const names[] = { "127.0.0.1" }; /* a name would ask a resolver */
	char ca[96], rogue[96], dpu[96], evil[96];
	struct pk_diag diag = { "" };

	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/rpc_test.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(ca, sizeof(ca), "%s/ca", dir);
	snprintf(rogue, sizeof(rogue), "%s/rogue", dir);
	snprintf(dpu, sizeof(dpu), "%s/dpu1", dir);
	snprintf(evil, sizeof(evil), "%s/evil", dir);
	if (server_ca_init(ca, "test.example", names, 1, NULL, &diag) != 0 ||
	    server_ca_init(rogue, "test.example", names, 1, NULL, &diag) != 0 ||
	    server_ca_issue(ca, "dpu", "dpu1", dpu, &diag) != 0 ||
	    server_ca_issue(rogue, "dpu", "dpu1", evil, &diag) != 0) {
		fprintf(stderr, "%s\n", diag.text);
		return -1;
	}
	return 0;
}

static int
group_teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static int
setup(void **state)
{
	const struct pk_rpc_tls tls = { .cert = file("ca", "server.crt"),
		.key = file("ca", "server.key"),
		.ca = file("ca", "ca.crt") };
	struct pk_diag diag = { "" };

	(void)state;
	memset(&seen, 0, sizeof(seen));
	base = event_base_new();
	if (base == NULL || pk_rpc_create(&rpc, base, &diag) != 0 ||
	    pk_rpc_server_create(&server, rpc, "127.0.0.1:0", &tls, NULL, methods, NULL, &diag) !=
	        0) {
		fprintf(stderr, "%s\n", diag.text);
		return -1;
	}
	snprintf(target, sizeof(target), "127.0.0.1:%u", pk_rpc_server_port(server));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	pk_rpc_server_destroy(server);
	server = NULL;
	pk_rpc_destroy(rpc);
	event_base_free(base);
	return 0;
}

static void
test_echo(void **state)
{
	struct pk_rpc_client *c = client_of("dpu1", target);
	struct pk_rpc_stream *s = stream_of(c, "/test/Echo");

	(void)state;
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(pk_rpc_stream_send(s, buffer("hello", 5)), 0);
	await(&seen.client_messages, 100);
	assert_int_equal(seen.client_bytes, 500);
	assert_string_equal(seen.peer, "spiffe://test.example/dpu/dpu1");
	pk_rpc_stream_close(s, PK_RPC_CANCELLED, "");
	await(&seen.server_closed, 1); /* the client has gone, and the server hears of it */
	assert_int_equal(seen.client_closed, 0);
	pk_rpc_client_destroy(c);
}

static void
test_large(void **state)
{
	struct pk_rpc_client *c = client_of("dpu1", target);
	struct pk_rpc_stream *s = stream_of(c, "/test/Echo");
	char *large = calloc(1, LARGE);
	struct pk_rpc_buffer *b = buffer(large, LARGE);
	int err = 0;

	(void)state;
	/* One buffer, shared by all sends. */
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(pk_rpc_stream_send(s, pk_rpc_buffer_get(b)), 0);
	for (unsigned int i = 0; i < 8 && err == 0; i++)
		err = pk_rpc_stream_send(s, pk_rpc_buffer_get(b));
	assert_int_equal(err, -ENOBUFS);
	await(&seen.client_messages, 8);
	pk_rpc_buffer_put(b);
	free(large);
	pk_rpc_stream_close(s, PK_RPC_CANCELLED, "");
	pk_rpc_client_destroy(c);
}

/* A message above the limit ends the stream, not the server. */
static void
test_too_large(void **state)
{
	struct pk_rpc_client *c = client_of("dpu1", target);
	struct pk_rpc_stream *s = stream_of(c, "/test/Echo");
	char *huge = calloc(1, 5 << 20);

	(void)state;
	assert_int_equal(pk_rpc_stream_send(s, buffer(huge, 5 << 20)), 0);
	free(huge);
	await(&seen.client_closed, 1);
	assert_int_equal(seen.server_messages, 0);
	s = stream_of(c, "/test/Echo");
	assert_int_equal(pk_rpc_stream_send(s, buffer("x", 1)), 0);
	await(&seen.client_messages, 1);
	pk_rpc_stream_close(s, PK_RPC_CANCELLED, "");
	pk_rpc_client_destroy(c);
}

/* Who may not, and with whom not: each is a stream that ends before it begins. */
static void
test_refusals(void **state)
{
	char by_name[64];
	const struct {
		const char *who, *where, *path;
		bool shut;
		unsigned int status;
	} cases[] = {
		{ "evil", target, "/test/Echo", false, PK_RPC_UNAVAILABLE },
		{ "dpu1", target, "/test/None", false, PK_RPC_UNIMPLEMENTED },
		{ "dpu1", target, "/test/Echo", true, PK_RPC_PERMISSION_DENIED },
		/* The certificate has the address, not the name. */
		{ "dpu1", by_name, "/test/Echo", false, PK_RPC_UNAVAILABLE },
		{ "dpu1", "127.0.0.1:1", "/test/Echo", false, PK_RPC_UNAVAILABLE },
	};

	(void)state;
	snprintf(by_name, sizeof(by_name), "localhost:%u", pk_rpc_server_port(server));
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct pk_rpc_client *c = client_of(cases[i].who, cases[i].where);

		seen.shut = cases[i].shut;
		seen.client_closed = 0;
		stream_of(c, cases[i].path);
		await(&seen.client_closed, 1);
		assert_int_equal(seen.status, cases[i].status);
		assert_int_equal(seen.server_open, 0);
		pk_rpc_client_destroy(c);
	}
	assert_true(seen.text[0] != '\0');
}

static void
test_server_stops(void **state)
{
	struct pk_rpc_client *c = client_of("dpu1", target);
	struct pk_rpc_stream *s = stream_of(c, "/test/Echo");

	(void)state;
	assert_int_equal(pk_rpc_stream_send(s, buffer("x", 1)), 0);
	await(&seen.client_messages, 1);
	pk_rpc_server_destroy(server);
	server = NULL;
	assert_int_equal(seen.server_closed, 1);
	await(&seen.client_closed, 1);
	pk_rpc_client_destroy(c);
}

static void
test_server_ends_stream(void **state)
{
	struct pk_rpc_client *c = client_of("dpu1", target);
	struct pk_rpc_stream *s = stream_of(c, "/test/Echo");

	(void)state;
	assert_int_equal(pk_rpc_stream_send(s, buffer("x", 1)), 0);
	await(&seen.client_messages, 1);
	pk_rpc_stream_close(seen.at_server, PK_RPC_ABORTED, "enough");
	await(&seen.client_closed, 1);
	assert_int_equal(seen.status, PK_RPC_ABORTED);
	assert_string_equal(seen.text, "enough");
	assert_int_equal(seen.server_closed, 0);
	pk_rpc_client_destroy(c);
}

static void
test_bad_files(void **state)
{
	struct pk_rpc_tls tls = identity("dpu1");
	struct pk_rpc_client *c;
	struct pk_diag diag;

	(void)state;
	tls.key = file("evil", "identity.key");
	assert_int_equal(pk_rpc_client_create(&c, rpc, target, &tls, NULL, &diag), -EINVAL);
	assert_non_null(strstr(diag.text, "is not the key of the certificate"));
	tls.cert = "/nonexistent.crt";
	assert_int_equal(pk_rpc_client_create(&c, rpc, target, &tls, NULL, &diag), -ENOENT);
	assert_non_null(strstr(diag.text, "/nonexistent.crt"));
}

/* pk_rpc_ask() blocks, so it has a thread; the loop runs in the test's own. */
struct asked {
	const char *path, *text;
	uint64_t timeout_ns;
	uint8_t *answer;
	size_t len;
	unsigned int status, done;
	struct pk_diag diag;
	int err;
};

static void *
ask_main(void *arg)
{
	struct pk_rpc_tls tls = identity("dpu1");
	struct asked *a = arg;

	a->err = pk_rpc_ask(target, &tls, a->path, a->text, strlen(a->text), a->timeout_ns,
	    &a->answer, &a->len, &a->status, &a->diag);
	__atomic_store_n(&a->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void
test_ask(void **state)
{
	struct asked cases[] = {
		{ .path = "/test/Twice", .text = "ab", .timeout_ns = 10 * PK_NS_PER_S },
		{ .path = "/test/Twice", .text = "?", .timeout_ns = 10 * PK_NS_PER_S },
		{ .path = "/test/Never", .text = "x", .timeout_ns = 200 * PK_NS_PER_MS },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, ask_main, &cases[i]), 0);
		await(&cases[i].done, 1);
		pthread_join(thread, NULL);
	}
	assert_int_equal(cases[0].err, 0);
	assert_int_equal(cases[0].len, 4);
	assert_memory_equal(cases[0].answer, "abab", 4);
	free(cases[0].answer);
	assert_int_equal(cases[1].err, -EREMOTEIO);
	assert_int_equal(cases[1].status, PK_RPC_NOT_FOUND);
	assert_non_null(strstr(cases[1].diag.text, "there is no \"?\""));
	assert_int_equal(cases[2].err, -ETIMEDOUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_echo),
		TEST(test_large),
		TEST(test_too_large),
		TEST(test_refusals),
		TEST(test_server_stops),
		TEST(test_server_ends_stream),
		TEST(test_bad_files),
		TEST(test_ask),
	};

	return cmocka_run_group_tests_name("rpc", tests, group_setup, group_teardown);
}
