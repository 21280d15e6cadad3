#include "lib/svid_wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/wire.h"

struct writer {
	uint8_t *at, *end;
	bool full;
};

static void
put(struct writer *w, const void *bytes, size_t len)
{
	if (w->full || (size_t)(w->end - w->at) < len) {
		w->full = true;
		return;
	}
	if (len > 0)
		memcpy(w->at, bytes, len);
	w->at += len;
}

static void
put_number(struct writer *w, uint64_t value, unsigned int bytes)
{
	uint8_t b[8];

	for (unsigned int i = 0; i < bytes; i++)
		b[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
	put(w, b, bytes);
}

static void
put_field(struct writer *w, const void *bytes, size_t len)
{
	put_number(w, len, 4);
	put(w, bytes, len);
}

size_t
pk_svid_message_pack(uint8_t *out, const struct pk_svid_message *m)
{
	struct writer w = { out, out + PK_SVID_WIRE_MAX, m->len > PK_SVID_BYTES_MAX };

	put_number(&w, PK_SVID_WIRE_VERSION, 1);
	put_number(&w, m->type, 1);
	put_number(&w, m->flags, 1);
	put_number(&w, 0, 1);
	put_number(&w, m->not_after_s, 8);
	put_number(&w, m->epoch, 8);
	put_field(&w, m->workload, strlen(m->workload));
	put_field(&w, m->id, strlen(m->id));
	put_field(&w, m->text, strlen(m->text));
	put_field(&w, m->bytes, m->len);
	return w.full ? 0 : (size_t)(w.at - out);
}

/* A text with its final NUL; one that has a NUL inside would show two readers two texts. */
static void
take_text(struct pk_wire *w, char *out, size_t size)
{
	uint32_t len = pk_wire_be32(w);
	const uint8_t *p = pk_wire_bytes(w, len);

	out[0] = '\0';
	if (p == NULL || len >= size || memchr(p, '\0', len) != NULL) {
		w->failed = 1;
		return;
	}
	memcpy(out, p, len);
	out[len] = '\0';
}

int
pk_svid_message_parse(
    struct pk_svid_message *out, const uint8_t *bytes, size_t len, struct pk_diag *diag)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	uint8_t version = pk_wire_u8(&w), zero;
	uint32_t n;

	out->type = pk_wire_u8(&w);
	out->flags = pk_wire_u8(&w);
	zero = pk_wire_u8(&w);
	out->not_after_s = pk_wire_be64(&w);
	out->epoch = pk_wire_be64(&w);
	take_text(&w, out->workload, sizeof(out->workload));
	take_text(&w, out->id, sizeof(out->id));
	take_text(&w, out->text, sizeof(out->text));
	n = pk_wire_be32(&w);
	out->bytes = pk_wire_bytes(&w, n);
	out->len = n;
	if (!pk_wire_ok(&w) || pk_wire_left(&w) != 0 || n > PK_SVID_BYTES_MAX || zero != 0 ||
	    version != PK_SVID_WIRE_VERSION || out->type == PK_SVID_MESSAGE_NONE ||
	    out->type >= PK_SVID_MESSAGE_COUNT || (out->flags & ~(unsigned int)PK_SVID_LAST) != 0) {
		pk_diag_set(
		    diag, "a message about identities that is malformed, or of another version");
		return -EPROTO;
	}
	return 0;
}

size_t
pk_svid_revocations_pack(uint8_t *out, const struct pk_svid_trust *t, size_t *at)
{
	struct writer w = { out, out + PK_SVID_BYTES_MAX, false };

	for (; *at < pk_svid_trust_count(t); ++*at) {
		const struct pk_svid_revocation *r = pk_svid_trust_get(t, *at);
		uint8_t *before = w.at;

		put_number(&w, r->kind, 1);
		put_number(&w, r->issued_until_s, 8);
		put_number(&w, r->forget_s, 8);
		put_field(&w, r->name, strlen(r->name));
		if (w.full) {
			w.at = before;
			break;
		}
	}
	return (size_t)(w.at - out);
}

int
pk_svid_revocations_take(struct pk_svid_trust *t, const uint8_t *bytes, size_t len)
{
	struct pk_wire w = pk_wire_from(bytes, len);

	while (pk_wire_left(&w) > 0) {
		struct pk_svid_revocation r = { .kind = (enum pk_svid_revoked)pk_wire_u8(&w) };
		int err;

		r.issued_until_s = pk_wire_be64(&w);
		r.forget_s = pk_wire_be64(&w);
		take_text(&w, r.name, sizeof(r.name));
		if (!pk_wire_ok(&w) || r.kind == PK_SVID_REVOKED_NONE ||
		    r.kind >= PK_SVID_REVOKED_COUNT)
			return -EPROTO;
		if ((err = pk_svid_trust_revoke(t, &r)) != 0)
			return err;
	}
	return 0;
}
