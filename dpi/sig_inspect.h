#pragma once

#include "dpi/event.h"
#include "dpi/sig_pcre.h"
#include "dpi/sig_rule.h"

/*
 * Confirmation: do all items of one list hold in one buffer?
 *
 * Where an item is relative to the one before, every place the earlier one occurs at is tried, which can take
 * exponential time on input made for it; so the steps are counted, and a rule that needs more than
 * DPI_STEPS_MAX on one buffer is given up, and counted.
 */
#define DPI_STEPS_MAX 3000

struct dpi_counts {
	uint64_t confirms;       /* rules looked at in full */
	uint64_t steps_exceeded; /* given up for DPI_STEPS_MAX */
	uint64_t pcre_exceeded;  /* for the match limit */
	uint64_t
	    scan_errors; /* Hyperscan refused: the rules of that scan were all looked at instead */
	uint64_t candidates_lost; /* a session had more open candidates than it may hold */
	uint64_t capped;          /* packets that used up their confirmations */
};

/* What one lcore needs to look: nothing in it outlives a call. */
struct dpi_look {
	struct dpi_pcre_room *pcre;
	struct dpi_counts counts;
	int64_t var[DPI_VARS_MAX];
	uint32_t steps;
	uint8_t *room[2]; /* of transforms, grown as needed */
	size_t room_len[2];
	/* Facts beside the bytes, for the items that ask for them; all may be NULL. */
	const struct dpi_events *events;
	const struct dpi_dce *dce;
	bool little; /* dce: byte order of the sender */
};

struct dpi_dce {
	bool has_iface, has_opnum;
	uint8_t iface[16];
	uint16_t opnum;
};

int dpi_look_init(struct dpi_look *k);
void dpi_look_fini(struct dpi_look *k);

/* Context: the lcore that owns `k`. */
bool dpi_list_holds(
    struct dpi_look *k, const struct dpi_list *l, const uint8_t *bytes, uint32_t len);

/* Find a content; NULL when it is not there. */
const uint8_t *dpi_content_find(const struct dpi_content *c, const uint8_t *at, size_t len);

/* Apply the transforms of `l`; false when there is no result (pcrexform without a match). */
bool dpi_transform(
    struct dpi_look *k, const struct dpi_list *l, const uint8_t **bytes, uint32_t *len);
