#include "fw/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_spinlock.h>

#include "fw/kept_file.h"
#include "fw/siphash.h"
#include "lib/base.h"
#include "lib/log.h"

#define WAYS 8

#define LAYOUT    1 /* counts up when a field changes its meaning */
#define HUGE_PAGE (UINT64_C(2) << 20)

/* At the beginning of the memory, a file's or our own. */
struct header {
	char magic[8];
	uint32_t layout, entry_size;
	uint32_t mask; /* of the sets of WAYS entries */
	uint32_t zero;
	uint64_t key[2];
	uint8_t boot_id[FW_BOOT_ID];
};

struct fw_names {
	rte_spinlock_t lock;
	_Atomic uint32_t nb;
	uint32_t mask;
	struct header *header;
	struct fw_names_entry *entry; /* behind it; nb 0: free */
	size_t bytes;                 /* of both */
	int fd;                       /* holds the lock of the file; -1: none */
};

static const char magic[8] = "PKNAMES";

static size_t
entries_at(void)
{
	return PK_MAX(sizeof(struct header), (size_t)4096);
}

/* Memory of the file, with what was in it or zero.  Returns 0 or negative errno. */
static int
map_file(struct fw_names *t, const char *path)
{
	struct pk_diag diag;
	struct stat st;
	int rc = fw_kept_open(path, true, &t->fd, &diag);

	if (rc < 0) {
		pk_warn("%s", diag.text);
		t->fd = -1;
		return rc;
	}
	if (fstat(t->fd, &st) == 0 && (uint64_t)st.st_size != t->bytes)
		rc = ftruncate(t->fd, 0) < 0 ? errno : 0;
	/* Room is taken now: a page that is not there would be a signal later. */
	if (rc == 0)
		rc = posix_fallocate(t->fd, 0, (off_t)t->bytes);
	if (rc == 0)
		t->header = mmap(
		    NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, t->fd, 0);
	if (rc == 0 && t->header != MAP_FAILED)
		return 0;
	pk_warn("%s: no room for names that are to outlive picketd: %s", path,
	    strerror(rc != 0 ? rc : errno));
	t->header = NULL;
	close(t->fd);
	t->fd = -1;
	return -ENOMEM;
}

/* What the process before has left: whatever was half written when it ended is left out. */
static void
take_over(struct fw_names *t)
{
	for (size_t i = 0; i < ((size_t)t->mask + 1) * WAYS; i++) {
		struct fw_names_entry *e = &t->entry[i];

		if (e->nb > FW_NAMED_MAX || (e->addr.family != 4 && e->addr.family != 6) ||
		    (e->asker.family != 0 && e->asker.family != e->addr.family))
			e->nb = 0;
		t->nb += e->nb != 0;
	}
}

int
fw_names_create(struct fw_names **out, uint32_t room, const uint64_t seed[2], const char *path)
{
	struct fw_names *t = calloc(1, sizeof(*t));
	struct header want = { .layout = LAYOUT, .entry_size = sizeof(struct fw_names_entry) };
	uint32_t sets = 1;

	if (t == NULL)
		return -ENOMEM;
	while (sets * WAYS < PK_MIN(room, FW_NAMES_MAX))
		sets *= 2;
	memcpy(want.magic, magic, sizeof(magic));
	want.mask = t->mask = sets - 1;
	fw_kept_boot_id(want.boot_id);
	t->fd = -1;
	t->bytes = entries_at() + (size_t)sets * WAYS * sizeof(t->entry[0]);
	t->bytes = (t->bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	if (path == NULL || map_file(t, path) < 0)
		t->header = mmap(
		    NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->header == MAP_FAILED) {
		free(t);
		return -ENOMEM;
	}
	t->entry = (struct fw_names_entry *)((char *)t->header + entries_at());
	want.key[0] = t->header->key[0];
	want.key[1] = t->header->key[1];
	if (memcmp(t->header, &want, sizeof(want)) == 0) {
		take_over(t);
	} else {
		if (t->fd >= 0)
			memset(t->header, 0, t->bytes);
		want.key[0] = seed[0];
		want.key[1] = seed[1];
		*t->header = want;
	}
	rte_spinlock_init(&t->lock);
	*out = t;
	return 0;
}

void
fw_names_destroy(struct fw_names *t)
{
	if (t == NULL)
		return;
	munmap(t->header, t->bytes);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

static struct fw_names_entry *
ways(
    const struct fw_names *t, uint32_t vrf, const struct pk_addr *asker, const struct pk_addr *addr)
{
	uint64_t words[5];

	memcpy(words, addr->bytes, 16);
	memcpy(words + 2, asker->bytes, 16);
	words[4] = (uint64_t)vrf << 32 | (uint64_t)asker->family << 8 | addr->family;
	return &t->entry[(fw_siphash(t->header->key, words, 5) & t->mask) * WAYS];
}

static struct fw_names_entry *
find(
    const struct fw_names *t, uint32_t vrf, const struct pk_addr *asker, const struct pk_addr *addr)
{
	struct fw_names_entry *e = ways(t, vrf, asker, addr);

	for (unsigned int i = 0; i < WAYS; i++)
		if (e[i].nb != 0 && e[i].vrf == vrf && pk_addr_compare(&e[i].addr, addr) == 0 &&
		    pk_addr_compare(&e[i].asker, asker) == 0)
			return &e[i];
	return NULL;
}

static uint64_t
lasts(const struct fw_names_entry *e)
{
	uint64_t until = 0;

	for (uint32_t i = 0; i < e->nb; i++)
		until = PK_MAX(until, e->in[i].until_ns);
	return until;
}

/* A place for another address: a free one, or that of what has run out longest ago. */
static struct fw_names_entry *
make_room(struct fw_names *t, struct fw_names_entry *e, uint64_t now_ns)
{
	struct fw_names_entry *oldest = NULL;

	for (unsigned int i = 0; i < WAYS; i++) {
		if (e[i].nb == 0) {
			atomic_fetch_add_explicit(&t->nb, 1, memory_order_relaxed);
			return &e[i];
		}
		if (lasts(&e[i]) <= now_ns && (oldest == NULL || lasts(&e[i]) < lasts(oldest)))
			oldest = &e[i];
	}
	return oldest;
}

static bool
add_pattern(struct fw_names_entry *e, uint64_t pattern, uint64_t now_ns, uint64_t until_ns)
{
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < e->nb; i++) {
		if (e->in[i].pattern == pattern) {
			e->in[i].until_ns = PK_MAX(e->in[i].until_ns, until_ns);
			return true;
		}
		if (e->in[i].until_ns < e->in[oldest].until_ns)
			oldest = i;
	}
	if (e->nb < FW_NAMED_MAX)
		oldest = e->nb++;
	else if (e->in[oldest].until_ns > now_ns)
		return false;
	e->in[oldest].pattern = pattern;
	e->in[oldest].until_ns = until_ns;
	return true;
}

bool
fw_names_learn(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, const struct fw_named *named, uint64_t now_ns, uint64_t until_ns)
{
	static const struct pk_addr all;
	struct fw_names_entry *e;
	bool kept = true;

	if (asker == NULL)
		asker = &all;
	rte_spinlock_lock(&t->lock);
	e = find(t, vrf, asker, addr);
	if (e == NULL) {
		e = make_room(t, ways(t, vrf, asker, addr), now_ns);
		if (e != NULL)
			*e = (struct fw_names_entry){ .vrf = vrf, .addr = *addr, .asker = *asker };
	}
	for (uint32_t i = 0; e != NULL && i < named->nb; i++)
		kept &= add_pattern(e, named->pattern[i], now_ns, until_ns);
	rte_spinlock_unlock(&t->lock);
	return e != NULL && kept;
}

static void
collect(const struct fw_names_entry *e, bool held, uint64_t now_ns, struct fw_named *out)
{
	for (uint32_t i = 0; e != NULL && i < e->nb && out->nb < FW_NAMED_MAX; i++) {
		uint32_t k = 0;

		if (!held && e->in[i].until_ns <= now_ns)
			continue;
		while (k < out->nb && out->pattern[k] != e->in[i].pattern)
			k++;
		if (k == out->nb)
			out->pattern[out->nb++] = e->in[i].pattern;
	}
}

void
fw_names_find(struct fw_names *t, uint32_t vrf, const struct pk_addr *asker,
    const struct pk_addr *addr, bool held, uint64_t now_ns, struct fw_named *out)
{
	static const struct pk_addr all;

	out->nb = 0;
	if (fw_names_nb(t) == 0)
		return;
	rte_spinlock_lock(&t->lock);
	collect(find(t, vrf, &all, addr), held, now_ns, out);
	collect(find(t, vrf, asker, addr), held, now_ns, out);
	rte_spinlock_unlock(&t->lock);
}

uint32_t
fw_names_nb(const struct fw_names *t)
{
	return atomic_load_explicit(&t->nb, memory_order_relaxed);
}

bool
fw_names_next(struct fw_names *t, uint32_t *at, struct fw_names_entry *out)
{
	bool found = false;

	rte_spinlock_lock(&t->lock);
	for (; *at < (t->mask + 1) * WAYS && !found; *at += !found) {
		found = t->entry[*at].nb != 0;
		if (found)
			*out = t->entry[*at];
	}
	rte_spinlock_unlock(&t->lock);
	return found;
}
