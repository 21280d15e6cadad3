#include "dpi/assemble.h"

#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"

void
dpi_assembly_fini(struct dpi_assembly *a)
{
	for (unsigned int i = 0; i < a->nb_loose; i++)
		dpi_free(a->loose[i].bytes);
	dpi_free(a->loose);
	dpi_free(a->window);
	memset(a, 0, sizeof(*a));
}

void
dpi_assembly_start(struct dpi_assembly *a, uint32_t seq)
{
	a->started = true;
	a->base = seq;
}

int64_t
dpi_assembly_offset(const struct dpi_assembly *a, uint32_t seq)
{
	return (int64_t)a->next + (int32_t)(seq - (a->base + (uint32_t)a->next));
}

uint64_t
dpi_assembly_loose(const struct dpi_assembly *a)
{
	return a->nb_loose != 0 ? a->loose[0].from : UINT64_MAX;
}

/* Do bytes[0 .. len - 1] at `from` agree with what is held at `held_from`? */
static bool
agrees(const uint8_t *bytes, uint64_t from, uint32_t len, const uint8_t *held, uint64_t held_from,
    uint64_t held_len)
{
	uint64_t lo = PK_MAX(from, held_from), hi = PK_MIN(from + len, held_from + held_len);

	return lo >= hi || memcmp(bytes + (lo - from), held + (lo - held_from), hi - lo) == 0;
}

static bool
append(struct dpi_assembly *a, const uint8_t *bytes, uint32_t len)
{
	uint32_t have = (uint32_t)(a->next - a->window_from);

	if (have + len > a->room) {
		uint32_t room = PK_MAX(a->room, 256u);

		if (have > DPI_WINDOW && have + len > DPI_WINDOW_ROOM) {
			uint32_t away = have - DPI_WINDOW;

			memmove(a->window, a->window + away, DPI_WINDOW);
			a->window_from += away;
			have = DPI_WINDOW;
		}
		while (room < have + len)
			room *= room < DPI_WINDOW ? 4 : 2;
		if (room > a->room) {
			uint8_t *more = dpi_realloc(a->window, room);

			if (more == NULL)
				return false;
			a->window = more;
			a->room = room;
		}
	}
	memcpy(a->window + have, bytes, len);
	a->next += len;
	return true;
}

/* Loose pieces that have come within reach. */
static void
collect(struct dpi_assembly *a)
{
	unsigned int n = 0;

	while (n < a->nb_loose && a->loose[n].from <= a->next) {
		struct dpi_loose *l = &a->loose[n];
		uint64_t skip = a->next - l->from;

		if (skip < l->len)
			append(a, l->bytes + skip, l->len - (uint32_t)skip);
		a->loose_bytes -= l->len;
		dpi_free(l->bytes);
		n++;
	}
	if (n > 0) {
		memmove(a->loose, a->loose + n, (a->nb_loose - n) * sizeof(*a->loose));
		a->nb_loose = (uint16_t)(a->nb_loose - n);
	}
}

/* Put bytes that no piece covers yet into the list. */
static bool
keep(struct dpi_assembly *a, uint64_t from, const uint8_t *bytes, uint32_t len)
{
	struct dpi_loose *more;
	unsigned int at = 0;
	uint8_t *copy;

	if (len == 0)
		return true;
	if (a->nb_loose == DPI_LOOSE_MAX || a->loose_bytes + len > DPI_LOOSE_BYTES)
		return false;
	more = dpi_realloc(a->loose, (a->nb_loose + 1u) * sizeof(*more));
	copy = dpi_malloc(len);
	if (more != NULL)
		a->loose = more;
	if (more == NULL || copy == NULL) {
		dpi_free(copy);
		return false;
	}
	memcpy(copy, bytes, len);
	while (at < a->nb_loose && a->loose[at].from < from)
		at++;
	memmove(a->loose + at + 1, a->loose + at, (a->nb_loose - at) * sizeof(*a->loose));
	a->loose[at] = (struct dpi_loose){ from, len, copy };
	a->nb_loose++;
	a->loose_bytes += len;
	return true;
}

static unsigned int
add_loose(struct dpi_assembly *a, uint64_t from, const uint8_t *bytes, uint32_t len)
{
	uint64_t at = from, end = from + len;
	unsigned int fate = DPI_ADD_LOOSE;

	for (unsigned int i = 0; i < a->nb_loose && at < end; i++) {
		uint64_t held_from = a->loose[i].from, held_end = held_from + a->loose[i].len;

		if (held_end <= at)
			continue;
		if (held_from > at) {
			uint64_t stop = PK_MIN(held_from, end);

			if (!keep(a, at, bytes + (at - from), (uint32_t)(stop - at)))
				return DPI_ADD_FULL;
			i++; /* it went in before this one */
		}
		if (held_from < end)
			fate |= DPI_ADD_DUPLICATE;
		at = PK_MAX(at, PK_MIN(held_end, end));
		if (held_from >= end)
			at = end;
	}
	if (at < end && !keep(a, at, bytes + (at - from), (uint32_t)(end - at)))
		return DPI_ADD_FULL;
	return fate;
}

unsigned int
dpi_assembly_add(struct dpi_assembly *a, uint32_t seq, const uint8_t *bytes, uint32_t len)
{
	int64_t signed_from = dpi_assembly_offset(a, seq);
	unsigned int fate = 0;
	uint64_t from, old = a->next;

	if (signed_from < 0) {
		uint64_t cut = (uint64_t)-signed_from;

		fate |= DPI_ADD_BEFORE;
		if (cut >= len)
			return fate;
		bytes += cut;
		len -= (uint32_t)cut;
		signed_from = 0;
	}
	from = (uint64_t)signed_from;
	if (from > a->next + (1u << 20) * 16)
		return fate | DPI_ADD_FAR;
	if (!agrees(bytes, from, len, a->window, a->window_from, a->next - a->window_from))
		return fate | DPI_ADD_CONFLICT;
	for (unsigned int i = 0; i < a->nb_loose; i++)
		if (!agrees(bytes, from, len, a->loose[i].bytes, a->loose[i].from, a->loose[i].len))
			return fate | DPI_ADD_CONFLICT;
	if (from > a->next)
		return fate | add_loose(a, from, bytes, len);
	if (from < a->next)
		fate |= DPI_ADD_DUPLICATE;
	if (from + len > a->next &&
	    !append(a, bytes + (a->next - from), (uint32_t)(from + len - a->next)))
		return fate | DPI_ADD_FULL;
	collect(a);
	return fate | (a->next != old ? DPI_ADD_NEW : 0);
}

void
dpi_assembly_skip(struct dpi_assembly *a, uint64_t to)
{
	if (to <= a->next)
		return;
	a->next = a->window_from = to;
	collect(a);
}

void
dpi_assembly_trim(struct dpi_assembly *a, uint64_t to)
{
	uint32_t have;
	uint8_t *less;

	to = PK_MAX(PK_MIN(to, a->next), a->window_from);
	have = (uint32_t)(a->next - to);
	if (have > 0) {
		if (to > a->window_from)
			memmove(a->window, a->window + (to - a->window_from), have);
		less = dpi_realloc(a->window, have);
		if (less != NULL) {
			a->window = less;
			a->room = have;
		}
	} else {
		dpi_free(a->window);
		a->window = NULL;
		a->room = 0;
	}
	a->window_from = to;
}
