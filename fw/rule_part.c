#include "fw/rule_part.h"

#include <malloc.h>
#include <stdlib.h>

#define LIST_KEPT 4096 /* entries of the list of made parts that are kept between changes */

static void
part_free(struct fw_parts *m, void *part)
{
	m->nb--;
	m->bytes -= malloc_usable_size(part);
	free(part);
}

void
fw_parts_begin(struct fw_parts *m)
{
	m->epoch++;
	m->failed = false;
}

static void
made_clear(struct fw_parts *m)
{
	m->nb_made = 0;
	if (m->room_made > LIST_KEPT) {
		free(m->made);
		m->made = NULL;
		m->room_made = 0;
	}
}

struct fw_dropped *
fw_parts_commit(struct fw_parts *m)
{
	struct fw_dropped *d = m->dropped;

	PK_ASSERT(!m->failed);
	m->dropped = NULL;
	made_clear(m);
	m->epoch++; /* what was made in it is altered no more */
	return d;
}

void
fw_parts_abort(struct fw_parts *m)
{
	for (size_t i = 0; i < m->nb_made; i++)
		if (m->made[i] != NULL)
			part_free(m, m->made[i]);
	free(m->dropped);
	m->dropped = NULL;
	made_clear(m);
	m->epoch++;
}

void
fw_dropped_free(struct fw_parts *m, struct fw_dropped *d)
{
	while (d != NULL) {
		struct fw_dropped *next = d->next;

		for (size_t i = 0; i < d->nb; i++)
			part_free(m, d->part[i]);
		free(d);
		d = next;
	}
}

void
fw_parts_fini(struct fw_parts *m)
{
	PK_ASSERT(m->nb == 0 && m->bytes == 0);
	free(m->made);
	free(m->dropped);
}

void *
fw_part_new(struct fw_parts *m, size_t size)
{
	struct fw_part *p;

	if (m->nb_made == m->room_made) {
		size_t room = PK_MAX(2 * m->room_made, (size_t)256);
		void **grown = realloc(m->made, room * sizeof(*grown));

		if (grown == NULL) {
			m->failed = true;
			return NULL;
		}
		m->made = grown;
		m->room_made = room;
	}
	p = calloc(1, size);
	if (p == NULL) {
		m->failed = true;
		return NULL;
	}
	p->epoch = m->epoch;
	p->index = m->nb_made;
	m->made[m->nb_made++] = p;
	m->nb++;
	m->bytes += malloc_usable_size(p);
	return p;
}

void
fw_part_drop(struct fw_parts *m, void *part)
{
	struct fw_dropped *d = m->dropped;

	if (part == NULL)
		return;
	if (m->closing) {
		part_free(m, part);
		return;
	}
	if (fw_part_mine(m, part)) {
		m->made[((struct fw_part *)part)->index] = NULL;
		part_free(m, part);
		return;
	}
	if (d == NULL || d->nb == d->room) {
		size_t room = d != NULL ? 2 * d->room : 60;
		struct fw_dropped *grown = realloc(d, sizeof(*d) + room * sizeof(d->part[0]));

		if (grown == NULL) {
			m->failed =
			    true; /* it is lost to this list, but the change will not stay */
			return;
		}
		if (d == NULL)
			grown->nb = 0;
		grown->next = NULL;
		grown->room = room;
		m->dropped = d = grown;
	}
	d->part[d->nb++] = part;
}
