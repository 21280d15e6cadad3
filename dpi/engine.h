#pragma once

#include "dpi/detect.h"

/*
 * Full inspection of captured packets, from the link layer up: what `picketctl dpi test-pcap --rules` runs.
 * The packet path has sessions, fragments and TCP states of its own and calls dpi_detect() itself.
 *
 * Sequence per packet: decode, reassemble fragments, find the session, follow TCP, take the segment into its
 * stream (or refuse it: conflicts, bad checksums, old timestamps), parse, detect.
 */
enum dpi_checksums {
	DPI_CHECKSUM_IGNORE = 0,
	DPI_CHECKSUM_VERIFY
};

struct dpi_engine_options {
	uint8_t checksums; /* enum dpi_checksums; a segment that fails is not part of any stream */
	bool midstream;    /* follow sessions whose beginning was not seen */
	bool async;        /* sessions of which one direction is seen */
	uint64_t depth;    /* bytes of each direction that are inspected, 0 for all */
	struct dpi_detect_options detect;
};

struct dpi_engine_counts {
	uint64_t packets, invalid, conflicts, bad_checksums, old_timestamps, full, dropped,
	    sessions;
};

struct dpi_engine;

int dpi_engine_create(
    struct dpi_engine **out, const struct dpi_set *set, const struct dpi_engine_options *o);
void dpi_engine_destroy(struct dpi_engine *e);

/* Packet number n (from 1) of a capture with that link type (dpi/decode.h). */
void dpi_engine_packet(struct dpi_engine *e, uint64_t n, uint64_t time_ns, unsigned int link,
    const uint8_t *bytes, uint32_t len);
/* No packets will come: judge what waited for its end. */
void dpi_engine_end(struct dpi_engine *e);

const struct dpi_engine_counts *dpi_engine_counts(const struct dpi_engine *e);
const struct dpi_counts *dpi_engine_detect_counts(const struct dpi_engine *e);
