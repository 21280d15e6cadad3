#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/sig_keyword.h"

/* byte_test, byte_jump, byte_extract, byte_math: numbers that stand in the bytes. */

/* Words that several of them share.  1: read, 0: not one of them. */
static int
common_word(struct dpi_parse *p, struct dpi_item *i, const char *word)
{
	struct dpi_bytes_item *b = &i->bytes;
	unsigned int mask;

	(void)p;
	if (strcmp(word, "relative") == 0)
		i->relative = true;
	else if (strcmp(word, "big") == 0)
		b->order = DPI_BIG;
	else if (strcmp(word, "little") == 0)
		b->order = DPI_LITTLE;
	else if (strcmp(word, "dce") == 0)
		b->order = DPI_DCE;
	else if (strcmp(word, "string") == 0)
		b->base = b->base != 0 ? b->base : 10;
	else if (strcmp(word, "hex") == 0)
		b->base = 16;
	else if (strcmp(word, "dec") == 0)
		b->base = 10;
	else if (strcmp(word, "oct") == 0)
		b->base = 8;
	else if (sscanf(word, "bitmask 0x%x", &mask) == 1 || sscanf(word, "bitmask %u", &mask) == 1)
		b->mask = mask;
	else
		return 0;
	return 1;
}

static bool
has_word(const char *value, const char *word)
{
	const char *at = strstr(value, word);

	return at != NULL;
}

static struct dpi_item *
new_item(struct dpi_parse *p, const char *value, enum dpi_item_kind kind)
{
	bool relative = has_word(value, "relative");
	struct dpi_list *l;

	/* With dce and no buffer of its own it is about the stub data. */
	if (p->sticky == DPI_RAW && has_word(value, "dce") && kind != DPI_IT_BYTE_EXTRACT &&
	    p->last_list < 0)
		l = dpi_parse_list_of(p, DPI_DCE_STUB);
	else
		l = dpi_parse_list(p, relative);
	return dpi_parse_item(p, l, kind);
}

static int
check_nb(struct dpi_parse *p, const struct dpi_bytes_item *b)
{
	int64_t max = b->base != 0 ? 23 : 8;

	/* Of digits, 0 means as many as there are. */
	if (b->nb.var < 0 && (b->nb.number < (b->base == 0) || b->nb.number > max))
		return dpi_refuse(p, "can read 1 to %d bytes", (int)max);
	return 0;
}

static int
read_compare(struct dpi_parse *p, struct dpi_bytes_item *b, const char *op)
{
	static const struct {
		const char *text;
		uint8_t op;
	} known[] = { { "=", DPI_EQ }, { "", DPI_EQ }, { "<", DPI_LT }, { ">", DPI_GT },
		{ "<=", DPI_LE }, { ">=", DPI_GE }, { "&", DPI_AND }, { "^", DPI_OR } };

	if (*op == '!') {
		b->compare_not = true;
		op++;
		while (*op == ' ')
			op++;
	}
	for (size_t i = 0; i < PK_COUNT(known); i++) {
		if (strcmp(known[i].text, op) == 0) {
			b->compare = known[i].op;
			return 0;
		}
	}
	return dpi_refuse(p, "operator \"%s\" is unknown; known: = < > <= >= & ^, each with !", op);
}

static int
read_test(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[256], *part[12];
	struct dpi_item *i;
	unsigned int n;
	int rc;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 12);
	if (n < 4)
		return dpi_refuse(p, "want bytes, operator, value, offset");
	i = new_item(p, value, DPI_IT_BYTE_TEST);
	if (i == NULL)
		return -ENOMEM;
	rc = dpi_parse_value(p, &i->bytes.nb, part[0]);
	if (rc == 0)
		rc = read_compare(p, &i->bytes, part[1]);
	if (rc == 0)
		rc = dpi_parse_value(p, &i->bytes.value, part[2]);
	if (rc == 0)
		rc = dpi_parse_value(p, &i->bytes.offset, part[3]);
	for (unsigned int k = 4; rc == 0 && k < n; k++)
		if (!common_word(p, i, part[k]))
			rc = dpi_refuse(p, "\"%s\" is unknown", part[k]);
	return rc < 0 ? rc : check_nb(p, &i->bytes);
}

static int
read_jump(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[256], *part[14];
	struct dpi_item *i;
	unsigned int n;
	int rc;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 14);
	if (n < 2)
		return dpi_refuse(p, "want bytes, offset");
	i = new_item(p, value, DPI_IT_BYTE_JUMP);
	if (i == NULL)
		return -ENOMEM;
	i->bytes.multiplier = 1;
	i->bytes.post_var.var = -1;
	rc = dpi_parse_value(p, &i->bytes.nb, part[0]);
	if (rc == 0)
		rc = dpi_parse_value(p, &i->bytes.offset, part[1]);
	for (unsigned int k = 2; rc == 0 && k < n; k++) {
		int number;

		if (common_word(p, i, part[k]))
			continue;
		if (strcmp(part[k], "align") == 0)
			i->bytes.align = true;
		else if (strcmp(part[k], "from_beginning") == 0)
			i->bytes.from_beginning = true;
		else if (strcmp(part[k], "from_end") == 0)
			i->bytes.from_end = true;
		else if (sscanf(part[k], "multiplier %d", &number) == 1 && number > 0)
			i->bytes.multiplier = number;
		else if (sscanf(part[k], "post_offset %d", &number) == 1)
			i->bytes.post_var.number = number;
		else if (strncmp(part[k], "post_offset ", 12) == 0)
			rc = dpi_parse_value(p, &i->bytes.post_var, dpi_trim(part[k] + 12));
		else
			rc = dpi_refuse(p, "\"%s\" is unknown", part[k]);
	}
	if (rc == 0 && i->bytes.nb.var < 0 && i->bytes.nb.number == 0)
		return 0; /* no number: a plain move */
	return rc < 0 ? rc : check_nb(p, &i->bytes);
}

static int
read_extract(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[256], *part[14];
	struct dpi_item *i;
	unsigned int n;
	int rc, number;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 14);
	if (n < 3)
		return dpi_refuse(p, "want bytes, offset, name");
	i = new_item(p, value, DPI_IT_BYTE_EXTRACT);
	if (i == NULL)
		return -ENOMEM;
	i->bytes.multiplier = 1;
	rc = dpi_parse_value(p, &i->bytes.nb, part[0]);
	if (rc == 0)
		rc = dpi_parse_value(p, &i->bytes.offset, part[1]);
	for (unsigned int k = 3; rc == 0 && k < n; k++) {
		if (common_word(p, i, part[k]))
			continue;
		if (sscanf(part[k], "multiplier %d", &number) == 1 && number > 0)
			i->bytes.multiplier = number;
		else if (sscanf(part[k], "align %d", &number) == 1 && (number == 2 || number == 4))
			i->bytes.align_to = (uint8_t)number;
		else
			rc = dpi_refuse(p, "\"%s\" is unknown", part[k]);
	}
	if (rc == 0)
		rc = dpi_parse_var(p, part[2]);
	if (rc < 0)
		return rc;
	i->bytes.var = (int8_t)rc;
	return check_nb(p, &i->bytes);
}

static int
read_math(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[256], *part[14];
	const char *result = NULL;
	struct dpi_item *i;
	unsigned int n;
	int rc = 0;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 14);
	i = new_item(p, value, DPI_IT_BYTE_MATH);
	if (i == NULL)
		return -ENOMEM;
	i->bytes.offset.var = i->bytes.nb.var = i->bytes.value.var = -1;
	for (unsigned int k = 0; rc == 0 && k < n; k++) {
		char *space = strchr(part[k], ' ');
		const char *what = part[k];
		char *v;

		if (strcmp(what, "relative") == 0) {
			i->relative = true;
			continue;
		}
		if (strcmp(what, "dce") == 0) {
			i->bytes.order = DPI_DCE;
			continue;
		}
		if (space == NULL)
			return dpi_refuse(p, "\"%s\" wants a value", what);
		*space = '\0';
		v = dpi_trim(space + 1);
		if (strcmp(what, "bytes") == 0) {
			rc = dpi_parse_value(p, &i->bytes.nb, v);
		} else if (strcmp(what, "offset") == 0) {
			rc = dpi_parse_value(p, &i->bytes.offset, v);
		} else if (strcmp(what, "oper") == 0) {
			i->bytes.math = v[0];
			if (strchr("+-*/<>", v[0]) == NULL || v[0] == '\0' ||
			    strcmp(v + 1,
			        v[0] == '<'       ? "<"
			            : v[0] == '>' ? ">"
			                          : "") != 0)
				rc = dpi_refuse(p, "oper %s is unknown; known: + - * / << >>", v);
		} else if (strcmp(what, "rvalue") == 0) {
			rc = dpi_parse_value(p, &i->bytes.value, v);
		} else if (strcmp(what, "result") == 0) {
			result = v;
		} else if (strcmp(what, "endian") == 0) {
			rc = common_word(p, i, v) ? 0 : dpi_refuse(p, "endian %s is unknown", v);
		} else if (strcmp(what, "string") == 0) {
			rc = common_word(p, i, v) ? 0 : dpi_refuse(p, "string %s is unknown", v);
		} else if (strcmp(what, "bitmask") == 0) {
			i->bytes.mask = (uint32_t)strtoul(v, NULL, 0);
		} else {
			rc = dpi_refuse(p, "\"%s\" is unknown", what);
		}
	}
	if (rc < 0)
		return rc;
	if (result == NULL || i->bytes.math == 0)
		return dpi_refuse(p, "want bytes, offset, oper, rvalue and result");
	rc = dpi_parse_var(p, result);
	if (rc < 0)
		return rc;
	i->bytes.var = (int8_t)rc;
	return check_nb(p, &i->bytes);
}

const struct dpi_keyword dpi_keywords_bytes[] = {
	{ "byte_test", read_test, 0, DPI_KW_VALUE },
	{ "byte_jump", read_jump, 0, DPI_KW_VALUE },
	{ "byte_extract", read_extract, 0, DPI_KW_VALUE },
	{ "byte_math", read_math, 0, DPI_KW_VALUE },
	{ NULL, NULL, 0, 0 },
};
