#include "ctl/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ctl_report {
	enum ctl_format format;
	const struct ctl_column *columns;
	size_t nb_columns;
	struct ctl_rows *rows;
	const char *label, *colour;
	json_t *tenants; /* tenant -> { name: label } */
	json_t *known;   /* names of nodes, and of the outside once said */
};

int
ctl_format_parse(const struct ctl_context *ctx, const char *text, enum ctl_format *out)
{
	static const char *const names[] = { "table", "json", "csv", "dot" };
	const char *near;

	*out = ctx->json ? CTL_JSON : CTL_TABLE;
	for (size_t i = 0; text != NULL && i < PK_COUNT(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*out = (enum ctl_format)i;
			return 0;
		}
	}
	if (text == NULL)
		return 0;
	near = pk_suggest(text, names, PK_COUNT(names));
	return ctl_usage(ctx, "unknown format \"%s\"; %s%s", text,
	    near != NULL ? "did you mean " : "want table, json, csv or dot",
	    near != NULL ? near : "");
}

/* As a field of CSV, in quotes if it needs them. */
static void
print_field(const json_t *v)
{
	const char *s = json_string_value(v);

	if (json_is_integer(v)) {
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return;
	}
	if (s == NULL)
		return;
	if (strpbrk(s, ",\"\r\n") == NULL) {
		fputs(s, stdout);
		return;
	}
	putchar('"');
	for (; *s != '\0'; s++) {
		if (*s == '"')
			putchar('"');
		putchar(*s);
	}
	putchar('"');
}

/* A quoted identifier of Graphviz. */
static void
print_id(const char *s)
{
	putchar('"');
	for (; s != NULL && *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
	putchar('"');
}

struct ctl_report *
ctl_report_begin(const struct ctl_context *ctx, enum ctl_format format,
    const struct ctl_column *columns, size_t n, const char *label, const char *colour)
{
	struct ctl_report *r = calloc(1, sizeof(*r));
	struct ctl_context own = *ctx;

	PK_ASSERT(r != NULL);
	own.json = format == CTL_JSON;
	*r = (struct ctl_report){ .format = format,
		.columns = columns,
		.nb_columns = n,
		.label = label,
		.colour = colour };
	if (format == CTL_TABLE || format == CTL_JSON)
		r->rows = ctl_rows_begin(&own, columns, n);
	r->tenants = json_object();
	r->known = json_object();
	for (size_t i = 0, first = 1; format == CTL_CSV && i < n; i++) {
		if (columns[i].heading == NULL)
			continue;
		printf("%s%s", first ? "" : ",", columns[i].key);
		first = 0;
	}
	if (format == CTL_CSV)
		fputs("\r\n", stdout);
	if (format == CTL_DOT)
		puts("digraph {");
	return r;
}

void
ctl_report_node(struct ctl_report *r, const char *name, const char *label, const char *tenant)
{
	json_t *frame;

	if (r->format != CTL_DOT)
		return;
	frame = json_object_get(r->tenants, tenant);
	if (frame == NULL) {
		frame = json_object();
		json_object_set_new(r->tenants, tenant, frame);
	}
	json_object_set_new(frame, name, json_string(label));
	json_object_set_new(r->known, name, json_true());
}

int
ctl_report_is_graph(const struct ctl_report *r)
{
	return r->format == CTL_DOT;
}

static void
draw_end(struct ctl_report *r, const char *name)
{
	if (json_object_get(r->known, name) != NULL)
		return;
	json_object_set_new(r->known, name, json_true());
	fputs("\t", stdout);
	print_id(name);
	puts(" [shape=diamond];");
}

static void
draw(struct ctl_report *r, const json_t *row)
{
	const char *src = json_string_value(json_object_get(row, "src"));
	const char *dst = json_string_value(json_object_get(row, "dst"));
	const char *colour = r->colour != NULL ? json_string_value(json_object_get(row, r->colour))
	                                       : NULL;

	if (src == NULL || dst == NULL)
		return;
	draw_end(r, src);
	draw_end(r, dst);
	fputs("\t", stdout);
	print_id(src);
	fputs(" -> ", stdout);
	print_id(dst);
	fputs(" [label=", stdout);
	print_id(json_string_value(json_object_get(row, r->label)));
	if (colour != NULL)
		printf(", color=%s, fontcolor=%s", colour, colour);
	puts("];");
}

void
ctl_report_add(struct ctl_report *r, json_t *row)
{
	PK_ASSERT(row != NULL);
	if (r->rows != NULL) {
		ctl_rows_add(r->rows, row);
		return;
	}
	if (r->format == CTL_DOT)
		draw(r, row);
	for (size_t i = 0, first = 1; r->format == CTL_CSV && i < r->nb_columns; i++) {
		if (r->columns[i].heading == NULL)
			continue;
		if (!first)
			putchar(',');
		print_field(json_object_get(row, r->columns[i].key));
		first = 0;
	}
	if (r->format == CTL_CSV)
		fputs("\r\n", stdout);
	json_decref(row);
}

void
ctl_report_end(struct ctl_report *r)
{
	const char *tenant, *name;
	json_t *frame, *label;
	unsigned int n = 0;

	if (r->rows != NULL)
		ctl_rows_end(r->rows);
	if (r->format == CTL_DOT) {
		json_object_foreach(r->tenants, tenant, frame)
		{
			printf("\tsubgraph cluster_%u {\n\t\tlabel=", n++);
			print_id(tenant);
			puts(";");
			json_object_foreach(frame, name, label)
			{
				fputs("\t\t", stdout);
				print_id(name);
				fputs(" [label=", stdout);
				print_id(json_string_value(label));
				puts("];");
			}
			puts("\t}");
		}
		puts("}");
	}
	json_decref(r->tenants);
	json_decref(r->known);
	free(r);
}
