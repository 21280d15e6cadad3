#pragma once

#include "ctl/ctl.h"
#include "policy/query.h"

/*
 * Policy questions answered from files, without any daemon.  What the rows of ctl_policy_commands
 * share, and what a command that usually asks the server may fall back to.
 */
struct ctl_offline {
	struct policy_findings *findings;
	struct policy_model *model;
	struct policy_ids *ids;
	struct policy_table *table; /* NULL until compiled */
	struct policy_query *query; /* NULL until asked for */
};

/* Context: start of a command.  Returns 0 or -ENOMEM. */
int ctl_offline_init(struct ctl_offline *o);
void ctl_offline_fini(struct ctl_offline *o);

/*
 * Read the files and compile them.  Findings stay in o->findings.
 * Returns 0, -EINVAL when there are errors, or -ENOMEM.
 */
int ctl_offline_load(struct ctl_offline *o, const char *const *paths, size_t nb);

/* Load, print findings to stderr, and get ready for questions.  Returns 0 or an exit status. */
int ctl_offline_ask(
    struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb);

/* One line per finding on stdout (JSON with -j), or as text on stderr. */
void ctl_offline_print(const struct ctl_context *ctx, struct policy_findings *f, int to_stderr);

/* {"policy":..., "name":..., "file":..., "line":...}, or null. */
json_t *ctl_offline_rule(const struct policy_rule *r);

/*
 * `--inventory FILE`, `--policy PATH` and the like, as often as wanted.  Options may stand before,
 * between or after the other words.
 */
#define CTL_PATHS_MAX 256

struct ctl_offline_args {
	const char *paths[CTL_PATHS_MAX]; /* of --inventory and --policy */
	size_t nb_paths;
	const char *probes;
	const char *words[CTL_PATHS_MAX];
	size_t nb_words;
};

/* Returns 0, or CTL_USAGE having said why.  argv is not changed. */
int ctl_offline_args(struct ctl_context *ctx, int argc, char **argv, struct ctl_offline_args *out);

/* The commands.  Each returns an exit status. */
int ctl_policy_check(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_eval(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_explain(struct ctl_context *ctx, int argc, char **argv);
