#pragma once

#include "dpi/session.h"
#include "dpi/sig_scope.h"

/*
 * The rules of a set against one packet, its streams and its transactions.
 *
 * Order of judgement is that of the set: pass, drop, reject, alert, and who sets a bit before who asks for
 * it.  First come the rules about the packet and the stream, then those about transactions.  A rule matches
 * at most once in a packet, once in the same bytes of a stream, and once per direction of a transaction.
 *
 * Independent of segmentation: a rule whose fast pattern occurred stays a candidate of the stream or the
 * transaction until all of it has been found or the bytes are gone, and rules about the end or the absence
 * of something in a growing buffer wait for its end.
 */
#define DPI_CONFIRMS_MAX 4096 /* rules looked at in full, per packet */

struct dpi_alert {
	const struct dpi_sig *sig;
	const struct dpi_frame *frame;
	const struct dpi_session *session; /* or NULL */
	const struct dpi_tx *tx;           /* or NULL */
	unsigned int dir;                  /* 0: to the server */
	bool dropped;                      /* the packet goes no further */
};

struct dpi_detect;

struct dpi_detect_options {
	bool
	    ips; /* drop and reject are carried out: what follows in the session is not looked at */
	/* Buffers kept beside those that rules look into, read by dpi_detect_create() alone.  NULL: all are kept. */
	const struct dpi_bufs *told;
	void (*alert)(void *arg, const struct dpi_alert *a);
	void *arg;
};

/* For one lcore; `set` is borrowed. */
int dpi_detect_create(
    struct dpi_detect **out, const struct dpi_set *set, const struct dpi_detect_options *o);
void dpi_detect_destroy(struct dpi_detect *k);

/* A session begins: s->scope, and with `told` s->wanted.  To be called before its first byte is parsed. */
void dpi_detect_begin(struct dpi_detect *k, struct dpi_session *s);
/* No byte that is still to come can make a rule match. */
bool dpi_detect_over(const struct dpi_session *s);

/* `s` is NULL for what belongs to no session.  `new_bytes`: the packet has moved the stream of `dir` on.
 * Returns DPI_ACT_DROP or DPI_ACT_REJECT when the packet has to be dropped, else DPI_ACT_ALERT. */
enum dpi_action dpi_detect(struct dpi_detect *k, struct dpi_session *s, const struct dpi_frame *f,
    unsigned int dir, bool new_bytes);

/* No packets of the session will come: judge what waited for its end.  `n` is the number of the last packet. */
void dpi_detect_end(struct dpi_detect *k, struct dpi_session *s, uint64_t n, uint64_t now_ns);

const struct dpi_counts *dpi_detect_counts(const struct dpi_detect *k);
