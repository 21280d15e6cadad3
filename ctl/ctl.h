#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * picketctl: verb, noun, filter.  Each command is one row of a table in the file that implements it;
 * ctl/picketctl.c finds the row by the longest match of words and calls it.
 */
enum ctl_status {
	CTL_DONE = 0,
	CTL_REFUSED = 1, /* asked properly, and the answer is no */
	CTL_USAGE = 2,
};

struct ctl_context {
	bool json;            /* -j: JSON lines on stdout */
	const char *server;   /* -s host:port of the policy server, or NULL for the default */
	const char *run_dir;  /* -r directory of the local daemons' sockets */
	const char *identity; /* -i directory with the operator's certificate, key and CA */
	const struct ctl_command *command; /* the row that matched */
};

struct ctl_command {
	const char *words; /* "policy check" */
	const char *args;  /* "FILE..." */
	const char *help;  /* one line */
	/* argv[0 .. argc - 1] is what follows the words.  Returns the exit status. */
	int (*run)(struct ctl_context *ctx, int argc, char **argv);
};

/* Rows end with .words == NULL.  A new file adds its table here and to ctl_tables in picketctl.c. */
extern const struct ctl_command ctl_policy_commands[];   /* ctl/policy_*.c: offline */
extern const struct ctl_command ctl_replay_commands[];   /* ctl/replay.c */
extern const struct ctl_command ctl_attest_commands[];   /* ctl/attest.c: offline */
extern const struct ctl_command ctl_dpi_commands[];      /* ctl/dpi.c: offline */
extern const struct ctl_command ctl_local_commands[];    /* ctl/local.c: daemons on this machine */
extern const struct ctl_command ctl_ike_commands[];      /* ctl/ike.c: picket-iked */
extern const struct ctl_command ctl_tls_commands[];      /* ctl/tls.c: picket-tlsd */
extern const struct ctl_command ctl_sessions_commands[]; /* ctl/sessions.c: picketd's sessions */
extern const struct ctl_command ctl_server_commands[];   /* ctl/server.c: the policy server */
extern const struct ctl_command ctl_operations_commands[]; /* ctl/operations.c: the policy server */
extern const struct ctl_command ctl_attest_reference_commands[]; /* ctl/attest_reference.c */
extern const struct ctl_command ctl_identity_commands[];         /* ctl/identity.c: SVIDs */

/* "picketctl: ..." on stderr; returns CTL_USAGE or CTL_REFUSED for `return ctl_usage(...)`. */
int ctl_usage(const struct ctl_context *ctx, const char *fmt, ...) PK_PRINTF(2, 3);
int ctl_refused(const struct ctl_context *ctx, const char *fmt, ...) PK_PRINTF(2, 3);

/*
 * Ask a daemon on this machine: `words` and what was typed behind them, with an open file or fd < 0.  Each row
 * of the answer goes to `row`.  Complains by itself; returns the exit status.
 */
int ctl_ask(struct ctl_context *ctx, const char *daemon, const char *words, int argc, char **argv,
    int fd, int (*row)(void *arg, const char *json), void *arg);

/*
 * Rows of output: with -j each row is printed at once as a JSON line, otherwise rows are collected
 * and printed by ctl_rows_end() under headings, in columns as wide as they need to be.
 */
struct ctl_column {
	const char *key;     /* member of the row */
	const char *heading; /* "SRC"; NULL: only in JSON */
};

struct ctl_rows;

struct ctl_rows *ctl_rows_begin(
    const struct ctl_context *ctx, const struct ctl_column *columns, size_t n);
void ctl_rows_add(struct ctl_rows *r, json_t *row); /* takes the reference */
void ctl_rows_end(struct ctl_rows *r);              /* prints and frees */

/* Ask, and show each row as it comes. */
int ctl_show(struct ctl_context *ctx, const char *daemon, const struct ctl_column *columns,
    size_t n, const char *words, int argc, char **argv, int fd);
