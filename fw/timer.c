#include "fw/timer.h"

#include <rte_prefetch.h>

static inline struct fw_timer_link *
link_of(const struct fw_timer *t, uint32_t i)
{
	return (struct fw_timer_link *)((char *)t->links + (size_t)i * t->stride);
}

void
fw_timer_init(struct fw_timer *t, void *links, size_t stride, uint64_t now_ns)
{
	t->links = links;
	t->stride = stride;
	t->tick = now_ns >> FW_TIMER_SHIFT;
	t->nb = 0;
	for (unsigned int s = 0; s < FW_TIMER_SLOTS; s++)
		t->head[s] = FW_TIMER_NONE;
}

void
fw_timer_add(struct fw_timer *t, uint32_t i, uint64_t due_ns)
{
	struct fw_timer_link *l = link_of(t, i);
	uint64_t tick = (due_ns >> FW_TIMER_SHIFT) + 1; /* round up: never early */
	uint16_t slot;

	if (tick <= t->tick)
		tick = t->tick + 1;
	if (tick >= t->tick + FW_TIMER_SLOTS)
		tick = t->tick + FW_TIMER_SLOTS - 1;
	slot = (uint16_t)(tick % FW_TIMER_SLOTS);
	l->slot = slot;
	l->prev = FW_TIMER_NONE;
	l->next = t->head[slot];
	if (l->next != FW_TIMER_NONE)
		link_of(t, l->next)->prev = i;
	t->head[slot] = i;
	t->nb++;
}

void
fw_timer_remove(struct fw_timer *t, uint32_t i)
{
	struct fw_timer_link *l = link_of(t, i);

	if (l->slot == FW_TIMER_UNFILED)
		return;
	if (l->prev != FW_TIMER_NONE)
		link_of(t, l->prev)->next = l->next;
	else
		t->head[l->slot] = l->next;
	if (l->next != FW_TIMER_NONE)
		link_of(t, l->next)->prev = l->prev;
	l->slot = FW_TIMER_UNFILED;
	t->nb--;
}

uint64_t
fw_timer_filed_ns(const struct fw_timer *t, uint32_t i)
{
	const struct fw_timer_link *l = link_of(t, i);

	if (l->slot == FW_TIMER_UNFILED)
		return 0;
	return (t->tick + (l->slot - t->tick) % FW_TIMER_SLOTS) << FW_TIMER_SHIFT;
}

unsigned int
fw_timer_take(struct fw_timer *t, uint64_t now_ns, uint32_t *out, unsigned int n)
{
	uint64_t now = now_ns >> FW_TIMER_SHIFT;
	unsigned int got = 0;

	if (t->nb == 0 && now > t->tick)
		t->tick = now;
	/* After a long sleep once round the wheel finds everything there is. */
	if (now > t->tick + FW_TIMER_SLOTS)
		t->tick = now - FW_TIMER_SLOTS;
	for (;;) {
		uint32_t *head = &t->head[t->tick % FW_TIMER_SLOTS];

		while (*head != FW_TIMER_NONE) {
			uint32_t i = *head;
			struct fw_timer_link *l = link_of(t, i);

			if (got == n)
				return got;
			*head = l->next;
			if (l->next != FW_TIMER_NONE) {
				link_of(t, l->next)->prev = FW_TIMER_NONE;
				rte_prefetch0(link_of(t, l->next));
			}
			l->slot = FW_TIMER_UNFILED;
			t->nb--;
			out[got++] = i;
		}
		if (t->tick >= now)
			return got;
		t->tick++;
	}
}
