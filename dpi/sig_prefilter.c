#include "dpi/sig_prefilter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool
dpi_pattern_of(struct dpi_pattern *out, const struct dpi_content *c, bool skip_dot)
{
	const uint8_t *from = c->bytes;
	uint32_t len = c->len, run = 0;

	if (c->fast && c->fast_len != 0) {
		from += c->fast_from;
		len = c->fast_len;
	}
	if (skip_dot && len > 0 &&
	    from[0] == '.') { /* the dot is the transform's, not the buffer's */
		from++;
		len--;
	}
	len = PK_MIN(len, (uint32_t)DPI_FAST_MAX);
	/* A pattern that ends in a run of one byte makes Hyperscan crawl over such runs: keep a few of them. */
	while (run < len && from[len - 1 - run] == from[len - 1])
		run++;
	if (run >= DPI_FAST_RUN)
		len -= run - (DPI_FAST_RUN - 1);
	if (len < DPI_FAST_MIN)
		return false;
	memset(out, 0, sizeof(*out));
	memcpy(out->bytes, from, len);
	out->len = (uint8_t)len;
	out->nocase = c->nocase;
	return true;
}

static int
by_bytes(const void *a, const void *b)
{
	const struct dpi_pattern *p = a, *q = b;
	int d = memcmp(p->bytes, q->bytes, PK_MIN(p->len, q->len));

	if (d != 0)
		return d;
	if (p->len != q->len)
		return p->len < q->len ? -1 : 1;
	if (p->nocase != q->nocase)
		return p->nocase ? 1 : -1;
	return p->rule < q->rule ? -1 : p->rule > q->rule;
}

static bool
same(const struct dpi_pattern *p, const struct dpi_pattern *q)
{
	return p->len == q->len && p->nocase == q->nocase &&
	    memcmp(p->bytes, q->bytes, p->len) == 0;
}

static int
compile(struct dpi_prefilter *f, const hs_platform_info_t *platform, struct pk_diag *diag)
{
	char *text = malloc((size_t)f->nb * (DPI_FAST_MAX * 4 + 1));
	const char **expression = calloc(f->nb, sizeof(*expression));
	unsigned int *flags = calloc(f->nb, sizeof(*flags)), *ids = calloc(f->nb, sizeof(*ids));
	hs_compile_error_t *error = NULL;
	int rc = 0;

	if (text == NULL || expression == NULL || flags == NULL || ids == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	for (uint32_t i = 0; i < f->nb; i++) {
		static const char digits[] = "0123456789abcdef";
		char *to = text + (size_t)i * (DPI_FAST_MAX * 4 + 1);

		expression[i] = to;
		for (unsigned int j = 0; j < f->pattern[i].len; j++) {
			uint8_t b = f->pattern[i].bytes[j];

			*to++ = '\\';
			*to++ = 'x';
			*to++ = digits[b >> 4];
			*to++ = digits[b & 15];
		}
		*to = '\0';
		ids[i] = i;
		flags[i] = HS_FLAG_SINGLEMATCH | (f->pattern[i].nocase ? HS_FLAG_CASELESS : 0);
	}
	if (hs_compile_ext_multi(expression, flags, ids, NULL, f->nb, HS_MODE_BLOCK, platform,
	        &f->db, &error) != HS_SUCCESS) {
		pk_diag_set(diag, "database of %u patterns: %s", f->nb, error->message);
		hs_free_compile_error(error);
		rc = -EIO;
	}
out:
	free(text);
	free(expression);
	free(flags);
	free(ids);
	return rc;
}

int
dpi_prefilter_init(struct dpi_prefilter *f, struct dpi_pattern *pattern, uint32_t nb,
    hs_database_t *db, const hs_platform_info_t *platform, struct pk_diag *diag)
{
	uint32_t n = 0;

	memset(f, 0, sizeof(*f));
	f->pattern = pattern;
	f->db = db;
	f->first = calloc(nb + 1u, sizeof(*f->first));
	f->rule_at = calloc(nb, sizeof(*f->rule_at));
	if (f->first == NULL || f->rule_at == NULL)
		return -ENOMEM;
	qsort(pattern, nb, sizeof(*pattern), by_bytes);
	for (uint32_t i = 0; i < nb; i++) {
		f->rule_at[i] = pattern[i].rule;
		f->longest = PK_MAX(f->longest, pattern[i].len);
		if (i == 0 || !same(&pattern[i], &pattern[n - 1])) {
			f->first[n] = i;
			pattern[n++] = pattern[i];
		}
	}
	f->first[n] = nb;
	f->nb = n;
	return db != NULL ? 0 : compile(f, platform, diag);
}

void
dpi_prefilter_fini(struct dpi_prefilter *f)
{
	hs_free_database(f->db);
	free(f->pattern);
	free(f->first);
	free(f->rule_at);
	free(f->every.at);
	memset(f, 0, sizeof(*f));
}

struct seen {
	uint8_t *bit; /* one byte per pattern */
};

static int
note(unsigned int id, unsigned long long from, unsigned long long to, unsigned int flags, void *arg)
{
	struct seen *s = arg;

	(void)from;
	(void)to;
	(void)flags;
	s->bit[id] = 1;
	return 0;
}

static bool
occurs(const struct dpi_pattern *p, const uint8_t *text, uint32_t len)
{
	struct dpi_content c = { .len = p->len, .nocase = p->nocase };
	uint8_t bytes[DPI_FAST_MAX];

	for (unsigned int i = 0; i < p->len; i++)
		bytes[i] = p->nocase ? dpi_lower[p->bytes[i]] : p->bytes[i];
	c.bytes = bytes;
	return dpi_content_find(&c, text, len) != NULL;
}

#define CHECK_IN_FULL 32 /* texts whose whole answer is compared */

int
dpi_prefilter_check(const struct dpi_prefilter *f, hs_scratch_t *scratch, struct pk_diag *diag)
{
	uint8_t text[3 * DPI_FAST_MAX + 2];
	uint32_t every = f->nb / CHECK_IN_FULL + 1;
	struct seen seen = { calloc(f->nb, 1) };
	int rc = 0;

	if (seen.bit == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->nb && rc == 0; i++) {
		const struct dpi_pattern *p = &f->pattern[i],
		                         *q = &f->pattern[(i * 7919u + 13) % f->nb];
		bool full = i % every == 0;
		uint32_t len = 0;

		/* Another pattern, half of it again, a byte, and the pattern itself. */
		memcpy(text, q->bytes, q->len);
		len += q->len;
		memcpy(text + len, p->bytes, p->len / 2u);
		len += p->len / 2u;
		text[len++] = 0x7e;
		memcpy(text + len, p->bytes, p->len);
		len += p->len;
		memset(seen.bit, 0, f->nb);
		if (hs_scan(f->db, (const char *)text, len, 0, scratch, note, &seen) != HS_SUCCESS)
			seen.bit[i] = 0;
		for (uint32_t j = full ? 0 : i; j < (full ? f->nb : i + 1); j++) {
			if (seen.bit[j] != occurs(&f->pattern[j], text, len)) {
				pk_diag_set(diag,
				    "database of %u patterns disagrees with a plain search about pattern %u, \"%.*s\"",
				    f->nb, j, f->pattern[j].len, (const char *)f->pattern[j].bytes);
				rc = -EILSEQ;
				break;
			}
		}
	}
	free(seen.bit);
	return rc;
}
