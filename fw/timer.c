#include "fw/timer.h"

#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_prefetch.h>

#define CLASS_SHIFT 12
_Static_assert(FW_TIMER_SLOTS == 1 << CLASS_SHIFT, "class and slot share sixteen bits");

static inline struct fw_timer_link *
link_of(const struct fw_timer *t, uint32_t i)
{
	return (struct fw_timer_link *)((char *)t->links + (size_t)i * t->stride);
}

void
fw_timer_init(struct fw_timer *t, void *links, size_t stride, uint64_t now_ns)
{
	memset(t, 0, sizeof(*t));
	t->links = links;
	t->stride = stride;
	t->tick = now_ns >> FW_TIMER_SHIFT;
	for (unsigned int c = 0; c < FW_TIMER_CLASSES; c++)
		for (unsigned int s = 0; s < FW_TIMER_SLOTS; s++)
			t->head[c][s] = FW_TIMER_NONE;
}

static void
append(struct fw_timer *t, uint32_t i, unsigned int slot, unsigned int class)
{
	struct fw_timer_link *l = link_of(t, i);

	l->slot = (uint16_t)(class << CLASS_SHIFT | slot);
	l->next = FW_TIMER_NONE;
	if (t->head[class][slot] == FW_TIMER_NONE) {
		l->prev = FW_TIMER_NONE;
		t->head[class][slot] = i;
		t->busy[class][slot / 64] |= UINT64_C(1) << slot % 64;
	} else {
		l->prev = t->tail[class][slot];
		link_of(t, l->prev)->next = i;
	}
	t->tail[class][slot] = i;
	t->nb++;
}

void
fw_timer_add(struct fw_timer *t, uint32_t i, uint64_t due_ns, unsigned int class)
{
	uint64_t tick = (due_ns >> FW_TIMER_SHIFT) + 1; /* round up: never early */

	if (tick <= t->tick)
		tick = t->tick + 1;
	if (tick >= t->tick + FW_TIMER_SLOTS)
		tick = t->tick + FW_TIMER_SLOTS - 1;
	append(t, i, tick % FW_TIMER_SLOTS, class);
}

void
fw_timer_remove(struct fw_timer *t, uint32_t i)
{
	struct fw_timer_link *l = link_of(t, i);
	unsigned int slot = l->slot % FW_TIMER_SLOTS, class = l->slot >> CLASS_SHIFT;

	if (l->slot == FW_TIMER_UNFILED)
		return;
	if (l->prev != FW_TIMER_NONE)
		link_of(t, l->prev)->next = l->next;
	else
		t->head[class][slot] = l->next;
	if (l->next != FW_TIMER_NONE)
		link_of(t, l->next)->prev = l->prev;
	else
		t->tail[class][slot] = l->prev;
	if (t->head[class][slot] == FW_TIMER_NONE)
		t->busy[class][slot / 64] &= ~(UINT64_C(1) << slot % 64);
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

uint32_t
fw_timer_first(const struct fw_timer *t, unsigned int class)
{
	unsigned int now = t->tick % FW_TIMER_SLOTS;
	const unsigned int words = FW_TIMER_SLOTS / 64;

	/* The word of the present slot is looked at twice: from it on, and at the end up to it. */
	for (unsigned int k = 0; k <= words; k++) {
		unsigned int w = (now / 64 + k) % words;
		uint64_t busy = t->busy[class][w], from_now = UINT64_MAX << now % 64;

		if (k == 0)
			busy &= from_now;
		else if (k == words)
			busy &= ~from_now;
		if (busy != 0)
			return t->head[class][w * 64 + (unsigned int)__builtin_ctzll(busy)];
	}
	return FW_TIMER_NONE;
}

unsigned int
fw_timer_class(const struct fw_timer *t, uint32_t i)
{
	return link_of(t, i)->slot >> CLASS_SHIFT;
}

void
fw_timer_reclass(struct fw_timer *t, uint32_t i, unsigned int class)
{
	unsigned int slot = link_of(t, i)->slot % FW_TIMER_SLOTS;

	fw_timer_remove(t, i);
	append(t, i, slot, class);
}

/* Take from one list.  Returns how many. */
static unsigned int
take_list(struct fw_timer *t, unsigned int class, unsigned int slot, uint32_t *out, unsigned int n)
{
	uint32_t *head = &t->head[class][slot];
	unsigned int got = 0;

	while (got < n && *head != FW_TIMER_NONE) {
		uint32_t i = *head;
		struct fw_timer_link *l = link_of(t, i);

		*head = l->next;
		if (l->next != FW_TIMER_NONE) {
			link_of(t, l->next)->prev = FW_TIMER_NONE;
			rte_prefetch0(link_of(t, l->next));
		}
		l->slot = FW_TIMER_UNFILED;
		t->nb--;
		out[got++] = i;
	}
	if (*head == FW_TIMER_NONE)
		t->busy[class][slot / 64] &= ~(UINT64_C(1) << slot % 64);
	return got;
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
		unsigned int slot = t->tick % FW_TIMER_SLOTS;

		for (unsigned int c = 0; c < FW_TIMER_CLASSES; c++) {
			if (likely(t->head[c][slot] == FW_TIMER_NONE))
				continue;
			got += take_list(t, c, slot, out + got, n - got);
			if (t->head[c][slot] != FW_TIMER_NONE)
				return got;
		}
		if (t->tick >= now)
			return got;
		t->tick++;
	}
}
