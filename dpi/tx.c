#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/session.h"

#define TX_MAX    256 /* open ones of a session; the oldest is closed for a new one */
#define SLOTS_MAX 256 /* of a transaction */

struct dpi_tx *
dpi_tx_new(struct dpi_session *s, enum dpi_layer layer)
{
	struct dpi_tx *tx = dpi_calloc(1, sizeof(*tx)), **at = &s->tx;
	unsigned int n = 0;

	if (tx == NULL)
		return NULL;
	tx->wanted = s->wanted;
	tx->layer = (uint8_t)layer;
	tx->id = s->nb_tx++;
	for (; *at != NULL; at = &(*at)->next)
		n++;
	if (n >= TX_MAX)
		for (unsigned int d = 0; d < 2; d++)
			dpi_tx_done(s->tx, d);
	*at = tx;
	return tx;
}

void
dpi_tx_free(struct dpi_tx *tx)
{
	if (tx == NULL)
		return;
	for (unsigned int i = 0; i < tx->nb_slots; i++)
		if (!tx->slot[i].lent)
			dpi_free(tx->slot[i].bytes);
	dpi_free(tx->slot);
	dpi_free(tx->candidate);
	dpi_free(tx->alerted);
	dpi_free(tx);
}

bool
dpi_tx_wants(const struct dpi_tx *tx, enum dpi_buf buf)
{
	return tx->wanted == NULL || dpi_bufs_has(tx->wanted, buf);
}

struct dpi_slot *
dpi_tx_slot(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir)
{
	for (unsigned int i = tx->nb_slots; i-- > 0;)
		if (tx->slot[i].buf == buf && tx->slot[i].dir == dir)
			return &tx->slot[i];
	return NULL;
}

static struct dpi_slot *
slot_new(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir)
{
	struct dpi_slot *more;

	if (tx->nb_slots == SLOTS_MAX)
		return NULL;
	if ((tx->nb_slots & (tx->nb_slots + 1)) == 0) {
		more = dpi_realloc(tx->slot, (2u * tx->nb_slots + 2) * sizeof(*more));
		if (more == NULL)
			return NULL;
		tx->slot = more;
	}
	more = &tx->slot[tx->nb_slots++];
	memset(more, 0, sizeof(*more));
	more->buf = (uint8_t)buf;
	more->dir = (uint8_t)dir;
	tx->touched[dir] = true;
	return more;
}

static void
slot_add(struct dpi_slot *s, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	if (s->len + len > s->room) {
		uint32_t room = PK_MAX((uint32_t)(s->len + len), s->room * 2);
		uint8_t *more = dpi_realloc(s->bytes, room);

		if (more == NULL)
			return;
		s->bytes = more;
		s->room = room;
	}
	memcpy(s->bytes + s->len, bytes, len);
	s->len += (uint32_t)len;
}

void
dpi_tx_put(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const void *bytes, size_t len)
{
	struct dpi_slot *s;

	if (tx == NULL || !dpi_tx_wants(tx, buf) ||
	    (!(dpi_buf_info[buf].flags & DPI_BUF_SEVERAL) && dpi_tx_slot(tx, buf, dir) != NULL))
		return;
	s = slot_new(tx, buf, dir);
	if (s == NULL)
		return;
	slot_add(s, bytes, len);
	s->complete = true;
}

/* The slot that grows, or NULL. */
static struct dpi_slot *
slot_open(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, uint32_t limit)
{
	struct dpi_slot *s;

	if (tx == NULL || !dpi_tx_wants(tx, buf))
		return NULL;
	s = dpi_tx_slot(tx, buf, dir);
	if (s == NULL ||
	    (s->complete && dpi_buf_info[buf].flags & DPI_BUF_SEVERAL && s->len < limit))
		s = slot_new(tx, buf, dir);
	return s == NULL || s->complete ? NULL : s;
}

void
dpi_tx_grow(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const void *bytes, size_t len,
    uint32_t limit)
{
	struct dpi_slot *s = slot_open(tx, buf, dir, limit);

	if (s == NULL || bytes == NULL)
		return;
	slot_add(s, bytes, PK_MIN(len, (size_t)(limit - s->len)));
	s->complete = s->len >= limit;
	tx->touched[dir] = true;
}

/* Copy what the stream has lent.  When there is no memory it is lost. */
static void
slot_own(struct dpi_session *s, struct dpi_slot *slot)
{
	const uint8_t *bytes = dpi_slot_bytes(s, slot);
	uint32_t len = slot->len;

	slot->lent = false;
	slot->bytes = NULL;
	slot->len = slot->room = 0;
	slot_add(slot, bytes, len);
	slot->scanned = PK_MIN(slot->scanned, slot->len);
}

void
dpi_tx_lend(struct dpi_session *s, struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir,
    const uint8_t *bytes, size_t len, uint32_t limit)
{
	const struct dpi_assembly *a = &s->side[dir].stream;
	struct dpi_slot *slot = slot_open(tx, buf, dir, limit);
	uint64_t at;

	if (slot == NULL || bytes == NULL)
		return;
	len = PK_MIN(len, (size_t)(limit - slot->len));
	if (a->window != NULL && bytes >= a->window && bytes + len <= dpi_assembly_at(a, a->next)) {
		at = a->window_from + (uint64_t)(bytes - a->window);
		if (slot->len == 0 && !slot->lent) {
			dpi_free(slot->bytes);
			slot->room = 0;
			slot->lent = true;
			slot->at = at;
		}
		if (slot->lent && slot->at + slot->len == at) {
			slot->len += (uint32_t)len;
			slot->complete = slot->len >= limit;
			tx->touched[dir] = true;
			return;
		}
	}
	if (slot->lent)
		slot_own(s, slot);
	dpi_tx_grow(tx, buf, dir, bytes, len, limit);
}

void
dpi_session_keep(struct dpi_session *s, unsigned int dir)
{
	for (struct dpi_tx *tx = s->tx; tx != NULL; tx = tx->next)
		for (unsigned int i = 0; i < tx->nb_slots; i++)
			if (tx->slot[i].lent && tx->slot[i].dir == dir)
				slot_own(s, &tx->slot[i]);
}

void
dpi_tx_done(struct dpi_tx *tx, unsigned int dir)
{
	if (tx == NULL || tx->done[dir])
		return;
	for (unsigned int i = 0; i < tx->nb_slots; i++)
		if (tx->slot[i].dir == dir)
			tx->slot[i].complete = true;
	tx->done[dir] = true;
	tx->touched[dir] = true;
}

void
dpi_tx_event(struct dpi_tx *tx, enum dpi_event event, unsigned int dir)
{
	if (tx == NULL)
		return;
	dpi_event_set(&tx->events, event);
	tx->touched[dir] = true;
}

bool
dpi_pending_add(struct dpi_pending *p, const uint8_t *bytes, uint32_t len, uint32_t limit)
{
	if (len > limit || p->len > limit - len)
		return false;
	if (p->len + len > p->room) {
		uint32_t room = PK_MAX(p->len + len, p->room * 2);
		uint8_t *more = dpi_realloc(p->bytes, room);

		if (more == NULL)
			return false;
		p->bytes = more;
		p->room = room;
	}
	if (len > 0)
		memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
	return true;
}

void
dpi_pending_eat(struct dpi_pending *p, uint32_t len)
{
	if (len == 0)
		return;
	memmove(p->bytes, p->bytes + len, p->len - len);
	p->len -= len;
}
