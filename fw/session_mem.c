#include "fw/session_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "dpi/apps.h"
#include "fw/ether.h"
#include "fw/kept_file.h"
#include "fw/session.h"
#include "lib/log.h"

#define LAYOUT     3 /* counts up when a field keeps its place and changes its meaning */
#define HEADER_LEN 4096
#define HUGE_PAGE  (UINT64_C(2) << 20)

static const char magic[8] = "PKTABLE";

struct header {
	char magic[8];
	uint32_t layout;
	uint32_t capacity;
	uint64_t layout_hash;
	uint64_t bytes; /* of the whole file */
	uint64_t seed[2];
	uint64_t hz;
	uint16_t index, count;
	uint8_t boot_id[FW_BOOT_ID];
	uint64_t check; /* of all before it */
	uint32_t clean; /* 1: the process before has ended in order */
};

struct fw_session_mem {
	struct header *header; /* at the start of the mapping */
	size_t mapped;
	int fd; /* holds the lock */
	bool huge, was_clean;
	enum fw_session_mem_found found;
	uint64_t old_hz;
};

/* ---- what tells one layout from another ---- */

static uint64_t
fold(uint64_t h, uint64_t v)
{
	h ^= v;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

static uint64_t
layout_hash(void)
{
	static const size_t numbers[] = { sizeof(struct fw_key), offsetof(struct fw_key, v4),
		offsetof(struct fw_key, port), offsetof(struct fw_key, vrf),
		offsetof(struct fw_key, wire), offsetof(struct fw_key, proto),
		offsetof(struct fw_key, family), sizeof(struct fw_session),
		offsetof(struct fw_session, key), offsetof(struct fw_session, state),
		offsetof(struct fw_session, flags), offsetof(struct fw_session, scale),
		offsetof(struct fw_session, generation), offsetof(struct fw_session, seen),
		offsetof(struct fw_session, side), offsetof(struct fw_session, win),
		offsetof(struct fw_session, packets), offsetof(struct fw_session, bytes),
		sizeof(struct fw_session_cold), offsetof(struct fw_session_cold, addr),
		offsetof(struct fw_session_cold, packets), offsetof(struct fw_session_cold, bytes),
		offsetof(struct fw_session_cold, rule_id),
		offsetof(struct fw_session_cold, opened_ns),
		offsetof(struct fw_session_cold, slot_and_selector),
		offsetof(struct fw_session_cold, kin), FW_KIN_RELATED, FW_KIN_REVERSED,
		offsetof(struct fw_session_cold, care), FW_CARE_TERMS, FW_CARE_PROXY,
		FW_CARE_HELPED, FW_CARE_WATCH, FW_CARE_ESP, FW_CARE_NAMES, FW_CARE_TLS,
		sizeof(struct fw_ether), offsetof(struct fw_ether, len),
		offsetof(struct fw_ether, tci), FW_ETHERS_MAX, sizeof(struct fw_bucket),
		FW_STATE_COUNT, FW_SESSION_HI, FW_SESSION_FROM_OUTSIDE, FW_SESSION_WSCALE,
		FW_SESSION_CHALLENGED, FW_SESSION_LOOSE, FW_SESSION_SYN_R, FW_SESSION_LOG_END,
		FW_SESSION_EXTRA, offsetof(struct fw_session, app), FW_SEEN_SHIFT };
	uint64_t h = LAYOUT;

	for (size_t i = 0; i < PK_COUNT(numbers); i++)
		h = fold(h, numbers[i]);
		/* A session's application is a number of this version's list. */
#define APP(id, slug) h = fold(h, dpi_app_id(slug));
	DPI_APPS(APP)
#undef APP
	for (unsigned int s = 0; s < FW_STATE_COUNT; s++)
		for (const char *c = fw_session_state_name(s); *c != '\0'; c++)
			h = fold(h, (uint8_t)*c);
	return h;
}

static uint64_t
check_of(const struct header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	uint64_t sum = 0;

	for (size_t i = 0; i < offsetof(struct header, check); i++)
		sum = fold(sum, p[i] + 1u);
	return sum;
}

static size_t
table_at(void)
{
	size_t at = HEADER_LEN + (FW_ETHERS_MAX + 1) * sizeof(struct fw_ether);

	return (at + 4095) & ~(size_t)4095;
}

/* What is wrong with a header; NULL: its table can be read. */
static const char *
fault(const struct header *h, size_t file_bytes)
{
	uint8_t boot_id[FW_BOOT_ID];

	fw_kept_boot_id(boot_id);
	if (memcmp(h->magic, magic, sizeof(magic)) != 0 || h->check != check_of(h))
		return "no session table";
	if (h->layout != LAYOUT || h->layout_hash != layout_hash())
		return "a table of another version of picketd";
	if (memcmp(h->boot_id, boot_id, sizeof(boot_id)) != 0)
		return "a table of an earlier boot";
	if (h->bytes != file_bytes || fw_sessions_bytes(h->capacity) == 0 ||
	    table_at() + fw_sessions_bytes(h->capacity) > file_bytes)
		return "a table of a size that is not its own";
	return NULL;
}

/* ---- the file ---- */

static bool
is_huge(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == HUGETLBFS_MAGIC;
}

static struct header *
map(int fd, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	return p != MAP_FAILED ? p : NULL;
}

/* Map what is in the file, if it can be used.  NULL: it cannot, and *why says so. */
static struct header *
map_old(int fd, size_t *bytes, const char **why)
{
	struct stat st;
	struct header *h;

	*why = NULL;
	if (fstat(fd, &st) < 0 || st.st_size < HEADER_LEN)
		return NULL;
	*bytes = (size_t)st.st_size;
	h = map(fd, *bytes);
	if (h == NULL) {
		*why = "a table that cannot be mapped";
		return NULL;
	}
	*why = fault(h, *bytes);
	if (*why == NULL)
		return h;
	munmap(h, *bytes);
	return NULL;
}

/* Fill an empty file with a new table. */
static int
map_new(struct fw_session_mem *m, const struct fw_session_mem_conf *conf, struct pk_diag *diag)
{
	size_t bytes = table_at() + fw_sessions_bytes(conf->capacity);
	struct header *h;
	int rc;

	bytes = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	/* Room is taken now: a page that is not there would be a signal later. */
	rc = ftruncate(m->fd, 0) < 0 ? errno : 0;
	if (rc == 0)
		rc = posix_fallocate(m->fd, 0, (off_t)bytes);
	h = rc == 0 ? map(m->fd, bytes) : NULL;
	if (h == NULL) {
		rc = rc != 0 ? rc : errno;
		pk_diag_set(diag, "%s: no room for %u sessions, %zu MB: %s", conf->path,
		    conf->capacity, bytes >> 20, strerror(rc));
		(void)!ftruncate(m->fd, 0);
		return -rc;
	}
	*h = (struct header){
		.layout = LAYOUT,
		.capacity = conf->capacity,
		.layout_hash = layout_hash(),
		.bytes = bytes,
		.seed = { conf->seed[0], conf->seed[1] },
		.hz = conf->hz,
		.index = conf->index,
		.count = conf->count,
	};
	memcpy(h->magic, magic, sizeof(magic));
	fw_kept_boot_id(h->boot_id);
	h->check = check_of(h);
	m->header = h;
	m->mapped = bytes;
	return 0;
}

static void
keep(struct fw_session_mem *m, const struct fw_session_mem_conf *conf)
{
	m->found = FW_SESSION_MEM_KEPT;
	m->was_clean = m->header->clean == 1;
	m->old_hz = m->header->hz;
	m->header->clean = 0;
	m->header->hz = conf->hz != 0 ? conf->hz : m->old_hz;
	m->header->check = check_of(m->header);
}

int
fw_session_mem_open(struct fw_session_mem **out, const struct fw_session_mem_conf *conf,
    enum fw_session_mem_found *found, struct pk_diag *diag)
{
	struct fw_session_mem *m = calloc(1, sizeof(*m));
	char old[512];
	const char *why;
	int rc;

	if (m == NULL)
		return -ENOMEM;
	*found = FW_SESSION_MEM_NONE;
	m->fd = -1;
	rc = fw_kept_open(conf->path, true, &m->fd, diag);
	if (rc < 0)
		goto fail;
	m->huge = is_huge(m->fd);
	m->header = map_old(m->fd, &m->mapped, &why);
	if (m->header != NULL && m->header->capacity == conf->capacity &&
	    m->header->count == conf->count && m->header->index == conf->index) {
		keep(m, conf);
		*found = m->found;
		*out = m;
		return 0;
	}
	if (m->header != NULL) {
		/* The file goes on under another name, and a new one takes its place. */
		snprintf(old, sizeof(old), "%s.old", conf->path);
		munmap(m->header, m->mapped);
		close(m->fd);
		m->header = NULL;
		m->fd = -1;
		if (rename(conf->path, old) == 0)
			m->found = FW_SESSION_MEM_OTHER;
		rc = fw_kept_open(conf->path, true, &m->fd, diag);
		if (rc < 0)
			goto fail;
	} else if (why != NULL) {
		pk_warn("%s: %s; it is not taken over", conf->path, why);
	}
	rc = map_new(m, conf, diag);
	if (rc < 0)
		goto fail;
	*found = m->found;
	*out = m;
	return 0;
fail:
	fw_session_mem_close(m, false);
	return rc;
}

int
fw_session_mem_open_old(struct fw_session_mem **out, const char *path)
{
	struct fw_session_mem *m = calloc(1, sizeof(*m));
	struct pk_diag diag;
	const char *why;
	char old[512];

	if (m == NULL)
		return -ENOMEM;
	snprintf(old, sizeof(old), "%s.old", path);
	m->fd = -1;
	if (fw_kept_open(old, false, &m->fd, &diag) == 0) {
		m->huge = is_huge(m->fd);
		m->header = map_old(m->fd, &m->mapped, &why);
		if (m->header == NULL && why != NULL)
			pk_warn("%s: %s; it is not taken over", old, why);
	}
	if (m->header == NULL) {
		fw_session_mem_close(m, false);
		return -ENOENT;
	}
	m->found = FW_SESSION_MEM_OTHER;
	m->was_clean = m->header->clean == 1;
	m->old_hz = m->header->hz;
	*out = m;
	return 0;
}

void
fw_session_mem_close(struct fw_session_mem *m, bool clean)
{
	if (m == NULL)
		return;
	if (m->header != NULL) {
		m->header->clean = clean;
		munmap(m->header, m->mapped);
	}
	if (m->fd >= 0)
		close(m->fd);
	free(m);
}

int
fw_session_mem_lay_out(struct fw_session_mem *m, struct fw_sessions *t)
{
	const struct header *h = m->header;
	int rc = fw_sessions_init_at(t, (char *)m->header + table_at(), h->capacity, h->seed, 0);

	t->huge = m->huge;
	return rc;
}

struct fw_ether *
fw_session_mem_ethers(struct fw_session_mem *m)
{
	return (struct fw_ether *)((char *)m->header + HEADER_LEN);
}

enum fw_session_mem_found
fw_session_mem_found(const struct fw_session_mem *m)
{
	return m->found;
}

bool
fw_session_mem_was_clean(const struct fw_session_mem *m)
{
	return m->was_clean;
}

void
fw_session_mem_seed(const struct fw_session_mem *m, uint64_t seed[2])
{
	memcpy(seed, m->header->seed, sizeof(m->header->seed));
}

uint32_t
fw_session_mem_capacity(const struct fw_session_mem *m)
{
	return m->header->capacity;
}

uint64_t
fw_session_mem_hz(const struct fw_session_mem *m)
{
	return m->old_hz;
}

size_t
fw_session_mem_bytes(const struct fw_session_mem *m)
{
	return m->mapped;
}

bool
fw_session_mem_is_huge(const struct fw_session_mem *m)
{
	return m->huge;
}
