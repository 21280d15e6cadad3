#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>

#include "lib/log.h"
#include "lib/rpc_priv.h"
#include "lib/spiffe.h"

/* One call at a time, for who may wait: a program without a loop, a helper thread. */

void
rpc_log(gpr_log_func_args *args)
{
	/* gRPC calls ordinary events errors (a client that goes away, a handshake refused). */
	pk_debug("grpc: %s", args->message);
}

static char *
read_file(const char *path, struct pk_diag *diag)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t len = 0, n = 0;

	if (f != NULL && getdelim(&text, &n, '\0', f) >= 0)
		len = strlen(text);
	if (f == NULL || len == 0) {
		pk_diag_set(diag, "%s: %s", path, f == NULL ? strerror(errno) : "is empty");
		free(text);
		text = NULL;
	}
	if (f != NULL)
		fclose(f);
	return text;
}

grpc_channel_credentials *
rpc_read_credentials(const struct pk_rpc_tls *tls, struct pk_diag *diag)
{
	char *ca = read_file(tls->ca, diag), *cert = NULL, *key = NULL;
	grpc_channel_credentials *creds = NULL;

	if (ca != NULL && (cert = read_file(tls->cert, diag)) != NULL &&
	    (key = read_file(tls->key, diag)) != NULL) {
		grpc_ssl_pem_key_cert_pair pair = { key, cert };

		creds = grpc_ssl_credentials_create(ca, &pair, NULL, NULL);
	}
	if (key != NULL)
		explicit_bzero(key, strlen(key));
	free(key);
	free(cert);
	free(ca);
	return creds;
}

grpc_channel *
rpc_channel_create(
    const char *target, grpc_channel_credentials *creds, const struct pk_rpc_limits *l)
{
	grpc_arg args[] = {
		rpc_arg_int(
		    GRPC_ARG_KEEPALIVE_TIME_MS, rpc_arg_ms(l->keepalive_ns, 20 * PK_NS_PER_S)),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
		    rpc_arg_ms(l->keepalive_timeout_ns, 20 * PK_NS_PER_S)),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
		rpc_arg_int(
		    GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, rpc_or_default(l->message_max, 4 << 20)),
		rpc_arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
		rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
		rpc_arg_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, RPC_CONNECT_MS),
		/* A link that has lost its peer tries again with the next calls; by default two minutes may pass. */
		rpc_arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200),
		rpc_arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000),
		/* When to try again is the caller's to say; a shared subchannel would remember. */
		rpc_arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		rpc_arg_int(GRPC_ARG_ENABLE_RETRIES, 0),
		rpc_arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
	};
	grpc_channel_args channel_args = { PK_COUNT(args), args };

	return grpc_channel_create(target, creds, &channel_args);
}

#define RPC_STAND_NS (UINT64_C(2) * PK_NS_PER_S) /* for a connection with its handshakes */

struct pk_rpc_link {
	char *target;
	grpc_completion_queue *cq;
	grpc_channel *channel;
};

static int
take_answer(grpc_byte_buffer *rx, uint8_t **answer, size_t *answer_len)
{
	grpc_byte_buffer_reader reader;
	grpc_slice slice;
	int err = 0;

	if (rx == NULL || !grpc_byte_buffer_reader_init(&reader, rx))
		return -EPROTO;
	slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	*answer_len = GRPC_SLICE_LENGTH(slice);
	*answer = malloc(*answer_len + 1);
	if (*answer != NULL)
		memcpy(*answer, GRPC_SLICE_START_PTR(slice), *answer_len);
	else
		err = -ENOMEM;
	grpc_slice_unref(slice);
	return err;
}

int
pk_rpc_link_create(struct pk_rpc_link **out, const char *target, const struct pk_rpc_tls *tls,
    struct pk_diag *diag)
{
	static const struct pk_rpc_limits limits = { .message_max = 256 << 20 };
	struct pk_rpc_link *l;
	grpc_channel_credentials *creds;
	int err = pk_spiffe_check_files(tls->cert, tls->key, tls->ca, NULL, diag);

	if (err != 0)
		return err;
	l = calloc(1, sizeof(*l));
	if (l == NULL || (l->target = strdup(target)) == NULL) {
		free(l);
		pk_diag_set(diag, "no memory for a connection");
		return -ENOMEM;
	}
	gpr_set_log_function(rpc_log);
	grpc_init();
	creds = rpc_read_credentials(tls, diag);
	if (creds == NULL) {
		grpc_shutdown_blocking();
		free(l->target);
		free(l);
		return -EINVAL;
	}
	l->cq = grpc_completion_queue_create_for_pluck(NULL);
	l->channel = rpc_channel_create(target, creds, &limits);
	grpc_channel_credentials_release(creds);
	*out = l;
	return 0;
}

void
pk_rpc_link_destroy(struct pk_rpc_link *l)
{
	if (l == NULL)
		return;
	grpc_channel_destroy(l->channel);
	grpc_completion_queue_shutdown(l->cq);
	grpc_completion_queue_destroy(l->cq);
	grpc_shutdown_blocking();
	free(l->target);
	free(l);
}

static int
ask(struct pk_rpc_link *l, const char *path, const void *bytes, size_t len, uint64_t timeout_ns,
    uint8_t **answer, size_t *answer_len, unsigned int *status, struct pk_diag *diag)
{
	grpc_call *call;
	grpc_metadata_array md_in, md_end;
	grpc_status_code code = GRPC_STATUS_UNKNOWN;
	grpc_slice text = grpc_empty_slice(), request, method;
	grpc_byte_buffer *tx, *rx = NULL;
	grpc_op ops[6];
	int err = 0;

	method = grpc_slice_from_copied_string(path);
	call = grpc_channel_create_call(l->channel, NULL, GRPC_PROPAGATE_DEFAULTS, l->cq, method,
	    NULL,
	    gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
	        gpr_time_from_nanos(
	            (int64_t)PK_MIN(timeout_ns, (uint64_t)INT64_MAX), GPR_TIMESPAN)),
	    NULL);
	grpc_slice_unref(method);
	grpc_metadata_array_init(&md_in);
	grpc_metadata_array_init(&md_end);
	request = grpc_slice_from_copied_buffer(bytes, len);
	tx = grpc_raw_byte_buffer_create(&request, 1);
	grpc_slice_unref(request);
	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = tx;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &md_in;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &rx;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &md_end;
	ops[5].data.recv_status_on_client.status = &code;
	ops[5].data.recv_status_on_client.status_details = &text;
	PK_ASSERT(grpc_call_start_batch(call, ops, PK_COUNT(ops), ops, NULL) == GRPC_CALL_OK);
	(void)grpc_completion_queue_pluck(l->cq, ops, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	*status = code;
	if (code == GRPC_STATUS_OK) {
		err = take_answer(rx, answer, answer_len);
		if (err != 0)
			pk_diag_set(diag, "%s: the answer could not be read", l->target);
	} else {
		err = code == GRPC_STATUS_UNAVAILABLE       ? -ECONNREFUSED
		    : code == GRPC_STATUS_DEADLINE_EXCEEDED ? -ETIMEDOUT
		                                            : -EREMOTEIO;
		pk_diag_set(diag, "%s: %.*s", l->target,
		    (int)PK_MIN(GRPC_SLICE_LENGTH(text), (size_t)400),
		    (const char *)GRPC_SLICE_START_PTR(text));
	}
	if (rx != NULL)
		grpc_byte_buffer_destroy(rx);
	grpc_byte_buffer_destroy(tx);
	grpc_slice_unref(text);
	grpc_metadata_array_destroy(&md_in);
	grpc_metadata_array_destroy(&md_end);
	grpc_call_unref(call);
	return err;
}

/*
 * Wait until the link stands, or an attempt at it has failed.  Only who waits has gRPC go on with its handshakes, so
 * a call that fails at once because the last attempt had failed would not bring about the next one.
 */
static int
stand(struct pk_rpc_link *l, uint64_t timeout_ns)
{
	gpr_timespec end = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
	    gpr_time_from_nanos((int64_t)PK_MIN(timeout_ns, RPC_STAND_NS), GPR_TIMESPAN));
	grpc_connectivity_state state;
	bool tried = false;

	while (
	    (state = grpc_channel_check_connectivity_state(l->channel, 1)) != GRPC_CHANNEL_READY) {
		if (gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), end) >= 0 ||
		    (tried && state == GRPC_CHANNEL_TRANSIENT_FAILURE))
			return -ECONNREFUSED;
		tried |= state == GRPC_CHANNEL_CONNECTING;
		grpc_channel_watch_connectivity_state(l->channel, state, end, l->cq, l);
		(void)grpc_completion_queue_pluck(
		    l->cq, l, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	}
	return 0;
}

int
pk_rpc_link_ask(struct pk_rpc_link *l, const char *path, const void *bytes, size_t len,
    uint64_t timeout_ns, uint8_t **answer, size_t *answer_len, unsigned int *status,
    struct pk_diag *diag)
{
	*status = PK_RPC_UNAVAILABLE;
	if (stand(l, timeout_ns) != 0) {
		pk_diag_set(diag, "%s: no connection", l->target);
		return -ECONNREFUSED;
	}
	return ask(l, path, bytes, len, timeout_ns, answer, answer_len, status, diag);
}

int
pk_rpc_ask(const char *target, const struct pk_rpc_tls *tls, const char *path, const void *bytes,
    size_t len, uint64_t timeout_ns, uint8_t **answer, size_t *answer_len, unsigned int *status,
    struct pk_diag *diag)
{
	struct pk_rpc_link *l;
	int err = pk_rpc_link_create(&l, target, tls, diag);

	*status = PK_RPC_UNKNOWN;
	if (err != 0)
		return err;
	err = ask(l, path, bytes, len, timeout_ns, answer, answer_len, status, diag);
	pk_rpc_link_destroy(l);
	return err;
}
