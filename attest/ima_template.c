#include "attest/ima_template.h"

#include <errno.h>
#include <string.h>

#include "lib/wire.h"

static const char *const field_names[IMA_NB_FIELDS] = { "d", "n", "d-ng", "n-ng", "d-ngv2", "sig",
	"d-modsig", "modsig", "buf", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid",
	"igid", "imode" };

static const struct {
	const char *name;
	struct ima_layout layout;
} templates[] = {
	{ "ima", { ATTEST_IMA_IMA, 2, 1, { IMA_FIELD_D, IMA_FIELD_N } } },
	{ "ima-ng", { ATTEST_IMA_NG, 2, 1, { IMA_FIELD_D_NG, IMA_FIELD_N_NG } } },
	{ "ima-ngv2", { ATTEST_IMA_NGV2, 2, 1, { IMA_FIELD_D_NGV2, IMA_FIELD_N_NG } } },
	{ "ima-sig", { ATTEST_IMA_SIG, 3, 1, { IMA_FIELD_D_NG, IMA_FIELD_N_NG, IMA_FIELD_SIG } } },
	{ "ima-sigv2",
	    { ATTEST_IMA_SIGV2, 3, 1, { IMA_FIELD_D_NGV2, IMA_FIELD_N_NG, IMA_FIELD_SIG } } },
	{ "ima-buf", { ATTEST_IMA_BUF, 3, 1, { IMA_FIELD_D_NG, IMA_FIELD_N_NG, IMA_FIELD_BUF } } },
	{ "ima-modsig",
	    { ATTEST_IMA_MODSIG, 5, 1,
	        { IMA_FIELD_D_NG, IMA_FIELD_N_NG, IMA_FIELD_SIG, IMA_FIELD_D_MODSIG,
	            IMA_FIELD_MODSIG } } },
	{ "evm-sig",
	    { ATTEST_IMA_EVM_SIG, 9, 1,
	        { IMA_FIELD_D_NG, IMA_FIELD_N_NG, IMA_FIELD_EVMSIG, IMA_FIELD_XATTRNAMES,
	            IMA_FIELD_XATTRLENGTHS, IMA_FIELD_XATTRVALUES, IMA_FIELD_IUID, IMA_FIELD_IGID,
	            IMA_FIELD_IMODE } } },
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

/* "d-ng|n-ng|sig": what a kernel shows for a template that has no name. */
static int
parse_layout(const char *name, size_t len, struct ima_layout *out)
{
	const char *end = name + len;
	unsigned int digests = 0, names = 0, seen = 0;

	*out = (struct ima_layout){ .template = ATTEST_IMA_CUSTOM };
	if (len > IMA_TEMPLATE_NAME_MAX || memchr(name, '|', len) == NULL)
		return -EINVAL;
	while (name <= end) {
		const char *bar = memchr(name, '|', (size_t)(end - name));
		size_t n = (size_t)((bar != NULL ? bar : end) - name);
		unsigned int f = 0;

		while (f < IMA_NB_FIELDS &&
		    (strlen(field_names[f]) != n || memcmp(field_names[f], name, n) != 0))
			f++;
		/* Twice the same would leave open which one is meant. */
		if (f == IMA_NB_FIELDS || (seen >> f & 1) != 0)
			return -EINVAL;
		seen |= 1U << f;
		digests += (unsigned int)ima_field_is_digest((enum ima_field)f);
		if (f == IMA_FIELD_N || f == IMA_FIELD_N_NG) {
			out->name = out->nb;
			names++;
		}
		out->field[out->nb++] = (enum ima_field)f;
		name += n + 1;
	}
	return digests == 1 && names == 1 ? 0 : -EINVAL;
}

int
ima_layout_find(const uint8_t *name, size_t len, struct ima_layout *out)
{
	for (size_t i = 0; i < PK_COUNT(templates); i++)
		if (strlen(templates[i].name) == len && memcmp(templates[i].name, name, len) == 0) {
			*out = templates[i].layout;
			return 0;
		}
	return parse_layout((const char *)name, len, out);
}

const char *
attest_ima_template_name(enum attest_ima_template t)
{
	for (size_t i = 0; i < PK_COUNT(templates); i++)
		if (templates[i].layout.template == t)
			return templates[i].name;
	return t == ATTEST_IMA_CUSTOM ? "custom" : "?";
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
	        !(e->violation && e->file.len <= ATTEST_DIGEST_MAX && ima_is_zero(e->file))))
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

/* Field "d": SHA-1 or MD5, which its length tells. */
static int
parse_bare_digest(struct attest_bytes f, struct attest_ima_entry *e)
{
	if (f.len != 20 && f.len != 16)
		return -EINVAL;
	e->file = f;
	strcpy(e->file_alg, f.len == 20 ? "sha1" : "md5");
	return 0;
}

/* Returns NULL or what is wrong. */
static const char *
parse_field(enum ima_field field, struct attest_bytes f, struct attest_ima_entry *e)
{
	static const char no_digest[] = "no digest of a known algorithm and right length";

	switch (field) {
	case IMA_FIELD_D:
		return parse_bare_digest(f, e) < 0 ? no_digest : NULL;
	case IMA_FIELD_D_NG:
	case IMA_FIELD_D_NGV2:
		return parse_digest_field(f, field == IMA_FIELD_D_NGV2, e) < 0 ? no_digest : NULL;
	case IMA_FIELD_N:
	case IMA_FIELD_N_NG:
		return parse_name_field(f, e) < 0 ? "the file name is not ended by its only NUL"
		                                  : NULL;
	case IMA_FIELD_SIG:
		e->sig = f;
		return NULL;
	case IMA_FIELD_MODSIG:
		e->modsig = f;
		return NULL;
	case IMA_FIELD_BUF:
		e->buf = f;
		return NULL;
	default:
		return NULL; /* measured, and nothing is asked of it */
	}
}

const char *
ima_data_parse(struct attest_ima_entry *e, const struct ima_layout *layout)
{
	struct pk_wire w = pk_wire_from(e->data.at, e->data.len);

	for (unsigned int i = 0; i < layout->nb; i++) {
		struct attest_bytes f = { .len = pk_wire_le32(&w) };
		const char *wrong;

		f.at = pk_wire_bytes(&w, f.len);
		if (!pk_wire_ok(&w))
			return "a field is longer than the template data";
		if ((wrong = parse_field(layout->field[i], f, e)) != NULL)
			return wrong;
	}
	return pk_wire_left(&w) != 0 ? "template data goes on after its last field" : NULL;
}
