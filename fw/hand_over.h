#pragma once

#include "fw/path_priv.h"
#include "fw/record.h"

/*
 * Sessions of a packet path as records (fw/record.h), and records as sessions.
 */

/*
 * Read session i.  False: there is none, or it ended meanwhile.  `sequence` of the record is 0.
 * Context: any; the owner may be at work.
 */
bool fw_path_record(const struct fw_path *p, uint32_t i, uint64_t now_ns, struct fw_record *out);

/* What became of a record. */
enum fw_install {
	FW_INSTALL_DONE = 0,
	FW_INSTALL_THERE,   /* there is such a session already, and it stays */
	FW_INSTALL_REFUSED, /* by policy, the guard or a limit: *why */
	FW_INSTALL_FULL,    /* no room in the table */
	FW_INSTALL_FAULTY,  /* no wire of that number, or an address that its side cannot have */
	FW_INSTALL_COUNT,
};
const char *fw_install_name(unsigned int result);

/* The key as the parser would have made it of the opening packet, on `wire`; digests are left out. */
void fw_record_key(const struct fw_record *r, uint16_t wire, struct fw_pkt *pk);

/*
 * Take a session on.  With `rules` they are asked at once; and a session of a workload that is behind this DPU
 * on another wire comes on that wire.  Without, it waits for them: it passes nothing before.
 * Context: the owning lcore, or the control thread before the path runs.
 */
enum fw_install fw_path_install(struct fw_path *p, const struct fw_rules *rules,
    const struct fw_record *r, uint64_t now_ns, enum fw_drop *why);
