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

/* Load, and print findings to stderr.  Returns 0 or an exit status. */
int ctl_offline_read(
    struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb);

/* The same, and get ready for questions.  Returns 0 or an exit status. */
int ctl_offline_ask(
    struct ctl_context *ctx, struct ctl_offline *o, const char *const *paths, size_t nb);

/* One line per finding on stdout (JSON with -j), or as text on stderr. */
void ctl_offline_print(const struct ctl_context *ctx, struct policy_findings *f, int to_stderr);

/* The applications a rule names; an empty list: any. */
json_t *ctl_offline_apps(const struct policy_rule *r);

/* {"policy":..., "name":..., "file":..., "line":...}, or null. */
json_t *ctl_offline_rule(const struct policy_rule *r);

/*
 * `--inventory FILE`, `--policy PATH` and the like; those two as often as wanted.  Options may stand
 * before, between or after the other words.  Each command says which it takes.
 */
#define CTL_PATHS_MAX 256

enum ctl_offline_option {
	CTL_OPT_POLICY = 1 << 0, /* and --inventory */
	CTL_OPT_PROBES = 1 << 1,
	CTL_OPT_ENDS = 1 << 2, /* --from, --to, --service */
	CTL_OPT_OUTPUT = 1 << 3,
	CTL_OPT_GROUPING = 1 << 4,
	CTL_OPT_AUDIT = 1 << 5,
	CTL_OPT_FLOWS = 1 << 6,
	CTL_OPT_BASE = 1 << 7,
	CTL_OPT_VERBOSE = 1 << 8,
	CTL_OPT_LABELS = 1 << 9,
	CTL_OPT_AT = 1 << 10,
};

struct ctl_offline_args {
	const char *paths[CTL_PATHS_MAX];    /* of --inventory and --policy */
	uint8_t is_inventory[CTL_PATHS_MAX]; /* which of them */
	size_t nb_paths;
	const char *base[CTL_PATHS_MAX];
	size_t nb_base;
	const char *probes, *from, *to, *service, *output, *by, *flows, *labels, *at;
	int verbose, audit;
	const char *words[CTL_PATHS_MAX];
	size_t nb_words;
};

/* `options`: what may be given.  Returns 0, or CTL_USAGE having said why.  argv is not changed. */
int ctl_offline_args(struct ctl_context *ctx, int argc, char **argv, unsigned int options,
    struct ctl_offline_args *out);

/* The commands.  Each returns an exit status. */
int ctl_policy_check(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_eval(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_explain(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_reach(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_exposure(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_diff(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_impact(struct ctl_context *ctx, int argc, char **argv);
int ctl_policy_recommend(struct ctl_context *ctx, int argc, char **argv);
