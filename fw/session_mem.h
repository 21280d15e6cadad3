#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

struct fw_ether;
struct fw_sessions;

/*
 * Memory of a session table that outlives the process: a file on hugetlbfs, or on tmpfs where there are no
 * huge pages, mapped and shared.  A process that is killed leaves it as it was at that instruction; the next
 * one takes it over and goes on.
 *
 *      page 0      header: what is in the file, said so that a stranger can tell whether he may read it
 *      ...         link headers (fw/ether.h), which sessions name by number
 *      ...         the table (fw/session.h), as it is in private memory
 *
 * What may have been half done when the process ended is not looked at: index, free list, timers and counts
 * are made anew from the records, each of which is checked (fw_path_restore()).  A record counts when its
 * version is odd, and that is written last.
 *
 * A file is taken over if it is of this boot (times are of a clock that starts with the machine), of this
 * layout, and ours alone: the owner's, with no rights for others, and locked.  Who can write to it decides what
 * passes until the rules have been asked, so a file that others might have written to is not touched.
 * If only sizes differ, its sessions are read out and put into the new tables one by one.
 *
 * Context of all: control thread.
 */
struct fw_session_mem;

struct fw_session_mem_conf {
	const char *path;      /* of the file */
	uint32_t capacity;     /* sessions */
	uint16_t index, count; /* which lcore's, of how many */
	uint64_t seed[2];      /* for a new table; one that is taken over keeps its own */
	uint64_t hz;           /* of the clock that session times are read from; 0: as it was */
};

/* What there was at the path. */
enum fw_session_mem_found {
	FW_SESSION_MEM_NONE =
	    0,                /* nothing, or nothing that can be used: the table is new and empty */
	FW_SESSION_MEM_KEPT,  /* sessions, to be restored in place */
	FW_SESSION_MEM_OTHER, /* sessions of a table of another size: read them with the next one */
};

/*
 * Make the file, or take it over; what cannot be used is replaced.  With FW_SESSION_MEM_OTHER the older file
 * stays at PATH.old, and fw_session_mem_open_old() gives it.  Why something was not taken over is logged.
 * The caller owns *out.  Returns 0, or negative errno with *diag: the directory cannot be used, there is not
 * the memory, or another process is at work on the file.
 */
int fw_session_mem_open(struct fw_session_mem **out, const struct fw_session_mem_conf *conf,
    enum fw_session_mem_found *found, struct pk_diag *diag);

/* The older file of that path, to read out.  The caller unlinks PATH.old when that is done.  -ENOENT: there
 * is none. */
int fw_session_mem_open_old(struct fw_session_mem **out, const char *path);

/* Unmap.  `clean`: nobody was writing any more.  The file stays. */
void fw_session_mem_close(struct fw_session_mem *m, bool clean); /* NULL is allowed */

/* Put a table, and the link headers, where they belong in it.  Contents stay.  Returns 0 or -EINVAL. */
int fw_session_mem_lay_out(struct fw_session_mem *m, struct fw_sessions *t);
struct fw_ether *fw_session_mem_ethers(struct fw_session_mem *m);

enum fw_session_mem_found fw_session_mem_found(const struct fw_session_mem *m);
bool fw_session_mem_was_clean(const struct fw_session_mem *m); /* how the last process left it */
void fw_session_mem_seed(const struct fw_session_mem *m, uint64_t seed[2]); /* of its hash */
uint32_t fw_session_mem_capacity(const struct fw_session_mem *m);
uint64_t fw_session_mem_hz(
    const struct fw_session_mem *m); /* of the process before, if kept or old */
size_t fw_session_mem_bytes(const struct fw_session_mem *m);
bool fw_session_mem_is_huge(const struct fw_session_mem *m);
