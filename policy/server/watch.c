#include "policy/server/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "lib/log.h"
#include "lib/rpc.h"
#include "policy/proto/store.pb-c.h"
#include "policy/server/etcd.h"

#define POLL_MS 2000

struct server_watch {
	struct pk_rpc_client *client[ETCD_MEMBERS_MAX];
	unsigned int nb, at;
	char key[ETCD_KEY_MAX];
	struct pk_rpc_stream *stream; /* NULL: tried again with the next poll */
	struct event *poll;
	void (*changed)(void *arg, uint64_t generation);
	void *arg;
};

static void
on_message(struct pk_rpc_stream *stream, const uint8_t *bytes, size_t len, void *state)
{
	struct server_watch *w = state;
	Etcd__WatchResponse *m = etcd__watch_response__unpack(NULL, len, bytes);
	uint64_t newest = 0;

	(void)stream;
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n_events; i++) {
		const Etcd__KeyValue *kv = m->events[i]->kv;
		Picket__Store__Head *head = kv != NULL
		    ? picket__store__head__unpack(NULL, kv->value.len, kv->value.data)
		    : NULL;

		if (head != NULL) {
			newest = PK_MAX(newest, head->generation);
			picket__store__head__free_unpacked(head, NULL);
		}
	}
	if (m->n_events > 0 || m->created)
		w->changed(w->arg, newest);
	etcd__watch_response__free_unpacked(m, NULL);
}

static void
on_closed(struct pk_rpc_stream *stream, unsigned int status, const char *text, void *state)
{
	struct server_watch *w = state;

	(void)stream;
	pk_info("etcd: the watch has ended: %s: %s", pk_rpc_status_name(status), text);
	w->stream = NULL;
	w->at = (w->at + 1) % w->nb;
}

static void
begin(struct server_watch *w)
{
	static const struct pk_rpc_stream_ops ops = { .message = on_message, .closed = on_closed };
	Etcd__WatchCreateRequest create = ETCD__WATCH_CREATE_REQUEST__INIT;
	Etcd__WatchRequest m = ETCD__WATCH_REQUEST__INIT;
	struct pk_rpc_buffer *b;
	uint8_t *bytes;

	if (pk_rpc_client_stream(
	        &w->stream, w->client[w->at], "/etcdserverpb.Watch/Watch", &ops, w) != 0) {
		w->stream = NULL;
		return;
	}
	create.key.data = (uint8_t *)w->key;
	create.key.len = strlen(w->key);
	m.request_union_case = ETCD__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
	m.create_request = &create;
	b = pk_rpc_buffer_create(etcd__watch_request__get_packed_size(&m), &bytes);
	if (b != NULL) {
		etcd__watch_request__pack(&m, bytes);
		(void)pk_rpc_stream_send(w->stream, b);
	}
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct server_watch *w = arg;

	(void)fd;
	(void)what;
	if (w->stream == NULL)
		begin(w);
	w->changed(w->arg, 0);
}

int
server_watch_create(struct server_watch **out, struct event_base *base, struct pk_rpc *rpc,
    const char *where, const struct server_store_tls *tls,
    void (*changed)(void *arg, uint64_t generation), void *arg, struct pk_diag *diag)
{
	const struct pk_rpc_tls t = {
		.cert = tls->cert, .key = tls->key, .ca = tls->ca, .fixed = true
	};
	const struct pk_rpc_limits limits = { .keepalive_ns = 10 * PK_NS_PER_S,
		.keepalive_timeout_ns = 5 * PK_NS_PER_S };
	const struct timeval often = { .tv_sec = POLL_MS / 1000 };
	char target[ETCD_MEMBERS_MAX][256], prefix[ETCD_PREFIX_MAX];
	struct server_watch *w = calloc(1, sizeof(*w));
	int nb, err = 0;

	if (w == NULL) {
		pk_diag_set(diag, "no memory for a watch");
		return -ENOMEM;
	}
	nb = etcd_parse(where + strlen("etcd:"), target, prefix, diag);
	if (nb < 0)
		err = nb;
	for (int i = 0; err == 0 && i < nb; i++) {
		err = pk_rpc_client_create(&w->client[w->nb], rpc, target[i], &t, &limits, diag);
		w->nb += err == 0;
	}
	if (err == 0 && (w->poll = event_new(base, -1, EV_PERSIST, on_poll, w)) == NULL) {
		pk_diag_set(diag, "no memory for a watch");
		err = -ENOMEM;
	}
	if (err != 0) {
		server_watch_destroy(w);
		return err;
	}
	w->changed = changed;
	w->arg = arg;
	snprintf(w->key, sizeof(w->key), "%s/head", prefix);
	event_add(w->poll, &often);
	begin(w);
	*out = w;
	return 0;
}

void
server_watch_destroy(struct server_watch *w)
{
	if (w == NULL)
		return;
	if (w->stream != NULL)
		pk_rpc_stream_close(w->stream, PK_RPC_CANCELLED, "");
	for (unsigned int i = 0; i < w->nb; i++)
		pk_rpc_client_destroy(w->client[i]);
	if (w->poll != NULL)
		event_free(w->poll);
	free(w);
}
