#pragma once

#include "ctl/ctl.h"

/* Signatures of picketctl dpi: what `test-pcap --rules` and `check` share. */
#define CTL_DPI_RULES_MAX 64

struct ctl_dpi_rules {
	unsigned int nb, nb_sets;
	const char *file[CTL_DPI_RULES_MAX];
	const char *set[CTL_DPI_RULES_MAX]; /* "NAME=VALUE" */
	const char *wrong;                  /* a sentence when an argument was not understood */
};

/* Take `--rules FILE` or `--set NAME=VALUE` at argv[0], which ends with NULL.  Returns 1: one more word was used. */
int ctl_dpi_rules_take(struct ctl_dpi_rules *r, char **argv);

/* Add a row for each match in a capture, or print lines when `rows` is NULL. */
int ctl_dpi_alerts(struct ctl_context *ctx, const struct ctl_dpi_rules *r, const char *path,
    struct ctl_rows *rows);

int ctl_dpi_compile(struct ctl_context *ctx, int argc, char **argv);
int ctl_dpi_check(struct ctl_context *ctx, int argc, char **argv);

/* Read a bundle, or compile a file of rules.  The caller owns *out, which is set when CTL_DONE is returned. */
struct dpi_set;
int ctl_dpi_signatures(struct ctl_context *ctx, const char *path, struct dpi_set **out);
