#include "fw/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fw/path.h"

#define HUGE_PAGE ((size_t)2 << 20)

int
fw_inspect_create(struct fw_inspect **out, const struct fw_inspect_conf *conf)
{
	struct dpi_limits limits = DPI_LIMITS_DEFAULT;
	size_t at = 0, blocks, nb_blocks = (size_t)conf->nb_sessions * FW_INSPECT_BLOCKS + 64;
	struct fw_inspect *t;
	uint32_t nb_heads = 1;
	int rc;

	t = aligned_alloc(
	    PK_CACHE_LINE, (sizeof(*t) + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1));
	if (t == NULL)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	while (nb_heads < conf->nb_sessions)
		nb_heads *= 2;
	t->mask = nb_heads - 1;
	t->capacity = conf->nb_sessions;
	t->seed = conf->seed | 1;
	t->free = t->oldest = t->newest = FW_INSPECT_NONE;

	/* Places, then blocks, then the heads of chains. */
	blocks = (size_t)t->capacity * sizeof(t->at[0]);
	blocks = (blocks + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
	at = blocks + nb_blocks * DPI_BLOCK;
	t->bytes = (at + nb_heads * sizeof(t->head[0]) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	t->memory =
	    mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->memory == MAP_FAILED) {
		t->memory = NULL;
		rc = -ENOMEM;
		goto fail;
	}
	(void)madvise(t->memory, t->bytes, MADV_HUGEPAGE);
	t->at = t->memory;
	t->head = (uint32_t *)((char *)t->memory + at);
	/* Touched now, so that no packet waits for a page. */
	memset(t->memory, 0, blocks);
	memset(t->head, 0xff, nb_heads * sizeof(t->head[0]));
	limits.bytes = conf->bytes;
	limits.packets = conf->packets;
	limits.datagrams = (uint8_t)PK_MIN(conf->packets, (uint16_t)limits.datagrams);
	rc = dpi_create(&t->dpi, (char *)t->memory + blocks, nb_blocks * DPI_BLOCK, &limits);
	if (rc < 0)
		goto fail;
	*out = t;
	return 0;
fail:
	fw_inspect_destroy(t);
	return rc;
}

void
fw_inspect_destroy(struct fw_inspect *t)
{
	if (t == NULL)
		return;
	dpi_destroy(t->dpi);
	if (t->memory != NULL)
		munmap(t->memory, t->bytes);
	free(t);
}

const char *
fw_app_name(uint8_t app)
{
	if (app == FW_APP_NONE)
		return "none";
	if (app == FW_APP_CUT)
		return "cut";
	if (!fw_app_known(app))
		return "looking";
	return app == FW_APP_UNKNOWN ? "unknown" : dpi_app_name((enum dpi_app)app);
}

/* Who opens sessions does not choose their numbers, but may guess them; so the chain is not by the number alone. */
static uint32_t *
chain(const struct fw_inspect *t, uint32_t session)
{
	return &t->head[(uint32_t)(session * t->seed * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
	    t->mask];
}

struct fw_inspected *
fw_inspect_find(const struct fw_inspect *t, uint32_t session)
{
	for (uint32_t k = *chain(t, session); k != FW_INSPECT_NONE; k = t->at[k].next)
		if (t->at[k].session == session)
			return &t->at[k];
	return NULL;
}

struct fw_inspected *
fw_inspect_get(struct fw_inspect *t, uint32_t session, uint64_t now_ns)
{
	uint32_t k = t->free, *head = chain(t, session);
	struct fw_inspected *e;

	if (k == FW_INSPECT_NONE && t->fresh == t->capacity)
		return NULL;
	if (k == FW_INSPECT_NONE)
		k = t->fresh++;
	else
		t->free = t->at[k].next;
	e = &t->at[k];
	e->session = session;
	e->since_ns = now_ns;
	e->next = *head;
	*head = k;
	e->older = t->newest;
	e->newer = FW_INSPECT_NONE;
	if (t->newest != FW_INSPECT_NONE)
		t->at[t->newest].newer = k;
	else
		t->oldest = k;
	t->newest = k;
	t->nb++;
	return e;
}

void
fw_inspect_drop(struct fw_inspect *t, struct fw_inspected *e)
{
	uint32_t k = (uint32_t)(e - t->at), *link = chain(t, e->session);

	dpi_flow_fini(t->dpi, &e->flow);
	while (*link != k)
		link = &t->at[*link].next;
	*link = e->next;
	*(e->older != FW_INSPECT_NONE ? &t->at[e->older].newer : &t->oldest) = e->newer;
	*(e->newer != FW_INSPECT_NONE ? &t->at[e->newer].older : &t->newest) = e->older;
	e->next = t->free;
	t->free = k;
	t->nb--;
}

struct fw_inspected *
fw_inspect_oldest(const struct fw_inspect *t)
{
	return t->oldest != FW_INSPECT_NONE ? &t->at[t->oldest] : NULL;
}
