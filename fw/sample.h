#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fw/drop.h"
#include "fw/path.h"

/*
 * For each reason the start of a packet that it dropped lately, so that whoever sees a counter rise can see what kind of
 * packet makes it rise.
 *
 * It is the first one in each millisecond, not the very last: in a flood a refused packet costs a comparison and no
 * more.  The bytes are kept as they came, and are only read, by the parser that refused them, when somebody asks.
 *
 * One lcore writes; any thread reads, by a version that is odd while an entry is being written.
 */
#define FW_SAMPLE_BYTES 96

struct fw_sample {
	uint64_t time_ns; /* of its burst */
	uint32_t len;     /* bytes of the frame */
	uint16_t nb;      /* of these, kept in bytes[] */
	uint16_t wire;
	uint8_t from; /* enum fw_side */
	uint8_t bytes[FW_SAMPLE_BYTES];
};

struct fw_samples;
struct fw_overlay;
struct rte_mbuf;

/* `overlay`: the tunnels to look into, borrowed, NULL for none.  Context: control thread.  The caller owns *out.
 * Returns 0 or -ENOMEM. */
int fw_samples_create(struct fw_samples **out, const struct fw_overlay *overlay);
void fw_samples_destroy(struct fw_samples *t); /* NULL is allowed */

/* `why` drops m, received on side `from` of `wire` at `now_ns`.  Context: the owning lcore. */
void fw_samples_note(struct fw_samples *t, enum fw_drop why, const struct rte_mbuf *m,
    uint16_t wire, enum fw_side from, uint64_t now_ns);

/* The sample of a reason.  False: there is none.  Context: any. */
bool fw_samples_read(const struct fw_samples *t, enum fw_drop why, struct fw_sample *out);

/*
 * "inside of wire 0: 198.51.100.1:1024 > 203.0.113.1:443 tcp S, 60 bytes"; what has no IP header is told by its link
 * header.  Returns buf.  Context: any.
 */
#define FW_SAMPLE_TEXT 224
const char *fw_sample_text(
    const struct fw_samples *t, const struct fw_sample *s, char buf[FW_SAMPLE_TEXT]);
