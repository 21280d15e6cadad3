#include "fw/extra.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>

int
fw_extras_init(struct fw_extras *t, uint32_t capacity)
{
	uint32_t heads = rte_align32pow2(capacity);

	memset(t, 0, sizeof(*t));
	t->extra = calloc((size_t)capacity + 1, sizeof(t->extra[0]));
	t->head = calloc(heads, sizeof(t->head[0]));
	if (t->extra == NULL || t->head == NULL) {
		fw_extras_fini(t);
		return -ENOMEM;
	}
	t->capacity = capacity;
	t->mask = heads - 1;
	t->fresh = 1;
	return 0;
}

void
fw_extras_fini(struct fw_extras *t)
{
	free(t->extra);
	free(t->head);
	t->extra = NULL;
	t->head = NULL;
}

/* Numbers of sessions are nobody's to choose, so their low bits do. */
struct fw_extra *
fw_extras_find(const struct fw_extras *t, uint32_t i)
{
	for (uint32_t k = t->head[i & t->mask]; k != 0; k = t->extra[k].next)
		if (t->extra[k].session == i)
			return &t->extra[k];
	return NULL;
}

struct fw_extra *
fw_extras_get(struct fw_extras *t, uint32_t i)
{
	struct fw_extra *e = fw_extras_find(t, i);
	uint32_t k = t->free;

	if (e != NULL)
		return e;
	if (k != 0)
		t->free = t->extra[k].next;
	else if (t->fresh <= t->capacity)
		k = t->fresh++;
	else
		return NULL;
	e = &t->extra[k];
	memset(e, 0, sizeof(*e));
	e->session = i;
	e->next = t->head[i & t->mask];
	t->head[i & t->mask] = k;
	t->nb++;
	return e;
}

void
fw_extras_drop(struct fw_extras *t, uint32_t i)
{
	struct fw_extra *e = fw_extras_find(t, i);
	uint32_t *link = &t->head[i & t->mask];
	uint32_t k;

	if (e == NULL)
		return;
	fw_extras_wait_no_more(t, e);
	k = (uint32_t)(e - t->extra);
	while (*link != k)
		link = &t->extra[*link].next;
	*link = e->next;
	e->next = t->free;
	t->free = k;
	t->nb--;
}

void
fw_extras_wait(struct fw_extras *t, struct fw_extra *e, uint64_t again_ns)
{
	uint32_t k = (uint32_t)(e - t->extra);

	fw_extras_wait_no_more(t, e);
	e->proxy.waiting = true;
	e->proxy.again_ns = again_ns;
	e->proxy.newer = 0;
	e->proxy.older = t->newest;
	*(t->newest != 0 ? &t->extra[t->newest].proxy.newer : &t->oldest) = k;
	t->newest = k;
}

void
fw_extras_wait_no_more(struct fw_extras *t, struct fw_extra *e)
{
	struct fw_proxy *p = &e->proxy;

	if (!p->waiting)
		return;
	p->waiting = false;
	*(p->newer != 0 ? &t->extra[p->newer].proxy.older : &t->newest) = p->older;
	*(p->older != 0 ? &t->extra[p->older].proxy.newer : &t->oldest) = p->newer;
}
