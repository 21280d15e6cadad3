#pragma once

#include "ctl/ctl.h"

/*
 * Who talks to whom, as a table, JSON lines, CSV (RFC 4180) or a graph for Graphviz.  Rows are those of
 * ctl_rows; for a graph each needs "src", "dst" and a label, and is drawn as an arrow.
 */
enum ctl_format {
	CTL_TABLE = 0,
	CTL_JSON,
	CTL_CSV,
	CTL_DOT,
};

/* NULL is a table, or JSON with -j.  Returns 0, or CTL_USAGE having said why. */
int ctl_format_parse(const struct ctl_context *ctx, const char *text, enum ctl_format *out);

struct ctl_report;

/* `label`: member of the row that stands on arrows; `colour`: member that holds their colour, or NULL. */
struct ctl_report *ctl_report_begin(const struct ctl_context *ctx, enum ctl_format format,
    const struct ctl_column *columns, size_t n, const char *label, const char *colour);
/* A box in the frame of its tenant; only in a graph.  Ends that were never named are the outside. */
void ctl_report_node(struct ctl_report *r, const char *name, const char *label, const char *tenant);
int ctl_report_is_graph(const struct ctl_report *r);
void ctl_report_add(struct ctl_report *r, json_t *row); /* takes the reference */
void ctl_report_end(struct ctl_report *r);              /* prints and frees */
