#pragma once

#include "dpi/sig_parse.h"

/*
 * Between dpi/sig_parse.c and the keywords, which are in sig_content.c, sig_bytes.c, sig_header.c and
 * sig_state.c.
 */
struct dpi_parse {
	struct dpi_parse_env *env;
	struct dpi_sig *sig;
	struct pk_diag *diag;
	int sticky;    /* buffer in force, DPI_RAW for none */
	int list;      /* index of its list, -1: not made yet */
	int last_list; /* where the last item went, -1: none */
	int last_item;
	int base64_list, base64_item; /* base64_decode waits for base64_data */
	struct dpi_list *base64;      /* base64_data is in force */
	struct dpi_transform transform[DPI_TRANSFORMS_MAX];
	uint8_t nb_transforms;
	char var[DPI_VARS_MAX][32];
	bool skip, to_server, to_client;
};

enum dpi_keyword_flags {
	DPI_KW_VALUE = 1 << 0, /* must have one */
	DPI_KW_NO_VALUE = 1 << 1,
	DPI_KW_NEGATED = 1 << 2, /* "!" may stand before the value */
	DPI_KW_IP_ONLY = 1 << 3, /* says nothing that changes from packet to packet */
};

struct dpi_keyword {
	const char *name;
	/* `value` is without its quotes, "" for none.  Returns 0, -EINVAL with *p->diag, -ENOMEM. */
	int (*read)(struct dpi_parse *p, const char *value, bool negated, int arg);
	int arg;
	uint8_t flags;
};

extern const struct dpi_keyword dpi_keywords_content[], dpi_keywords_bytes[], dpi_keywords_header[],
    dpi_keywords_state[]; /* each ends with a NULL name */

/* pk_diag_set and -EINVAL. */
int dpi_refuse(struct dpi_parse *p, const char *fmt, ...) PK_PRINTF(2, 3);

/* The list an item with or without `relative` belongs to, made when there is none.  NULL: no memory. */
struct dpi_list *dpi_parse_list(struct dpi_parse *p, bool relative);
struct dpi_list *dpi_parse_list_of(struct dpi_parse *p, int buf);
/* A new last item in `l`, zeroed.  NULL: no memory. */
struct dpi_item *dpi_parse_item(struct dpi_parse *p, struct dpi_list *l, enum dpi_item_kind kind);
/* The last item when it is a content, or NULL. */
struct dpi_item *dpi_parse_last_content(struct dpi_parse *p);
struct dpi_test *dpi_parse_test(struct dpi_parse *p, enum dpi_test_kind kind);

/* "12", "0x1f", or a variable that has been extracted. */
int dpi_parse_value(struct dpi_parse *p, struct dpi_value *out, const char *text);
/* "5", "<5", ">5", "<=5", "!5", "1<>5", "1-5"; `inclusive`: of "1-5" the ends belong to it. */
int dpi_parse_range(struct dpi_parse *p, struct dpi_range *out, const char *text);
int dpi_parse_var(struct dpi_parse *p, const char *name); /* defines it; its index or -EINVAL */

/* Split `text` in place at commas, and trim; at most `max`.  Returns how many. */
unsigned int dpi_split(char *text, char **part, unsigned int max);
char *dpi_trim(char *text);
