#include "lib/grant.h"

#include <errno.h>
#include <string.h>

#include "lib/wire.h"

#define VERSION 1
static const uint8_t magic[4] = { 'P', 'K', 'G', 'R' };

/* ---- out ---- */

static uint8_t *
put(uint8_t *at, const void *bytes, size_t len)
{
	at[0] = (uint8_t)(len >> 8);
	at[1] = (uint8_t)len;
	if (len > 0)
		memcpy(at + 2, bytes, len);
	return at + 2 + len;
}

static size_t
size_of(const struct pk_grant *g)
{
	return 8 + strlen(g->program) + 1 + strlen(g->name) + 1 + strlen(g->settings) + 1 +
	    g->secret_len;
}

int
pk_grants_pack(struct pk_secret *out, const struct pk_grant *g, size_t nb)
{
	size_t len = sizeof(magic) + 2 + 4;
	uint8_t *at;
	int rc;

	for (size_t i = 0; i < nb; i++) {
		if (strlen(g[i].program) >= PK_GRANT_PROGRAM_MAX ||
		    strlen(g[i].name) >= PK_GRANT_NAME_MAX ||
		    strlen(g[i].settings) >= PK_GRANT_SETTINGS_MAX ||
		    g[i].secret_len > PK_GRANT_SECRET_MAX)
			return -E2BIG;
		len += size_of(&g[i]);
		if (len > PK_GRANTS_MAX)
			return -E2BIG;
	}
	rc = pk_secret_reserve(out, len);
	if (rc < 0)
		return rc;
	at = out->bytes;
	memcpy(at, magic, sizeof(magic));
	at[4] = 0;
	at[5] = VERSION;
	for (unsigned int i = 0; i < 4; i++)
		at[6 + i] = (uint8_t)(nb >> (24 - 8 * i));
	at += 10;
	for (size_t i = 0; i < nb; i++) {
		at = put(at, g[i].program, strlen(g[i].program) + 1);
		at = put(at, g[i].name, strlen(g[i].name) + 1);
		at = put(at, g[i].settings, strlen(g[i].settings) + 1);
		at = put(at, g[i].secret, g[i].secret_len);
	}
	PK_ASSERT(at == out->bytes + len);
	return 0;
}

/* ---- in ---- */

/* A text with one NUL, at its end; what is none fails the cursor. */
static const char *
text(struct pk_wire *w, size_t max)
{
	size_t len = pk_wire_be16(w);
	const uint8_t *bytes = pk_wire_bytes(w, len);

	if (bytes == NULL || len == 0 || len > max || memchr(bytes, 0, len) != bytes + len - 1) {
		w->failed = 1;
		return "";
	}
	return (const char *)bytes;
}

static bool
next(struct pk_wire *w, struct pk_grant *g)
{
	g->program = text(w, PK_GRANT_PROGRAM_MAX);
	g->name = text(w, PK_GRANT_NAME_MAX);
	g->settings = text(w, PK_GRANT_SETTINGS_MAX);
	g->secret_len = pk_wire_be16(w);
	g->secret = pk_wire_bytes(w, g->secret_len);
	if (g->secret_len == 0)
		g->secret = NULL;
	return pk_wire_ok(w) && g->secret_len <= PK_GRANT_SECRET_MAX;
}

int
pk_grants_parse(const uint8_t *bytes, size_t len, void (*each)(void *arg, const struct pk_grant *g),
    void *arg, struct pk_diag *diag)
{
	struct pk_wire w = pk_wire_from(bytes, len), again;
	const uint8_t *word = pk_wire_bytes(&w, sizeof(magic));
	struct pk_grant g;
	uint32_t nb;

	if (word == NULL || memcmp(word, magic, sizeof(magic)) != 0 ||
	    pk_wire_be16(&w) != VERSION) {
		pk_diag_set(diag, "this is no set of grants of version %d", VERSION);
		return -EPROTO;
	}
	nb = pk_wire_be32(&w);
	again = w;
	for (uint32_t i = 0; i < nb; i++) {
		if (!next(&w, &g)) {
			pk_diag_set(diag, "grant %u of %u is cut short or too long", i + 1, nb);
			return -EPROTO;
		}
	}
	if (!pk_wire_ok(&w) || pk_wire_left(&w) != 0) {
		pk_diag_set(diag, "something follows the last grant");
		return -EPROTO;
	}
	for (uint32_t i = 0; each != NULL && i < nb && next(&again, &g); i++)
		each(arg, &g);
	return 0;
}
