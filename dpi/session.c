#include "dpi/session.h"

#include <string.h>

#include "dpi/heap.h"

void
dpi_session_init(struct dpi_session *s, const struct pk_addr addr[2], const uint16_t port[2],
    uint8_t proto, struct dpi_expect *expect)
{
	memset(s, 0, sizeof(*s));
	for (unsigned int d = 0; d < 2; d++) {
		s->addr[d] = addr[d];
		s->port[d] = port[d];
		s->side[d].wscale = -1;
	}
	s->proto = proto;
	s->expect = expect;
	for (unsigned int i = 0; proto == 6 && expect != NULL && i < expect->nb; i++) {
		if (expect->at[i].port != s->port[1] ||
		    pk_addr_compare(&expect->at[i].addr, &s->addr[1]) != 0)
			continue;
		s->announced = dpi_malloc(sizeof(*s->announced));
		if (s->announced == NULL)
			return;
		*s->announced = expect->at[i].what;
		s->layer = s->side[0].layer = s->side[1].layer = DPI_LAYER_FTP_DATA;
		s->ops = dpi_layer_ops(DPI_LAYER_FTP_DATA);
		if (s->ops->open(s) < 0)
			s->ops = NULL;
		expect->at[i] = expect->at[--expect->nb];
		return;
	}
}

void
dpi_session_fini(struct dpi_session *s)
{
	if (s->ops != NULL && s->state != NULL)
		s->ops->close(s);
	while (s->tx != NULL) {
		struct dpi_tx *tx = s->tx;

		s->tx = tx->next;
		dpi_tx_free(tx);
	}
	for (unsigned int d = 0; d < 2; d++) {
		dpi_assembly_fini(&s->side[d].stream);
		dpi_free(s->side[d].candidate);
		dpi_free(s->side[d].judged);
	}
	dpi_free(s->announced);
	dpi_free(s->bits);
	dpi_free(s->ints);
	s->ops = NULL;
	s->state = NULL;
	s->announced = NULL;
	s->bits = NULL;
	s->ints = NULL;
}

/* A parser may hold on to its newest transaction until the end. */
static bool
is_over(const struct dpi_session *s, const struct dpi_tx *tx)
{
	return tx->done[0] && tx->done[1] && !tx->touched[0] && !tx->touched[1] &&
	    (tx->next != NULL || s->state == NULL);
}

void
dpi_session_retire(struct dpi_session *s)
{
	struct dpi_tx **at = &s->tx;

	while (*at != NULL) {
		struct dpi_tx *tx = *at;

		if (is_over(s, tx)) {
			if (s->state != NULL && s->ops != NULL && s->ops->forget != NULL)
				s->ops->forget(s, tx);
			*at = tx->next;
			dpi_tx_free(tx);
		} else {
			at = &tx->next;
		}
	}
}

static void
rest_side(struct dpi_session *s, struct dpi_side *d, uint32_t back)
{
	struct dpi_assembly *a = &d->stream;
	uint64_t to = a->next > back ? a->next - back : 0;
	bool parsing = s->ops != NULL || s->layer == DPI_LAYER_NONE;

	for (uint32_t i = 0; i < d->nb_candidates; i++)
		if (d->candidate[i] & DPI_CANDIDATE_OPEN)
			to = 0; /* a rule is half matched */
	if (parsing)
		to = PK_MIN(to, d->parsed);
	if (PK_MIN(PK_MIN(to, d->acked), d->scanned) > a->window_from)
		dpi_session_keep(s, (unsigned int)(d - s->side));
	dpi_assembly_trim(a, PK_MIN(PK_MIN(to, d->acked), d->scanned));
}

void
dpi_session_rest(struct dpi_session *s, uint32_t back)
{
	for (unsigned int d = 0; d < 2; d++)
		rest_side(s, &s->side[d], back);
	if (s->ops != NULL && s->ops->rest != NULL && s->state != NULL)
		s->ops->rest(s);
	dpi_session_retire(s);
}
