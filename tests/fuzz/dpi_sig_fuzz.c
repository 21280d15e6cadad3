/* Signatures: a file of rules, a line of dashes, and the frames that they are held against. */
#include <string.h>

#include "dpi/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static const char fixed[] =
    "alert http any any -> any any (file.data; content:\"evil\"; sid:1;)\n"
    "alert dns any any -> any any (dns.query; content:\"evil\"; sid:2;)\n"
    "alert tls any any -> any any (tls.cert_subject; content:\"evil\"; sid:3;)\n"
    "alert tcp any any -> any any (content:\"evil\"; pcre:\"/e.*l/\"; sid:4;)\n"
    "alert smb any any -> any any (file.data; content:\"evil\"; sid:5;)\n";

static struct dpi_set *
set_of(const char *text, size_t len)
{
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag;

	if (dpi_vars_create(&vars) < 0 || dpi_set_create(&set, vars) < 0)
		return NULL;
	if (dpi_set_add(set, "fuzz", text, len, NULL, &diag) < 0 ||
	    dpi_set_finish(set, &diag) < 0) {
		dpi_set_destroy(set);
		return NULL;
	}
	return set;
}

/* Frames are cut by their first two bytes: the length. */
static void
inspect(const struct dpi_set *set, const uint8_t *at, size_t len)
{
	struct dpi_engine_options o = { .midstream = true, .depth = 1 << 20 };
	struct dpi_engine *e;
	uint64_t n = 0;

	if (dpi_engine_create(&e, set, &o) < 0)
		return;
	while (len > 2) {
		size_t want = (size_t)(at[0] & 7) << 8 | at[1];

		at += 2;
		len -= 2;
		want = PK_MIN(want, len);
		n++;
		dpi_engine_packet(e, n, n * PK_NS_PER_MS, DPI_LINK_RAW, at, (uint32_t)want);
		at += want;
		len -= want;
	}
	dpi_engine_end(e);
	dpi_engine_destroy(e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static struct dpi_set *usual;
	const uint8_t *line = len >= 4 ? memmem(bytes, len, "\n--\n", 4) : NULL;
	struct dpi_set *own;

	if (usual == NULL)
		usual = set_of(fixed, sizeof(fixed) - 1);
	if (line == NULL) {
		inspect(usual, bytes, len);
		return 0;
	}
	own = set_of((const char *)bytes, (size_t)(line - bytes) + 1);
	if (own != NULL)
		inspect(own, line + 4, len - (size_t)(line + 4 - bytes));
	dpi_set_destroy(own);
	return 0;
}
