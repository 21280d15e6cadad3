#define PCRE2_CODE_UNIT_WIDTH 8
#include "dpi/sig_pcre.h"

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct dpi_pcre {
	pcre2_code *code;
	bool jit;
};

struct dpi_pcre_room {
	pcre2_match_data *data;
	pcre2_match_context *context;
};

int
dpi_pcre_parse(
    struct dpi_pcre **out, struct dpi_pcre_flags *flags, const char *text, struct pk_diag *diag)
{
	const char *end = strrchr(text, '/');
	uint32_t options = 0, jit = 0;
	struct dpi_pcre *p;
	PCRE2_UCHAR why[128];
	PCRE2_SIZE at;
	int error;

	memset(flags, 0, sizeof(*flags));
	if (text[0] != '/' || end == text) {
		pk_diag_set(diag, "want /expression/flags");
		return -EINVAL;
	}
	for (const char *f = end + 1; *f != '\0' && *f != ','; f++) {
		switch (*f) {
		case 'i':
			options |= PCRE2_CASELESS;
			break;
		case 's':
			options |= PCRE2_DOTALL;
			break;
		case 'm':
			options |= PCRE2_MULTILINE;
			break;
		case 'x':
			options |= PCRE2_EXTENDED;
			break;
		case 'A':
			options |= PCRE2_ANCHORED;
			break;
		case 'E':
			options |= PCRE2_DOLLAR_ENDONLY;
			break;
		case 'G':
			options |= PCRE2_UNGREEDY;
			break;
		case 'R':
			flags->relative = true;
			break;
		case 'B': /* the raw bytes: what is matched anyway */
		case 'O': /* no match limit of its own: ours stands */
		case ' ':
		case '"':
			break;
		default:
			if (dpi_buf_letter(*f) < 0 || (flags->letter != 0 && flags->letter != *f)) {
				pk_diag_set(
				    diag, "flag \"%c\" is unknown, or names a second buffer", *f);
				return -EINVAL;
			}
			flags->letter = *f;
		}
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->code = pcre2_compile(
	    (PCRE2_SPTR)text + 1, (PCRE2_SIZE)(end - text - 1), options, &error, &at, NULL);
	if (p->code == NULL) {
		pcre2_get_error_message(error, why, sizeof(why));
		pk_diag_set(diag, "byte %zu of the expression: %s", (size_t)at, (const char *)why);
		free(p);
		return -EINVAL;
	}
	jit = PCRE2_JIT_COMPLETE;
	p->jit = pcre2_jit_compile(p->code, jit) == 0;
	*out = p;
	return 0;
}

void
dpi_pcre_destroy(struct dpi_pcre *p)
{
	if (p == NULL)
		return;
	pcre2_code_free(p->code);
	free(p);
}

int
dpi_pcre_room_create(struct dpi_pcre_room **out)
{
	struct dpi_pcre_room *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->data = pcre2_match_data_create(8, NULL);
	r->context = pcre2_match_context_create(NULL);
	if (r->data == NULL || r->context == NULL) {
		dpi_pcre_room_destroy(r);
		return -ENOMEM;
	}
	pcre2_set_match_limit(r->context, DPI_PCRE_MATCH_LIMIT);
	pcre2_set_depth_limit(r->context, DPI_PCRE_DEPTH_LIMIT);
	*out = r;
	return 0;
}

void
dpi_pcre_room_destroy(struct dpi_pcre_room *r)
{
	if (r == NULL)
		return;
	pcre2_match_data_free(r->data);
	pcre2_match_context_free(r->context);
	free(r);
}

int
dpi_pcre_match(const struct dpi_pcre *p, struct dpi_pcre_room *room, const uint8_t *bytes,
    uint32_t len, uint32_t from, uint32_t match[2], uint32_t group[2], uint64_t *exceeded)
{
	static const uint8_t none[1];
	PCRE2_SIZE *v;
	int rc;

	rc = pcre2_match(p->code, len != 0 ? bytes : none, len, from, 0, room->data, room->context);
	if (rc < 0) {
		if (rc != PCRE2_ERROR_NOMATCH)
			(*exceeded)++;
		return 0;
	}
	v = pcre2_get_ovector_pointer(room->data);
	match[0] = (uint32_t)v[0];
	match[1] = (uint32_t)v[1];
	if (group != NULL) {
		bool there = rc > 1 && v[2] != PCRE2_UNSET;

		group[0] = there ? (uint32_t)v[2] : match[0];
		group[1] = there ? (uint32_t)v[3] : match[0];
	}
	return 1;
}
