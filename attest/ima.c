#include "attest/ima.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attest/ima_template.h"
#include "lib/wire.h"

#define NAME_PADDED 256 /* IMA_EVENT_NAME_LEN_MAX + 1: template "ima" hashes the name so */

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
		struct ima_layout layout;
		const uint8_t *name;
		uint32_t n;

		pk_wire_skip(&w, 4 + attest_alg_size(algs[i]));
		n = pk_wire_le32(&w);
		if (!pk_wire_ok(&w) || n > IMA_TEMPLATE_NAME_MAX)
			continue;
		name = pk_wire_bytes(&w, n);
		if (name != NULL && ima_layout_find(name, n, &layout) == 0)
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
	struct ima_layout layout;
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
	if (len > IMA_TEMPLATE_NAME_MAX || (name = pk_wire_bytes(&w, len)) == NULL ||
	    ima_layout_find(name, len, &layout) < 0)
		return refuse(rd, w.at, "unknown template", d);
	e->template = layout.template;
	e->violation = ima_is_zero(e->shown);
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
		if ((wrong = ima_data_parse(e, &layout)) != NULL)
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

/* Decimal digits to a little-endian number of `size` bytes.  Returns the new end, or 0. */
static size_t
put_number(uint8_t *out, size_t at, const char *text, size_t len, size_t size)
{
	uint8_t bytes[4];
	uint64_t v = 0;

	if (len == 0 || len > 10)
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return 0;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	if (v >> 8 * size != 0)
		return 0;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(v >> 8 * i);
	return put_field(out, at, bytes, size);
}

/* A text with the NUL that ends it. */
static size_t
put_name(uint8_t *out, size_t at, const char *text, size_t len)
{
	size_t end = put_field(out, at, text, len);

	out[end] = '\0';
	out[at] = (uint8_t)(len + 1);
	out[at + 1] = (uint8_t)((len + 1) >> 8);
	out[at + 2] = (uint8_t)((len + 1) >> 16);
	return end + 1;
}

/* One field as the kernel shows it, in its binary form; empty is empty.  Returns the new end, or 0. */
static size_t
put_shown(uint8_t *out, size_t at, enum ima_field field, const char *text, size_t len)
{
	switch (field) {
	case IMA_FIELD_D_NG:
	case IMA_FIELD_D_NGV2:
		return put_digest(out, at, text, len);
	case IMA_FIELD_D_MODSIG:
		return len > 0 ? put_digest(out, at, text, len) : put_field(out, at, text, 0);
	case IMA_FIELD_N:
	case IMA_FIELD_N_NG:
		return put_name(out, at, text, len);
	case IMA_FIELD_XATTRNAMES:
		return len > 0 ? put_name(out, at, text, len) : put_field(out, at, text, 0);
	case IMA_FIELD_IUID:
	case IMA_FIELD_IGID:
		return len > 0 ? put_number(out, at, text, len, 4) : put_field(out, at, text, 0);
	case IMA_FIELD_IMODE:
		return len > 0 ? put_number(out, at, text, len, 2) : put_field(out, at, text, 0);
	default:
		return put_hex(out, at, text, len);
	}
}

/*
 * Cut text[0 .. len - 1] at its spaces into layout->nb fields.  A file name is the only one that may have
 * spaces in it: what is before it is cut off at the front, what is after it at the end.
 */
static int
cut_fields(const struct ima_layout *layout, const char *text, size_t len, struct attest_bytes *out)
{
	const char *end = text + len, *space;

	for (unsigned int i = layout->nb - 1; i > layout->name; i--) {
		if ((space = memrchr(text, ' ', (size_t)(end - text))) == NULL)
			return -EINVAL;
		out[i] =
		    (struct attest_bytes){ (const uint8_t *)space + 1, (size_t)(end - space - 1) };
		end = space;
	}
	for (unsigned int i = 0; i < layout->name; i++) {
		if ((space = memchr(text, ' ', (size_t)(end - text))) == NULL)
			return -EINVAL;
		out[i] = (struct attest_bytes){ (const uint8_t *)text, (size_t)(space - text) };
		text = space + 1;
	}
	out[layout->name] = (struct attest_bytes){ (const uint8_t *)text, (size_t)(end - text) };
	return 0;
}

/* The fields after the template's name, made into what the kernel hashed.  Returns NULL or why not. */
static const char *
make_data(struct attest_ima_reader *rd, struct attest_ima_entry *e, const struct ima_layout *layout,
    const char *text, size_t len)
{
	struct attest_bytes f[IMA_FIELDS_MAX];
	uint8_t digest[20];
	size_t at = 0;

	if (cut_fields(layout, text, len, f) < 0)
		return "too few fields";
	/* Every field is at most as long in its binary form, but for its length, a NUL or a number. */
	if (scratch_room(rd, len + 8 * IMA_FIELDS_MAX + NAME_PADDED) < 0)
		return "out of memory";
	if (layout->template == ATTEST_IMA_IMA) {
		if (attest_unhex((const char *)f[0].at, f[0].len, digest, 20) < 0)
			return "the file's digest is not 20 bytes in hex";
		if (f[1].len >= NAME_PADDED || memchr(f[1].at, '\0', f[1].len) != NULL)
			return "impossible length of a file name";
		return make_old_data(rd, e, digest, f[1].at, f[1].len) < 0 ? "out of memory" : NULL;
	}
	for (unsigned int i = 0; i < layout->nb; i++) {
		at = put_shown(rd->scratch, at, layout->field[i], (const char *)f[i].at, f[i].len);
		if (at == 0)
			return ima_field_is_digest(layout->field[i])
			    ? "the file's digest is not algorithm:hex"
			    : "a field is not in hex, or no number";
	}
	e->data = (struct attest_bytes){ rd->scratch, at };
	return ima_data_parse(e, layout);
}

static int
next_ascii(struct attest_ima_reader *rd, struct attest_ima_entry *e, struct pk_diag *d)
{
	const char *line = (const char *)rd->at, *p = line, *end, *field, *wrong;
	size_t left = (size_t)(rd->end - rd->at), hex;
	struct ima_layout layout;

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
	e->violation = ima_is_zero(e->shown);
	field = ++p;
	while (p < end && *p != ' ')
		p++;
	if (ima_layout_find((const uint8_t *)field, (size_t)(p - field), &layout) < 0 || p == end)
		return refuse(rd, (const uint8_t *)field, "unknown template", d);
	e->template = layout.template;
	p++;
	/* Text of the kernel's has no control characters but those of file names, and a name with
	 * these cannot be told from a changed line: use the binary list on such a host. */
	if (memchr(p, '\r', (size_t)(end - p)) != NULL ||
	    memchr(p, '\0', (size_t)(end - p)) != NULL)
		return refuse(rd, (const uint8_t *)p, "a carriage return or NUL in the line", d);
	if ((wrong = make_data(rd, e, &layout, p, (size_t)(end - p))) != NULL)
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
