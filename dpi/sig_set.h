#pragma once

#include <hs/hs.h>

#include "dpi/sig_inspect.h"
#include "dpi/sig_parse.h"

/*
 * A set of signatures, compiled: immutable once finished, shared by all lcores.
 *
 * Every rule that can has one content, its fast pattern, in the database of its group: the rules that look
 * for it in the same buffer of the same direction.  A packet asks the databases of the buffers it has, and
 * only the rules whose pattern occurred are looked at in full.  Rules without such a content (0.2 % of those
 * published), or with one shorter than DPI_FAST_MIN, which would match all the time, are listed per group
 * and always looked at.
 *
 * A database is compiled from escaped bytes by hs_compile_ext_multi(), in block mode; never through
 * Hyperscan's literal API, which misses patterns (intel/hyperscan issue 353).  No pattern ends in a long run of
 * one byte (issue 253: 240 times slower on such data).  Each database is checked against a plain search
 * before a set is accepted.
 */
#define DPI_FAST_MIN 4  /* bytes */
#define DPI_FAST_MAX 48 /* longer contents are cut: the rest is confirmed anyway */
#define DPI_FAST_RUN 8  /* that many equal bytes must not end a pattern */

/* Directions of a group. */
enum {
	DPI_DIR_SERVER = 0,
	DPI_DIR_CLIENT,
	DPI_NB_DIRS
};

/* Raw bytes have groups beside those of enum dpi_buf. */
enum {
	DPI_GROUP_STREAM = DPI_NB_BUFS, /* TCP, reassembled; and packets that are not in a stream */
	DPI_GROUP_TCP, /* payload of each packet, for rules that look at nothing else */
	DPI_GROUP_UDP,
	DPI_GROUP_OTHER,
	DPI_NB_GROUPS
};
#define DPI_GROUPS_OF_MAX 3

struct dpi_rules { /* indexes of rules, ascending */
	uint32_t nb;
	uint32_t *at;
};

struct dpi_set;

/* `refused` hears of each rule that is not honoured; `keyword` is the one at fault. */
struct dpi_set_listener {
	void (*refused)(void *arg, const char *keyword, const char *text);
	void *arg;
};

/* An empty set; takes `vars` even on failure. */
int dpi_set_create(struct dpi_set **out, struct dpi_vars *vars);
void dpi_set_destroy(struct dpi_set *s);

/* Add the rules of a file, or of text[0 .. len - 1] that came from `name`.  Lines that end in a backslash go on;
 * '#' begins a comment.  Returns how many rules were added, or negative errno with *diag. */
int dpi_set_load(
    struct dpi_set *s, const char *path, const struct dpi_set_listener *l, struct pk_diag *diag);
int dpi_set_add(struct dpi_set *s, const char *name, const char *text, size_t len,
    const struct dpi_set_listener *l, struct pk_diag *diag);

/* Order the rules, compile the databases, check them.  Returns 0, or negative
 * errno with *diag; -EILSEQ when a database does not find what a plain search finds. */
int dpi_set_finish(struct dpi_set *s, struct pk_diag *diag);

/* The same for another kind of CPU (`platform`, NULL: this one), or with databases that have been compiled before:
 * `fetch` (may be NULL) gives the one of a group, which the set takes over, or -ENOENT.  A database for a CPU that
 * this is not cannot be checked here; it is when it is loaded. */
int dpi_set_finish_with(struct dpi_set *s, const hs_platform_info_t *platform,
    int (*fetch)(void *arg, unsigned int group, unsigned int dir, hs_database_t **out), void *arg,
    struct pk_diag *diag);

/* What a set was made of, for those who write it down: its databases (NULL: the group has none), the variables that
 * were set, the text of its files. */
const hs_database_t *dpi_set_database(
    const struct dpi_set *s, unsigned int group, unsigned int dir);
void dpi_set_variables(const struct dpi_set *s,
    void (*each)(void *arg, const char *name, const char *value), void *arg);
void dpi_set_sources(const struct dpi_set *s,
    void (*each)(void *arg, const char *name, const char *text, size_t len), void *arg);

uint32_t dpi_set_nb(const struct dpi_set *s);
uint32_t dpi_set_nb_refused(const struct dpi_set *s);
const struct dpi_sig *dpi_set_sig(const struct dpi_set *s, uint32_t index);

/* The groups a rule's fast pattern is looked for in, none when it has none, and the directions (enum dpi_dirs).
 * Return how many, or a set. */
unsigned int dpi_set_groups_of(const struct dpi_sig *sig, unsigned int group[DPI_GROUPS_OF_MAX]);
unsigned int dpi_set_dirs_of(const struct dpi_sig *sig);

/* Rules without a fast pattern: about packets, and about transactions of a layer. */
const struct dpi_rules *dpi_set_packet_rules(const struct dpi_set *s);
const struct dpi_rules *dpi_set_tx_rules(const struct dpi_set *s, enum dpi_layer layer);

/* The buffers that any rule asks about. */
const struct dpi_bufs *dpi_set_wanted(const struct dpi_set *s);

size_t dpi_set_database_bytes(const struct dpi_set *s);
size_t dpi_set_nb_databases(const struct dpi_set *s);

/* Scratch of one lcore, for every database of the set. */
struct dpi_scan_room;
int dpi_scan_room_create(struct dpi_scan_room **out, const struct dpi_set *s);
void dpi_scan_room_destroy(struct dpi_scan_room *r);

/*
 * The rules whose fast pattern occurs in bytes[0 .. len - 1]: calls `hit` for each, maybe more than once.
 * When Hyperscan refuses, every rule of the group is a hit: doubt costs time, never a match.  Returns false
 * then.  Context: the lcore that owns `r`.
 */
bool dpi_set_scan(const struct dpi_set *s, struct dpi_scan_room *r, unsigned int group,
    unsigned int dir, const uint8_t *bytes, uint32_t len, void (*hit)(void *arg, uint32_t rule),
    void *arg);
/* Longest pattern of a group, 0 when it has none: how far to go back in a stream. */
uint32_t dpi_set_longest(const struct dpi_set *s, unsigned int group, unsigned int dir);
