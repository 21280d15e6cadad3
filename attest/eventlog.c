#include "attest/eventlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/wire.h"

#define SPEC_ID  "Spec ID Event03"
#define LOCALITY "StartupLocality"

struct builder {
	struct attest_eventlog *log;
	uint32_t room;
	const uint8_t *start;
	struct pk_diag *diag;
};

static struct attest_event *
event_new(struct builder *b)
{
	struct attest_eventlog *log = b->log;

	if (log == NULL || log->nb_events == b->room) {
		uint32_t room = b->room != 0 ? b->room * 2 : 64;

		log = realloc(log, sizeof(*log) + room * sizeof(log->event[0]));
		if (log == NULL)
			return NULL;
		if (b->log == NULL)
			memset(log, 0, sizeof(*log));
		b->log = log;
		b->room = room;
	}
	log->event[log->nb_events] = (struct attest_event){ 0 };
	return &log->event[log->nb_events++];
}

static int
refuse(const struct builder *b, const struct pk_wire *w, const char *what)
{
	pk_diag_set(b->diag, "event log: event %u, byte %zu: %s",
	    b->log != NULL && b->log->nb_events > 0 ? b->log->nb_events - 1 : 0,
	    (size_t)(w->at - b->start), what);
	return -EINVAL;
}

static int
is_spec_id(struct attest_bytes data)
{
	return data.len >= sizeof(SPEC_ID) && memcmp(data.at, SPEC_ID, sizeof(SPEC_ID)) == 0;
}

/* TCG_EfiSpecIDEvent: which digests each event carries, and how long they are. */
static int
parse_spec_id(struct builder *b, const struct pk_wire *at, struct attest_bytes data)
{
	struct pk_wire w = pk_wire_from(data.at, data.len);
	uint32_t n;
	uint8_t vendor;

	pk_wire_skip(&w, sizeof(SPEC_ID) + 4 + 4);
	n = pk_wire_le32(&w);
	if (!pk_wire_ok(&w) || n == 0 || n > ATTEST_BANKS_MAX)
		return refuse(b, at, "Spec ID event with an impossible number of algorithms");
	for (uint32_t i = 0; i < n; i++) {
		uint16_t alg = pk_wire_le16(&w), size = pk_wire_le16(&w);

		if (!pk_wire_ok(&w))
			return refuse(b, at, "Spec ID event ends within its algorithms");
		if (attest_alg_size(alg) != 0 ? size != attest_alg_size(alg)
		                              : size == 0 || size > 128)
			return refuse(b, at, "Spec ID event with an impossible digest size");
		for (uint32_t j = 0; j < i; j++)
			if (b->log->bank[j].alg == alg)
				return refuse(b, at, "Spec ID event names an algorithm twice");
		b->log->bank[i].alg = alg;
		b->log->bank[i].size = size;
	}
	vendor = pk_wire_u8(&w);
	pk_wire_skip(&w, vendor);
	if (!pk_wire_ok(&w) || pk_wire_left(&w) != 0)
		return refuse(b, at, "Spec ID event whose vendor data is not as long as it says");
	b->log->nb_banks = n;
	b->log->format = ATTEST_EVENTLOG_CRYPTO_AGILE;
	return 0;
}

/* Events that extend nothing may name any register: some firmware writes 0xffffffff. */
static int
check_pcr(const struct builder *b, const struct pk_wire *w, const struct attest_event *e)
{
	if (e->type != ATTEST_EV_NO_ACTION && e->pcr >= ATTEST_NB_PCRS)
		return refuse(b, w, "there is no such PCR");
	return 0;
}

static int
parse_data(struct builder *b, struct pk_wire *w, struct attest_event *e)
{
	uint32_t len = pk_wire_le32(w);

	if (!pk_wire_ok(w))
		return refuse(b, w, "ends within the size of an event");
	if (len > pk_wire_left(w))
		return refuse(b, w, "event data longer than what is left of the log");
	e->data = (struct attest_bytes){ w->at, len };
	pk_wire_skip(w, len);
	return 0;
}

static int
parse_legacy(struct builder *b, struct pk_wire *w)
{
	struct attest_event *e = event_new(b);
	int rc;

	if (e == NULL)
		return -ENOMEM;
	e->off = (size_t)(w->at - b->start);
	e->pcr = pk_wire_le32(w);
	e->type = pk_wire_le32(w);
	e->digest[0] = pk_wire_bytes(w, 20);
	e->banks = 1;
	if (!pk_wire_ok(w))
		return refuse(b, w, "ends within the head of an event");
	if ((rc = check_pcr(b, w, e)) < 0)
		return rc;
	return parse_data(b, w, e);
}

static int
parse_agile(struct builder *b, struct pk_wire *w)
{
	struct attest_event *e = event_new(b);
	uint32_t n;
	int rc;

	if (e == NULL)
		return -ENOMEM;
	e->off = (size_t)(w->at - b->start);
	e->pcr = pk_wire_le32(w);
	e->type = pk_wire_le32(w);
	n = pk_wire_le32(w);
	if (!pk_wire_ok(w))
		return refuse(b, w, "ends within the head of an event");
	if ((rc = check_pcr(b, w, e)) < 0)
		return rc;
	if (n > b->log->nb_banks || (n == 0 && e->type != ATTEST_EV_NO_ACTION))
		return refuse(b, w, "impossible number of digests");
	for (uint32_t i = 0; i < n; i++) {
		uint16_t alg = pk_wire_le16(w);
		unsigned int k = 0;

		if (!pk_wire_ok(w))
			return refuse(b, w, "ends within the digests of an event");
		while (k < b->log->nb_banks && b->log->bank[k].alg != alg)
			k++;
		if (k == b->log->nb_banks)
			return refuse(b, w, "digest of an algorithm the Spec ID event lacks");
		if ((e->banks >> k & 1) != 0)
			return refuse(b, w, "two digests of one algorithm");
		e->digest[k] = pk_wire_bytes(w, b->log->bank[k].size);
		e->banks |= 1U << k;
		if (!pk_wire_ok(w))
			return refuse(b, w, "ends within a digest");
	}
	return parse_data(b, w, e);
}

/* A fixed area in memory is filled up with ones (CCEL, and some ACPI tables). */
static int
is_padding(const struct pk_wire *w)
{
	for (const uint8_t *p = w->at; p < w->end; p++)
		if (*p != 0xff)
			return 0;
	return 1;
}

int
attest_eventlog_parse(
    struct attest_eventlog **out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	struct builder b = { .start = bytes, .diag = d };
	int rc;

	*out = NULL;
	if (len == 0) {
		pk_diag_set(d, "event log: it is empty");
		return -EINVAL;
	}
	if (len > ATTEST_EVENTLOG_MAX) {
		pk_diag_set(d, "event log: %zu bytes, more than %u", len, ATTEST_EVENTLOG_MAX);
		return -EINVAL;
	}
	if ((rc = parse_legacy(&b, &w)) < 0)
		goto fail;
	if (b.log->event[0].type == ATTEST_EV_NO_ACTION && is_spec_id(b.log->event[0].data)) {
		if ((rc = parse_spec_id(&b, &w, b.log->event[0].data)) < 0)
			goto fail;
		b.log->event[0].banks = 0; /* its SHA-1 field is no bank's */
	} else {
		b.log->nb_banks = 1;
		b.log->bank[0].alg = ATTEST_ALG_SHA1;
		b.log->bank[0].size = 20;
	}
	while (pk_wire_left(&w) > 0) {
		if (w.at[0] == 0xff && is_padding(&w)) {
			b.log->padding = pk_wire_left(&w);
			break;
		}
		if (b.log->nb_events == ATTEST_EVENTS_MAX) {
			rc = refuse(&b, &w, "too many events");
			goto fail;
		}
		rc = b.log->format == ATTEST_EVENTLOG_SHA1 ? parse_legacy(&b, &w)
		                                           : parse_agile(&b, &w);
		if (rc < 0)
			goto fail;
	}
	*out = b.log;
	return 0;
fail:
	free(b.log);
	return rc;
}

void
attest_eventlog_destroy(struct attest_eventlog *log)
{
	free(log);
}

static int
bank_index(const struct attest_eventlog *log, uint16_t alg)
{
	for (unsigned int i = 0; i < log->nb_banks; i++)
		if (log->bank[i].alg == alg)
			return (int)i;
	return -1;
}

const uint8_t *
attest_event_digest(const struct attest_eventlog *log, const struct attest_event *e, uint16_t alg)
{
	int i = bank_index(log, alg);

	return i >= 0 ? e->digest[i] : NULL;
}

static int
is_locality(const struct attest_event *e)
{
	return e->type == ATTEST_EV_NO_ACTION && e->data.len == sizeof(LOCALITY) + 1 &&
	    memcmp(e->data.at, LOCALITY, sizeof(LOCALITY)) == 0;
}

/*
 * What PCR 0 starts from.  TPM 2.0 Part 1, section 34: TPM2_Startup at locality 3 leaves 3 there, an
 * H-CRTM sequence before it 4.  The log says so in a StartupLocality event before anything extends
 * PCR 0; a later one would be an afterthought of somebody else.
 */
static uint8_t
startup_locality(const struct attest_eventlog *log)
{
	for (uint32_t i = 0; i < log->nb_events; i++) {
		const struct attest_event *e = &log->event[i];

		if (is_locality(e))
			return e->data.at[sizeof(LOCALITY)];
		if (e->type == ATTEST_EV_EFI_HCRTM_EVENT && e->pcr == 0) {
			/* The first event, and the locality may still follow it. */
			for (uint32_t j = i + 1; j < log->nb_events; j++)
				if (is_locality(&log->event[j]))
					return log->event[j].data.at[sizeof(LOCALITY)];
			return 4;
		}
		if (e->type != ATTEST_EV_NO_ACTION && e->pcr == 0)
			return 0;
	}
	return 0;
}

int
attest_eventlog_replay(const struct attest_eventlog *log, uint16_t alg, struct attest_bank *out)
{
	int bank = bank_index(log, alg), rc = 0;
	EVP_MD_CTX *ctx;

	attest_bank_reset(out, alg);
	if (bank < 0)
		return -ENOENT;
	if (attest_alg_md(alg) == NULL)
		return -ENOTSUP;
	if ((ctx = EVP_MD_CTX_new()) == NULL)
		return -ENOMEM;
	out->value[0][log->bank[bank].size - 1] = startup_locality(log);
	for (uint32_t i = 0; rc == 0 && i < log->nb_events; i++) {
		const struct attest_event *e = &log->event[i];

		if (e->type == ATTEST_EV_NO_ACTION || e->digest[bank] == NULL)
			continue;
		rc = attest_extend(ctx, alg, out->value[e->pcr], e->digest[bank]);
		out->mask |= UINT32_C(1) << e->pcr;
	}
	EVP_MD_CTX_free(ctx);
	return rc;
}
