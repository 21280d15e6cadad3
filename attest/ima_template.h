#pragma once

#include "attest/ima.h"

/*
 * Templates of measurement lists: which fields an entry has, and what they mean.  Shared by the reader (ima.c) and
 * ima_template.c.
 */
#define IMA_TEMPLATE_NAME_MAX 255 /* TCG_EVENT_NAME_LEN_MAX */
#define IMA_FIELDS_MAX        16

/* The fields of templates; the kernel's supported_fields[]. */
enum ima_field {
	IMA_FIELD_D,
	IMA_FIELD_N,
	IMA_FIELD_D_NG,
	IMA_FIELD_N_NG,
	IMA_FIELD_D_NGV2,
	IMA_FIELD_SIG,
	IMA_FIELD_D_MODSIG,
	IMA_FIELD_MODSIG,
	IMA_FIELD_BUF,
	IMA_FIELD_EVMSIG,
	IMA_FIELD_XATTRNAMES,
	IMA_FIELD_XATTRLENGTHS,
	IMA_FIELD_XATTRVALUES,
	IMA_FIELD_IUID,
	IMA_FIELD_IGID,
	IMA_FIELD_IMODE,
	IMA_NB_FIELDS,
};

struct ima_layout {
	enum attest_ima_template template;
	unsigned int nb;
	unsigned int name; /* which of them is the file's name */
	enum ima_field field[IMA_FIELDS_MAX];
};

/* Fill *out.  Returns 0, or -EINVAL for a template that is not known. */
int ima_layout_find(const uint8_t *name, size_t len, struct ima_layout *out);

/* Take e->data apart; e->violation is known.  Returns NULL or what is wrong. */
const char *ima_data_parse(struct attest_ima_entry *e, const struct ima_layout *layout);

static inline int
ima_field_is_digest(enum ima_field f)
{
	return f == IMA_FIELD_D || f == IMA_FIELD_D_NG || f == IMA_FIELD_D_NGV2;
}

static inline int
ima_is_zero(struct attest_bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] != 0)
			return 0;
	return 1;
}
