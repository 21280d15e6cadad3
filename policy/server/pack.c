#include "policy/server/pack.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_MAX (512 << 10) /* bytes of one message; its parts stay far below 1 MiB */

/* Protobuf is written by hand where bytes are shared or cut. */

static void
out_bytes(struct server_out *o, const void *bytes, size_t len)
{
	if (o->failed)
		return;
	if (o->len + len > o->room) {
		size_t room = PK_MAX(o->room * 2, o->len + len + 256);
		uint8_t *wider = realloc(o->bytes, room);

		if (wider == NULL) {
			o->failed = true;
			return;
		}
		o->bytes = wider;
		o->room = room;
	}
	if (len != 0)
		memcpy(o->bytes + o->len, bytes, len);
	o->len += len;
}

static void
out_varint(struct server_out *o, uint64_t v)
{
	uint8_t b[10];
	size_t n = 0;

	do {
		b[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v != 0);
	out_bytes(o, b, n);
}

static void
out_number(struct server_out *o, unsigned int field, uint64_t v)
{
	out_varint(o, field << 3);
	out_varint(o, v);
}

static void
out_fixed64(struct server_out *o, unsigned int field, uint64_t v)
{
	out_varint(o, field << 3 | 1);
	out_bytes(o, &v, sizeof(v)); /* little-endian, as we are */
}

static void
out_field(struct server_out *o, unsigned int field, const void *bytes, size_t len)
{
	out_varint(o, field << 3 | 2);
	out_varint(o, len);
	out_bytes(o, bytes, len);
}

/* Field numbers are those of picket.proto. */
enum {
	SERVER_NONCE = 1,
	SERVER_CHANGES = 3,
	SERVER_UPDATE = 7,
	UPDATE_BEGIN = 1,
	UPDATE_CHANGES = 2,
	UPDATE_COMMIT = 3,
	CHANGES_RESOURCES = 1,
	CHANGES_DELTAS = 2,
	CHANGES_REMOVED = 3,
	RESOURCE_TYPE = 1,
	RESOURCE_KEY = 2,
	RESOURCE_VERSION = 3,
	RESOURCE_BODY = 4,
	RESOURCE_OFFSET = 5,
	RESOURCE_SIZE = 6,
};

/* ---- changes ---- */

void
server_pack_changes(
    struct server_out *body, const struct server_step *item, size_t nb, size_t *at, size_t *offset)
{
	struct server_out one = { 0 };

	while (*at < nb && body->len < CHUNK_MAX && !body->failed) {
		const struct server_step *c = &item[*at];
		uint8_t *delta = NULL;
		size_t len = 0, take;

		one.len = 0;
		if (c->now == NULL) {
			out_number(&one, 1, c->old->type);
			out_field(&one, 2, c->old->key, c->old->key_len);
			out_field(body, CHANGES_REMOVED, one.bytes, one.len);
			++*at;
			continue;
		}
		if (*offset == 0 && c->old != NULL && c->old->len != 0 &&
		    policy_resource_diff(c->old, c->now, &delta, &len) == 0) {
			bool fits = len < CHUNK_MAX;

			if (fits) {
				out_field(body, CHANGES_DELTAS, delta, len);
				++*at;
			}
			free(delta);
			if (fits)
				continue;
		}
		take = PK_MIN((size_t)c->now->len - *offset, (size_t)CHUNK_MAX);
		out_number(&one, RESOURCE_TYPE, c->now->type);
		out_field(&one, RESOURCE_KEY, c->now->key, c->now->key_len);
		out_fixed64(&one, RESOURCE_VERSION, c->now->version);
		out_field(&one, RESOURCE_BODY, c->now->body + *offset, take);
		out_number(&one, RESOURCE_OFFSET, *offset);
		out_number(&one, RESOURCE_SIZE, c->now->len);
		out_field(body, CHANGES_RESOURCES, one.bytes, one.len);
		*offset += take;
		if (*offset == c->now->len) {
			*offset = 0;
			++*at;
		}
	}
	body->failed |= one.failed;
	free(one.bytes);
}

/* ---- whole messages ---- */

static void
out_message(struct server_out *o, unsigned int field, const ProtobufCMessage *m)
{
	uint8_t bytes[64]; /* Begin and Commit: a few numbers */
	size_t len = protobuf_c_message_get_packed_size(m);

	PK_ASSERT(len <= sizeof(bytes));
	protobuf_c_message_pack(m, bytes);
	out_field(o, field, bytes, len);
}

void
server_pack_update(struct server_out *head, struct server_out *tail, uint64_t nonce,
    const Picket__V1__Begin *begin, size_t changes_len, const Picket__V1__Commit *commit)
{
	struct server_out inner = { 0 };

	out_message(&inner, UPDATE_BEGIN, &begin->base);
	out_varint(&inner, UPDATE_CHANGES << 3 | 2);
	out_varint(&inner, changes_len);
	out_message(tail, UPDATE_COMMIT, &commit->base);
	out_number(head, SERVER_NONCE, nonce);
	out_varint(head, SERVER_UPDATE << 3 | 2);
	out_varint(head, inner.len + changes_len + tail->len);
	out_bytes(head, inner.bytes, inner.len);
	head->failed |= inner.failed;
	free(inner.bytes);
}

size_t
server_pack_part(struct server_out *out, uint64_t nonce, const struct server_step *item, size_t nb,
    size_t *at, size_t *offset)
{
	struct server_out body = { 0 };
	size_t len;

	server_pack_changes(&body, item, nb, at, offset);
	len = body.len;
	out_number(out, SERVER_NONCE, nonce);
	out_field(out, SERVER_CHANGES, body.bytes, body.len);
	out->failed |= body.failed;
	free(body.bytes);
	return len;
}
