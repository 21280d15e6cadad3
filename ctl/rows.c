#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

#define COLUMNS_MAX 24

struct ctl_rows {
	bool json;
	const struct ctl_column *columns;
	size_t nb_columns;
	json_t **row;
	size_t nb_rows, room;
};

struct ctl_rows *
ctl_rows_begin(const struct ctl_context *ctx, const struct ctl_column *columns, size_t n)
{
	struct ctl_rows *r = calloc(1, sizeof(*r));

	PK_ASSERT(r != NULL && n <= COLUMNS_MAX);
	r->json = ctx->json;
	r->columns = columns;
	r->nb_columns = n;
	return r;
}

void
ctl_rows_add(struct ctl_rows *r, json_t *row)
{
	PK_ASSERT(row != NULL);
	if (r->json) {
		json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
		putchar('\n');
		fflush(stdout);
		json_decref(row);
		return;
	}
	if (r->nb_rows == r->room) {
		r->room = r->room != 0 ? 2 * r->room : 64;
		r->row = realloc(r->row, r->room * sizeof(*r->row));
		PK_ASSERT(r->row != NULL);
	}
	r->row[r->nb_rows++] = row;
}

/* Text of one cell; what could move the cursor of a terminal is shown as '?'. */
static const char *
cell(const json_t *row, const char *key, char *buf, size_t size)
{
	const json_t *v = json_object_get(row, key);

	switch (v != NULL ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		snprintf(buf, size, "%s", json_string_value(v));
		break;
	case JSON_INTEGER:
		snprintf(buf, size, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		break;
	case JSON_REAL:
		snprintf(buf, size, "%.3f", json_real_value(v));
		break;
	case JSON_TRUE:
		snprintf(buf, size, "yes");
		break;
	case JSON_FALSE:
		snprintf(buf, size, "no");
		break;
	default:
		snprintf(buf, size, "-");
	}
	for (char *s = buf; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
	if (buf[0] == '\0')
		snprintf(buf, size, "-");
	return buf;
}

void
ctl_rows_end(struct ctl_rows *r)
{
	size_t width[COLUMNS_MAX] = { 0 };
	char buf[1024];

	for (size_t c = 0; c < r->nb_columns; c++) {
		if (r->columns[c].heading == NULL)
			continue;
		width[c] = strlen(r->columns[c].heading);
		for (size_t i = 0; i < r->nb_rows; i++)
			width[c] = PK_MAX(
			    width[c], strlen(cell(r->row[i], r->columns[c].key, buf, sizeof(buf))));
	}
	for (size_t i = 0; i <= r->nb_rows && r->nb_rows > 0; i++) {
		size_t pad = 0;

		for (size_t c = 0; c < r->nb_columns; c++) {
			const char *text;

			if (r->columns[c].heading == NULL)
				continue;
			text = i == 0 ? r->columns[c].heading
			              : cell(r->row[i - 1], r->columns[c].key, buf, sizeof(buf));
			printf("%*s%s", (int)pad, "", text);
			pad = width[c] - strlen(text) + 2;
		}
		putchar('\n');
	}
	for (size_t i = 0; i < r->nb_rows; i++)
		json_decref(r->row[i]);
	free(r->row);
	free(r);
}
