#pragma once

#include <stdarg.h>

#include "lib/base.h"
#include "lib/diag.h"

struct event_base;

/*
 * The local control socket: how picketctl and scripts ask a daemon on the same machine.
 *
 * A Unix stream socket, mode 0660.  The client sends one line of words, at most
 * PK_CONTROL_LINE_MAX bytes.  The daemon answers with JSON lines and a last line {"done":0}, or
 * {"done":1,"error":"one sentence"}.  Rows are produced as fast as the client reads them, so a
 * million sessions can be listed without holding them in memory; `monitor` never ends by itself.
 */
#define PK_CONTROL_LINE_MAX  4096
#define PK_CONTROL_WORDS_MAX 64

struct pk_control;
struct pk_control_request;

struct pk_control_command {
	const char *words; /* "show sessions" */
	const char *args;  /* for help */
	const char *help;
	/* argv[0 .. argc - 1] is what follows the words.  Answer with pk_control_row(), then
	 * pk_control_done() or pk_control_refuse(), now or later.  Context: control thread. */
	void (*run)(struct pk_control_request *r, int argc, char **argv, void *arg);
};

/*
 * Listen on `path` (replacing a stale socket).  `commands` ends with .words == NULL and is borrowed.
 * Context: control thread.  Returns 0 or negative errno with *diag.
 */
int pk_control_create(struct pk_control **out, struct event_base *base, const char *path,
    const struct pk_control_command *commands, void *arg, struct pk_diag *diag);
void pk_control_destroy(struct pk_control *c); /* pending requests are cut; unlinks the path */

/* Send a row: the text of one JSON object, without newline.  Cheap; buffered. */
void pk_control_row(struct pk_control_request *r, const char *json);
void pk_control_rowf(struct pk_control_request *r, const char *fmt, ...) PK_PRINTF(2, 3);
void pk_control_done(struct pk_control_request *r);
void pk_control_refuse(struct pk_control_request *r, const char *fmt, ...) PK_PRINTF(2, 3);

/*
 * For long answers: `more` is called whenever the client has taken what was sent so far, and adds
 * the next few rows, until it ends the request.  `gone` is called once, when the request is over for
 * whatever reason, also after done; free `state` there.  Either may be NULL.
 */
void pk_control_stream(struct pk_control_request *r,
    void (*more)(struct pk_control_request *r, void *state), void (*gone)(void *state),
    void *state);

/* Call `more` again, when it had nothing to add the last time.  The request may be over after that.  Not from
 * within `more`. */
void pk_control_resume(struct pk_control_request *r);

/*
 * The file that came with the request, to read or write by itself; -1 for none.  It is open already, so a daemon
 * without rights to a directory can be handed a file in it.  A regular file, so that it does not block for long;
 * others are not taken.  Stays the request's, which closes it.
 */
int pk_control_fd(const struct pk_control_request *r);

/* Bytes accepted but not yet taken by the client: a monitor drops rows beyond some bound. */
size_t pk_control_backlog(const struct pk_control_request *r);

/* JSON text of a string with quotes, escaped, for rowf.  Returns buf; cut if it does not fit. */
const char *pk_json_string(const char *s, char *buf, size_t size);

/*
 * The client's side: send `line`, call `row` for each JSON line.  A `row` that returns non-zero ends
 * the exchange.  Blocking; context: picketctl and tests.
 * Returns 0 when done; -EREMOTEIO when the daemon refused, with its sentence in *diag; else negative
 * errno with *diag.
 */
int pk_control_ask(const char *path, const char *line, int (*row)(void *arg, const char *json),
    void *arg, struct pk_diag *diag);

/* The same with an open regular file for the daemon; fd < 0: none. */
int pk_control_ask_with(const char *path, const char *line, int fd,
    int (*row)(void *arg, const char *json), void *arg, struct pk_diag *diag);
