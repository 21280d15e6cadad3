#include "policy/server/etcd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/rpc.h"

#define CALL_NS  (3 * PK_NS_PER_S) /* one member's time to answer */
#define PAUSE_NS (50 * PK_NS_PER_MS)

struct etcd {
	char target[ETCD_MEMBERS_MAX][256];
	struct pk_rpc_link *link[ETCD_MEMBERS_MAX];
	unsigned int nb, at; /* `at` answered last */
	char prefix[ETCD_PREFIX_MAX];
};

int
etcd_parse(const char *urls, char out[][256], char prefix[ETCD_PREFIX_MAX], struct pk_diag *diag)
{
	static const char scheme[] = "https://";
	int nb = 0;

	snprintf(prefix, ETCD_PREFIX_MAX, "/picket");
	for (;;) {
		size_t len;

		if (strncmp(urls, scheme, strlen(scheme)) != 0 || nb == ETCD_MEMBERS_MAX)
			break;
		urls += strlen(scheme);
		len = strcspn(urls, ",/");
		if (len == 0 || len >= 256 || memchr(urls, ':', len) == NULL)
			break;
		snprintf(out[nb++], 256, "%.*s", (int)len, urls);
		urls += len;
		if (*urls == ',') {
			urls++;
			continue;
		}
		if (*urls == '/' && urls[1] != '\0') {
			if (strlen(urls) >= ETCD_PREFIX_MAX)
				break;
			snprintf(prefix, ETCD_PREFIX_MAX, "%s", urls);
		}
		return nb;
	}
	pk_diag_set(diag,
	    "store: want etcd:https://HOST:PORT for each member, at most %d, with commas between, "
	    "then perhaps /PREFIX",
	    ETCD_MEMBERS_MAX);
	return -EINVAL;
}

int
etcd_create(struct etcd **out, const char *urls, const struct etcd_tls *tls, struct pk_diag *diag)
{
	const struct pk_rpc_tls t = { .cert = tls->cert, .key = tls->key, .ca = tls->ca };
	struct etcd *e = calloc(1, sizeof(*e));
	int nb, err = -ENOMEM;

	if (e == NULL) {
		pk_diag_set(diag, "no memory for the store");
		return -ENOMEM;
	}
	nb = etcd_parse(urls, e->target, e->prefix, diag);
	if (nb < 0) {
		err = nb;
		goto fail;
	}
	for (; e->nb < (unsigned int)nb; e->nb++) {
		err = pk_rpc_link_create(&e->link[e->nb], e->target[e->nb], &t, diag);
		if (err != 0)
			goto fail;
	}
	*out = e;
	return 0;
fail:
	etcd_destroy(e);
	return err;
}

void
etcd_destroy(struct etcd *e)
{
	if (e == NULL)
		return;
	for (unsigned int i = 0; i < e->nb; i++)
		pk_rpc_link_destroy(e->link[i]);
	free(e);
}

const char *
etcd_prefix(const struct etcd *e)
{
	return e->prefix;
}

/* Whether another member, or the same a little later, may do better. */
static bool
worth_another(int err, unsigned int status)
{
	return err == -ECONNREFUSED || err == -ETIMEDOUT ||
	    (err == -EREMOTEIO && (status == PK_RPC_UNAVAILABLE || status == PK_RPC_CANCELLED));
}

static int
ask(struct etcd *e, const char *path, const ProtobufCMessage *m, uint8_t **answer, size_t *len,
    struct pk_diag *diag)
{
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = malloc(size + 1);
	uint64_t end = pk_clock_mono_ns() + ETCD_PATIENCE_NS;
	unsigned int status;
	int err;

	if (bytes == NULL) {
		pk_diag_set(diag, "no memory for a message to etcd");
		return -ENOMEM;
	}
	protobuf_c_message_pack(m, bytes);
	for (;;) {
		const struct timespec pause = { .tv_nsec = PAUSE_NS };

		err = pk_rpc_link_ask(
		    e->link[e->at], path, bytes, size, CALL_NS, answer, len, &status, diag);
		if (!worth_another(err, status) || pk_clock_mono_ns() >= end)
			break;
		pk_info("etcd %s: %s; asking the next member", e->target[e->at], diag->text);
		e->at = (e->at + 1) % e->nb;
		nanosleep(&pause, NULL);
	}
	free(bytes);
	if (err != 0 && err != -ENOMEM)
		err = worth_another(err, status) ? -ETIMEDOUT : -EIO;
	return err;
}

/* *out is freed by the caller. */
static int
call(struct etcd *e, const char *path, const ProtobufCMessage *m,
    const ProtobufCMessageDescriptor *type, void *out, struct pk_diag *diag)
{
	ProtobufCMessage *got;
	uint8_t *answer;
	size_t len;
	int err = ask(e, path, m, &answer, &len, diag);

	if (err != 0)
		return err;
	got = protobuf_c_message_unpack(type, NULL, len, answer);
	free(answer);
	if (got == NULL) {
		pk_diag_set(diag, "etcd %s: an answer that cannot be read", e->target[e->at]);
		return -EIO;
	}
	memcpy(out, &got, sizeof(got));
	return 0;
}

int
etcd_range(
    struct etcd *e, const Etcd__RangeRequest *m, Etcd__RangeResponse **out, struct pk_diag *diag)
{
	return call(
	    e, "/etcdserverpb.KV/Range", &m->base, &etcd__range_response__descriptor, out, diag);
}

int
etcd_txn(struct etcd *e, const Etcd__TxnRequest *m, Etcd__TxnResponse **out, struct pk_diag *diag)
{
	return call(
	    e, "/etcdserverpb.KV/Txn", &m->base, &etcd__txn_response__descriptor, out, diag);
}

static ProtobufCBinaryData
bytes_of(const void *p, size_t len)
{
	return (ProtobufCBinaryData){ .len = len, .data = (uint8_t *)(uintptr_t)p };
}

int
etcd_put(struct etcd *e, const char *key, const void *value, size_t len, struct pk_diag *diag)
{
	Etcd__PutRequest m = ETCD__PUT_REQUEST__INIT;
	Etcd__PutResponse *out;
	int err;

	m.key = bytes_of(key, strlen(key));
	m.value = bytes_of(value, len);
	err = call(e, "/etcdserverpb.KV/Put", &m.base, &etcd__put_response__descriptor, &out, diag);
	if (err == 0)
		etcd__put_response__free_unpacked(out, NULL);
	return err;
}

int
etcd_delete(struct etcd *e, const char *key, const char *end, struct pk_diag *diag)
{
	Etcd__DeleteRangeRequest m = ETCD__DELETE_RANGE_REQUEST__INIT;
	Etcd__DeleteRangeResponse *out;
	int err;

	m.key = bytes_of(key, strlen(key));
	m.range_end = bytes_of(end, strlen(end));
	err = call(e, "/etcdserverpb.KV/DeleteRange", &m.base,
	    &etcd__delete_range_response__descriptor, &out, diag);
	if (err == 0)
		etcd__delete_range_response__free_unpacked(out, NULL);
	return err;
}

int
etcd_compact(struct etcd *e, int64_t revision, struct pk_diag *diag)
{
	Etcd__CompactionRequest m = ETCD__COMPACTION_REQUEST__INIT;
	uint8_t *answer;
	size_t len;
	int err;

	m.revision = revision;
	err = ask(e, "/etcdserverpb.KV/Compact", &m.base, &answer, &len, diag);
	if (err == 0)
		free(answer);
	return err;
}

void
etcd_prefix_end(const char *prefix, char out[ETCD_KEY_MAX])
{
	snprintf(out, ETCD_KEY_MAX, "%s", prefix);
	out[strlen(out) - 1]++; /* ours end in ASCII */
}
