#include "attest/ima.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/wire.h"

#define NAME_PADDED 256 /* IMA_EVENT_NAME_LEN_MAX + 1: template "ima" hashes the name so */

static const struct {
	const char *name;
	enum attest_ima_template template;
} templates[] = {
	{ "ima", ATTEST_IMA_IMA },
	{ "ima-ng", ATTEST_IMA_NG },
	{ "ima-ngv2", ATTEST_IMA_NGV2 },
	{ "ima-sig", ATTEST_IMA_SIG },
	{ "ima-sigv2", ATTEST_IMA_SIGV2 },
	{ "ima-buf", ATTEST_IMA_BUF },
	{ "ima-modsig", ATTEST_IMA_MODSIG },
};

/* The hashes a kernel can measure files with; we only compare them. */
static const struct {
	const char *name;
	size_t size;
} file_algs[] = {
	{ "md4", 16 },
	{ "md5", 16 },
	{ "sha1", 20 },
	{ "rmd128", 16 },
	{ "rmd160", 20 },
	{ "rmd256", 32 },
	{ "rmd320", 40 },
	{ "sha224", 28 },
	{ "sha256", 32 },
	{ "sha384", 48 },
	{ "sha512", 64 },
	{ "wp256", 32 },
	{ "wp384", 48 },
	{ "wp512", 64 },
	{ "tgr128", 16 },
	{ "tgr160", 20 },
	{ "tgr192", 24 },
	{ "sm3", 32 },
	{ "sm3-256", 32 },
	{ "streebog256", 32 },
	{ "streebog512", 64 },
	{ "sha3-256", 32 },
	{ "sha3-384", 48 },
	{ "sha3-512", 64 },
};

static size_t
file_alg_size(const char *name, size_t len)
{
	for (size_t i = 0; i < PK_COUNT(file_algs); i++)
		if (strlen(file_algs[i].name) == len && memcmp(file_algs[i].name, name, len) == 0)
			return file_algs[i].size;
	return 0;
}

static enum attest_ima_template
find_template(const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < PK_COUNT(templates); i++)
		if (strlen(templates[i].name) == len && memcmp(templates[i].name, name, len) == 0)
			return templates[i].template;
	return ATTEST_IMA_TEMPLATE_NONE;
}

const char *
attest_ima_template_name(enum attest_ima_template t)
{
	for (size_t i = 0; i < PK_COUNT(templates); i++)
		if (templates[i].template == t)
			return templates[i].name;
	return "?";
}

static int
refuse(const struct attest_ima_reader *rd, const uint8_t *at, const char *what, struct pk_diag *d)
{
	pk_diag_set(
	    d, "IMA list: entry %u, byte %zu: %s", rd->number, (size_t)(at - rd->start), what);
	return -EINVAL;
}

/* The shown digest's length is nowhere written: it is where a template's name follows it. */
static uint16_t
guess_shown_alg(const uint8_t *bytes, size_t len)
{
	static const uint16_t algs[] = { ATTEST_ALG_SHA1, ATTEST_ALG_SHA256, ATTEST_ALG_SHA384,
		ATTEST_ALG_SHA512 };

	for (size_t i = 0; i < PK_COUNT(algs); i++) {
		struct pk_wire w = pk_wire_from(bytes, len);
		const uint8_t *name;
		uint32_t n;

		pk_wire_skip(&w, 4 + attest_alg_size(algs[i]));
		n = pk_wire_le32(&w);
		if (!pk_wire_ok(&w) || n > 15)
			continue;
		name = pk_wire_bytes(&w, n);
		if (name != NULL && find_template(name, n) != ATTEST_IMA_TEMPLATE_NONE)
			return algs[i];
	}
	return ATTEST_ALG_SHA1;
}

int
attest_ima_init(struct attest_ima_reader *rd, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	*rd = (struct attest_ima_reader){ .start = bytes, .at = bytes, .end = bytes + len };
	if (len > ATTEST_IMA_LIST_MAX) {
		pk_diag_set(d, "IMA list: %zu bytes, more than %u", len, ATTEST_IMA_LIST_MAX);
		return -EINVAL;
	}
	/* A binary list begins with a PCR below 24, ASCII with a digit, a space or rubbish. */
	rd->ascii = len > 0 && (bytes[0] >= ATTEST_NB_PCRS || bytes[0] == '\n');
	if (len > 3 && bytes[0] == '\n' && bytes[1] == 0 && bytes[2] == 0 && bytes[3] == 0)
		rd->ascii = 0; /* which is PCR 10 in binary */
	if (!rd->ascii)
		rd->shown_alg = guess_shown_alg(bytes, len);
	return 0;
}

void
attest_ima_fini(struct attest_ima_reader *rd)
{
	free(rd->scratch);
	*rd = (struct attest_ima_reader){ 0 };
}

static int
is_zero(struct attest_bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] != 0)
			return 0;
	return 1;
}

/* ---- fields of template data ------------------------------------------------------------------ */

/* "sha256:" NUL digest; the v2 form has "ima:" or "verity:" before that. */
static int
parse_digest_field(struct attest_bytes f, int v2, struct attest_ima_entry *e)
{
	const uint8_t *nul = memchr(f.at, '\0', f.len);
	struct attest_bytes alg = f;
	size_t size;

	if (nul == NULL || nul == f.at || nul[-1] != ':')
		return -EINVAL;
	alg.len = (size_t)(nul - 1 - f.at);
	if (v2) {
		const uint8_t *colon = memchr(alg.at, ':', alg.len);

		if (colon == NULL ||
		    !((colon - alg.at == 3 && memcmp(alg.at, "ima", 3) == 0) ||
		        (colon - alg.at == 6 && memcmp(alg.at, "verity", 6) == 0)))
			return -EINVAL;
		alg.len -= (size_t)(colon + 1 - alg.at);
		alg.at = colon + 1;
	}
	size = file_alg_size((const char *)alg.at, alg.len);
	e->file = (struct attest_bytes){ nul + 1, f.len - (size_t)(nul + 1 - f.at) };
	/* Between kernels the zeroes of a violation were as many as SHA-1 has, whatever the name. */
	if (size == 0 ||
	    (e->file.len != size &&
	        !(e->violation && e->file.len <= ATTEST_DIGEST_MAX && is_zero(e->file))))
		return -EINVAL;
	memcpy(e->file_alg, alg.at, alg.len);
	e->file_alg[alg.len] = '\0';
	return 0;
}

static int
parse_name_field(struct attest_bytes f, struct attest_ima_entry *e)
{
	if (f.len == 0 || memchr(f.at, '\0', f.len) != f.at + f.len - 1)
		return -EINVAL;
	e->path = (struct attest_bytes){ f.at, f.len - 1 };
	return 0;
}

static unsigned int
nb_fields(enum attest_ima_template t)
{
	switch (t) {
	case ATTEST_IMA_MODSIG:
		return 5;
	case ATTEST_IMA_SIG:
	case ATTEST_IMA_SIGV2:
	case ATTEST_IMA_BUF:
		return 3;
	default:
		return 2;
	}
}

/* Take e->data apart.  Returns NULL or what is wrong. */
static const char *
parse_data(struct attest_ima_entry *e)
{
	struct pk_wire w = pk_wire_from(e->data.at, e->data.len);
	int v2 = e->template == ATTEST_IMA_NGV2 || e->template == ATTEST_IMA_SIGV2;
	struct attest_bytes f[5];
	unsigned int n = nb_fields(e->template);

	for (unsigned int i = 0; i < n; i++) {
		f[i].len = pk_wire_le32(&w);
		f[i].at = pk_wire_bytes(&w, f[i].len);
		if (!pk_wire_ok(&w))
			return "a field is longer than the template data";
	}
	if (pk_wire_left(&w) != 0)
		return "template data goes on after its last field";
	if (parse_digest_field(f[0], v2, e) < 0)
		return "no digest of a known algorithm and right length";
	if (parse_name_field(f[1], e) < 0)
		return "the file name is not ended by its only NUL";
	if (e->template == ATTEST_IMA_BUF)
		e->buf = f[2];
	else if (n > 2)
		e->sig = f[2];
	if (n > 4)
		e->modsig = f[4];
	return NULL;
}

/* ---- binary ----------------------------------------------------------------------------------- */

static int
scratch_room(struct attest_ima_reader *rd, size_t len)
{
	uint8_t *p;

	if (len <= rd->room)
		return 0;
	len = PK_MAX(len, (size_t)4096);
	if ((p = realloc(rd->scratch, len)) == NULL)
		return -ENOMEM;
	rd->scratch = p;
	rd->room = len;
	return 0;
}

/* Template "ima": the digest bare, the name filled up to 256 bytes. */
static int
make_old_data(struct attest_ima_reader *rd, struct attest_ima_entry *e, const uint8_t *digest,
    const uint8_t *name, size_t len)
{
	if (scratch_room(rd, 20 + NAME_PADDED) < 0)
		return -ENOMEM;
	memcpy(rd->scratch, digest, 20);
	memset(rd->scratch + 20, 0, NAME_PADDED);
	memcpy(rd->scratch + 20, name, len);
	e->data = (struct attest_bytes){ rd->scratch, 20 + NAME_PADDED };
	e->file = (struct attest_bytes){ rd->scratch, 20 };
	e->path = (struct attest_bytes){ rd->scratch + 20, len };
	strcpy(e->file_alg, "sha1");
	return 0;
}

static int
next_binary(struct attest_ima_reader *rd, struct attest_ima_entry *e, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(rd->at, (size_t)(rd->end - rd->at));
	const uint8_t *name, *digest;
	const char *wrong;
	uint32_t len;

	e->pcr = pk_wire_le32(&w);
	e->shown_alg = rd->shown_alg;
	e->shown.len = attest_alg_size(rd->shown_alg);
	e->shown.at = pk_wire_bytes(&w, e->shown.len);
	len = pk_wire_le32(&w);
	if (!pk_wire_ok(&w))
		return refuse(rd, w.at, "ends within the head of an entry", d);
	if (e->pcr >= ATTEST_NB_PCRS)
		return refuse(rd, rd->at, "there is no such PCR", d);
	if (len > 15 || (name = pk_wire_bytes(&w, len)) == NULL ||
	    (e->template = find_template(name, len)) == ATTEST_IMA_TEMPLATE_NONE)
		return refuse(rd, w.at, "unknown template", d);
	e->violation = is_zero(e->shown);
	if (e->template == ATTEST_IMA_IMA) {
		digest = pk_wire_bytes(&w, 20);
		len = pk_wire_le32(&w);
		name = len < NAME_PADDED ? pk_wire_bytes(&w, len) : NULL;
		/* It is hashed filled up with NULs, so one more at its end is the same name. */
		if (name != NULL && len > 0 && name[len - 1] == '\0')
			len--;
		if (name == NULL || memchr(name, '\0', len) != NULL)
			return refuse(rd, w.at, "impossible length of a file name", d);
		if (make_old_data(rd, e, digest, name, len) < 0)
			return -ENOMEM;
	} else {
		len = pk_wire_le32(&w);
		if (!pk_wire_ok(&w) || len > ATTEST_IMA_ENTRY_MAX)
			return refuse(rd, w.at, "impossible length of template data", d);
		e->data.len = len;
		if ((e->data.at = pk_wire_bytes(&w, len)) == NULL)
			return refuse(rd, w.at, "template data longer than what is left", d);
		if ((wrong = parse_data(e)) != NULL)
			return refuse(rd, w.at, wrong, d);
	}
	rd->at = w.at;
	return 1;
}

/* ---- ASCII ------------------------------------------------------------------------------------ */

static size_t
put_field(uint8_t *out, size_t at, const void *bytes, size_t len)
{
	out[at] = (uint8_t)len;
	out[at + 1] = (uint8_t)(len >> 8);
	out[at + 2] = (uint8_t)(len >> 16);
	out[at + 3] = (uint8_t)(len >> 24);
	if (len > 0)
		memmove(out + at + 4, bytes, len);
	return at + 4 + len;
}

/* "sha256:hex" to its binary form.  Returns the new end, or 0. */
static size_t
put_digest(uint8_t *out, size_t at, const char *text, size_t len)
{
	const char *colon = memrchr(text, ':', len);
	size_t name, size;

	if (colon == NULL || (size_t)(text + len - colon - 1) % 2 != 0)
		return 0;
	name = (size_t)(colon - text) + 1;
	size = (len - name) / 2;
	put_field(out, at, text, name);
	out[at + 4 + name] = '\0';
	if (attest_unhex(colon + 1, len - name, out + at + 4 + name + 1, size) < 0)
		return 0;
	/* Write the length again, now that it is known. */
	size += name + 1;
	out[at] = (uint8_t)size;
	out[at + 1] = (uint8_t)(size >> 8);
	return size > 0xffff ? 0 : at + 4 + size;
}

/* Hex or nothing.  Returns the new end, or 0. */
static size_t
put_hex(uint8_t *out, size_t at, const char *text, size_t len)
{
	if (len % 2 != 0 || attest_unhex(text, len, out + at + 4, len / 2) < 0)
		return 0;
	put_field(out, at, out + at + 4, len / 2);
	return at + 4 + len / 2;
}

/* Cut the last field, which follows a space, off text[0 .. *len - 1]. */
static int
cut_last(const char *text, size_t *len, const char **field, size_t *field_len)
{
	const char *space = memrchr(text, ' ', *len);

	if (space == NULL)
		return -EINVAL;
	*field = space + 1;
	*field_len = (size_t)(text + *len - space - 1);
	*len = (size_t)(space - text);
	return 0;
}

/* The fields after the template's name, made into what the kernel hashed.  Returns NULL or why not. */
static const char *
make_data(struct attest_ima_reader *rd, struct attest_ima_entry *e, const char *text, size_t len)
{
	const char *last[3], *space;
	size_t last_len[3], digest_len, at;
	unsigned int extra = nb_fields(e->template) - 2;
	uint8_t digest[20];

	for (unsigned int i = extra; i-- > 0;)
		if (cut_last(text, &len, &last[i], &last_len[i]) < 0)
			return "too few fields";
	if ((space = memchr(text, ' ', len)) == NULL)
		return "too few fields";
	digest_len = (size_t)(space - text);
	text = space + 1;
	len -= digest_len + 1;
	/* Every part of the binary form fits in the line's length, its own length and a NUL. */
	if (scratch_room(rd,
	        digest_len + len + 64 + (extra > 0 ? last_len[0] : 0) +
	            (extra > 2 ? last_len[1] + last_len[2] : 0) + NAME_PADDED) < 0)
		return "out of memory";
	if (e->template == ATTEST_IMA_IMA) {
		if (attest_unhex(space - digest_len, digest_len, digest, 20) < 0)
			return "the file's digest is not 20 bytes in hex";
		if (len >= NAME_PADDED || memchr(text, '\0', len) != NULL)
			return "impossible length of a file name";
		return make_old_data(rd, e, digest, (const uint8_t *)text, len) < 0
		    ? "out of memory"
		    : NULL;
	}
	if ((at = put_digest(rd->scratch, 0, space - digest_len, digest_len)) == 0)
		return "the file's digest is not algorithm:hex";
	put_field(rd->scratch, at, text, len);
	rd->scratch[at + 4 + len] = '\0';
	rd->scratch[at] = (uint8_t)(len + 1);
	rd->scratch[at + 1] = (uint8_t)((len + 1) >> 8);
	rd->scratch[at + 2] = (uint8_t)((len + 1) >> 16);
	at += 4 + len + 1;
	for (unsigned int i = 0; i < extra; i++) {
		/* The d-modsig field is a digest, and empty when there is no modsig. */
		if (e->template == ATTEST_IMA_MODSIG && i == 1 && last_len[i] > 0)
			at = put_digest(rd->scratch, at, last[i], last_len[i]);
		else
			at = put_hex(rd->scratch, at, last[i], last_len[i]);
		if (at == 0)
			return "a signature or buffer is not in hex";
	}
	e->data = (struct attest_bytes){ rd->scratch, at };
	return parse_data(e);
}

static int
next_ascii(struct attest_ima_reader *rd, struct attest_ima_entry *e, struct pk_diag *d)
{
	const char *line = (const char *)rd->at, *p = line, *end, *field, *wrong;
	size_t left = (size_t)(rd->end - rd->at), hex;

	end = memchr(line, '\n', left);
	if (end == NULL)
		end = line + left;
	if (end - line > (ptrdiff_t)ATTEST_IMA_ENTRY_MAX)
		return refuse(rd, rd->at, "a line too long", d);
	/* The kernel writes the PCR in two columns. */
	if (p < end && *p == ' ')
		p++;
	for (field = p; p < end && *p >= '0' && *p <= '9' && p - field < 3; p++)
		e->pcr = e->pcr * 10 + (uint32_t)(*p - '0');
	if (p == field || p == end || *p != ' ' || e->pcr >= ATTEST_NB_PCRS)
		return refuse(rd, rd->at, "the line does not begin with a PCR", d);
	field = ++p;
	while (p < end && *p != ' ')
		p++;
	hex = (size_t)(p - field);
	e->shown_alg = hex == 40 ? ATTEST_ALG_SHA1
	    : hex == 64          ? ATTEST_ALG_SHA256
	    : hex == 96          ? ATTEST_ALG_SHA384
	    : hex == 128         ? ATTEST_ALG_SHA512
	                         : 0;
	if (p == end || e->shown_alg == 0 || attest_unhex(field, hex, rd->shown, hex / 2) < 0)
		return refuse(rd, (const uint8_t *)field, "no template digest in hex", d);
	e->shown = (struct attest_bytes){ rd->shown, hex / 2 };
	e->violation = is_zero(e->shown);
	field = ++p;
	while (p < end && *p != ' ')
		p++;
	e->template = find_template((const uint8_t *)field, (size_t)(p - field));
	if (e->template == ATTEST_IMA_TEMPLATE_NONE || p == end)
		return refuse(rd, (const uint8_t *)field, "unknown template", d);
	p++;
	/* Text of the kernel's has no control characters but those of file names, and a name with
	 * these cannot be told from a changed line: use the binary list on such a host. */
	if (memchr(p, '\r', (size_t)(end - p)) != NULL ||
	    memchr(p, '\0', (size_t)(end - p)) != NULL)
		return refuse(rd, (const uint8_t *)p, "a carriage return or NUL in the line", d);
	if ((wrong = make_data(rd, e, p, (size_t)(end - p))) != NULL)
		return refuse(rd, (const uint8_t *)p, wrong, d);
	rd->at = (const uint8_t *)end + (end < (const char *)rd->end);
	return 1;
}

int
attest_ima_next(struct attest_ima_reader *rd, struct attest_ima_entry *e, struct pk_diag *d)
{
	int rc;

	if (rd->at == rd->end)
		return 0;
	*e = (struct attest_ima_entry){ .number = rd->number, .off = (size_t)(rd->at - rd->start) };
	rc = rd->ascii ? next_ascii(rd, e, d) : next_binary(rd, e, d);
	if (rc > 0)
		rd->number++;
	return rc;
}

int
attest_ima_digest_ok(EVP_MD_CTX *ctx, const struct attest_ima_entry *e)
{
	uint8_t h[ATTEST_DIGEST_MAX];

	if (e->violation)
		return 1;
	if (attest_hash(ctx, e->shown_alg, &e->data, 1, h) == 0 &&
	    memcmp(h, e->shown.at, e->shown.len) == 0)
		return 1;
	/* 32 bytes may as well be SM3. */
	return e->shown_alg == ATTEST_ALG_SHA256 &&
	    attest_hash(ctx, ATTEST_ALG_SM3, &e->data, 1, h) == 0 &&
	    memcmp(h, e->shown.at, e->shown.len) == 0;
}

/* ---- replay ----------------------------------------------------------------------------------- */

int
attest_ima_state_init(struct attest_ima_state *st, uint16_t alg)
{
	*st = (struct attest_ima_state){ .alg = alg };
	return attest_alg_md(alg) != NULL ? 0 : -ENOTSUP;
}

/* What this entry extended into the bank. */
static int
entry_digest(EVP_MD_CTX *ctx, const struct attest_ima_entry *e, uint16_t alg,
    enum attest_ima_mode mode, uint8_t *out)
{
	size_t size = attest_alg_size(alg);

	memset(out, 0, ATTEST_DIGEST_MAX);
	if (e->violation) {
		memset(out, 0xff, mode == ATTEST_IMA_PADDED_ONES ? 20 : size);
		return 0;
	}
	if (mode != ATTEST_IMA_HASHED)
		alg = ATTEST_ALG_SHA1;
	return attest_hash(ctx, alg, &e->data, 1, out);
}

static int
replay_mode(struct attest_ima_state *st, enum attest_ima_mode mode, const uint8_t *bytes,
    size_t len, const uint8_t *want, uint32_t *used, struct pk_diag *d)
{
	size_t size = attest_alg_size(st->alg);
	struct attest_ima_state now = *st;
	struct attest_ima_reader rd;
	struct attest_ima_entry e;
	uint8_t digest[ATTEST_DIGEST_MAX];
	EVP_MD_CTX *ctx;
	int rc, hit = want != NULL && memcmp(now.value, want, size) == 0;

	*used = 0;
	if ((rc = attest_ima_init(&rd, bytes, len, d)) < 0)
		return rc;
	if ((ctx = EVP_MD_CTX_new()) == NULL) {
		attest_ima_fini(&rd);
		return -ENOMEM;
	}
	/* To the end even after the hit: a malformed rest is not what a kernel wrote. */
	while ((rc = attest_ima_next(&rd, &e, d)) > 0) {
		if (hit || e.pcr != ATTEST_PCR_IMA)
			continue;
		if ((rc = entry_digest(ctx, &e, now.alg, mode, digest)) < 0 ||
		    (rc = attest_extend(ctx, now.alg, now.value, digest)) < 0)
			break;
		*used = e.number + 1;
		hit = want != NULL && memcmp(now.value, want, size) == 0;
	}
	EVP_MD_CTX_free(ctx);
	if (rc == 0 && want == NULL)
		*used = rd.number;
	attest_ima_fini(&rd);
	if (rc < 0)
		return rc;
	if (want != NULL && !hit)
		return -ENOENT;
	now.entries += *used;
	if (now.mode == ATTEST_IMA_ANY && want != NULL && *used > 0)
		now.mode = (uint16_t)mode;
	*st = now;
	return 0;
}

int
attest_ima_replay(struct attest_ima_state *st, const uint8_t *bytes, size_t len,
    const uint8_t *want, uint32_t *used, struct pk_diag *d)
{
	int rc;

	if (attest_alg_md(st->alg) == NULL)
		return -ENOTSUP;
	if (st->mode != ATTEST_IMA_ANY)
		return replay_mode(st, (enum attest_ima_mode)st->mode, bytes, len, want, used, d);
	rc = replay_mode(st, ATTEST_IMA_HASHED, bytes, len, want, used, d);
	/* Kernels before 5.8, and banks whose hash a kernel lacks.  The chain is as hard to forge as
	 * SHA-1 template digests are, which is why attest_ima_digest_ok() is asked as well. */
	if (rc == -ENOENT)
		rc = replay_mode(st, ATTEST_IMA_PADDED, bytes, len, want, used, d);
	if (rc == -ENOENT)
		rc = replay_mode(st, ATTEST_IMA_PADDED_ONES, bytes, len, want, used, d);
	return rc;
}
