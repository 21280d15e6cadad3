#pragma once

#include <event2/event.h>

#include "attest/appraise.h"
#include "attest/credential.h"
#include "attest/daemon/channel.h"
#include "attest/daemon/dpu.h"
#include "attest/daemon/record.h"
#include "lib/helper.h"
#include "lib/posture.h"

/* Shared by dpu.c (rounds), guest.c (connections and enrolment) and dpu_show.c. */
#define GUESTS_MAX 8 /* connections that have not yet shown who they are, and the host's own */

enum guest_phase {
	GUEST_NEW = 0,    /* TLS handshake, then HELLO is due */
	GUEST_ACTIVATING, /* it has been sent a credential */
	GUEST_HOST,       /* it is the host */
};

struct guest {
	struct attest_dpu *d;
	struct attest_channel *channel; /* NULL: free place */
	enum guest_phase phase;
	struct event *deadline; /* for becoming the host */
	struct attest_binding binding;
	uint8_t ek_hash[32];
	struct attest_message hello; /* its fields lie in hello_bytes */
	uint8_t *hello_bytes;
	struct pk_secret secret;
};

/* One appraisal, as the helper has it: nothing in it is shared while it is under way. */
struct round_job {
	struct pk_job job;
	struct attest_dpu *d;
	struct guest *guest;
	uint64_t guest_serial;
	uint64_t came_mono_ns;
	uint8_t nonce[ATTEST_NONCE_LEN], qualifying[32];
	uint8_t *bytes, *hello_bytes; /* of the two messages; what is below points there */
	uint8_t *eventlog;
	size_t eventlog_len;
	uint8_t ak_name[ATTEST_NAME_MAX];
	struct attest_message m;
	struct attest_evidence evidence;
	struct attest_reference *reference;
	struct attest_history history;
	struct attest_ima_judge *judge;
	bool whole; /* all logs from their beginning were asked for */
	struct attest_result result;
};

struct attest_dpu {
	struct event_base *base;
	const struct attestd_conf *conf;
	char name[ATTEST_HOST_MAX]; /* ours */
	SSL_CTX *tls;
	EVP_PKEY *key; /* signs results */
	size_t nb_listeners;
	struct event **listener;
	struct pk_posture_mouth *mouth;
	struct pk_helper *helper;
	struct attest_dpu_within within; /* .name NULL: it is a program of its own */
	struct pk_chain *audit;

	struct guest guest[GUESTS_MAX];
	struct guest *host;   /* NULL: not connected */
	uint64_t host_serial; /* counts hosts that came, so that a late result finds its own */

	struct attest_record record;
	struct attest_machine machine;
	struct attest_machine_conf machine_conf;
	bool stopping;

	/* what the host has to look like */
	struct attest_reference *reference; /* NULL: none could be read yet */
	uint8_t reference_hash[32];
	char reference_name[64]; /* as pk_msg_posture has it; "" while there is none */
	bool reference_told;
	struct timespec reference_time;
	off_t reference_size;

	/* the round under way, and what it rests on */
	struct event *due, *answer, *lease;
	bool asked;      /* a challenge is out */
	bool appraising; /* evidence has come */
	bool whole;      /* the challenge asked for all logs */
	bool want_whole; /* the next one will */
	bool reasked;    /* because of a reboot, once */
	bool lagged;     /* its list was behind its quote, once */
	bool again;      /* the host has nudged while a round was under way */
	uint8_t nonce[ATTEST_NONCE_LEN];
	uint64_t asked_mono_ns;
	struct attest_history history;
	struct attest_ima_judge
	    *judge;        /* NULL while the helper has it, and before the first round */
	uint8_t *eventlog; /* of this boot */
	size_t eventlog_len;

	/* for people */
	struct round_job *last; /* the last judged */
	uint64_t last_good_wall_ns, since_wall_ns;
	uint64_t rounds, good, bad, missed, refused;
	uint64_t bad_mono_ns; /* arrival of the evidence that led to quarantine; 0: told */
	char *ear;
};

/* dpu.c */
void dpu_step(struct attest_dpu *d, enum attest_step step, const struct attest_reasons *r);
void dpu_host_came(struct attest_dpu *d, struct guest *g);
void dpu_host_went(struct attest_dpu *d);
void dpu_evidence(struct attest_dpu *d, const struct attest_message *m);
void dpu_nudge(struct attest_dpu *d);
void dpu_save(struct attest_dpu *d);
/* Take up the reference file if it has changed.  Returns whether there is one. */
bool dpu_load_reference(struct attest_dpu *d);

/* guest.c */
void guest_accept(struct attest_dpu *d, int fd);
struct guest *guest_accept_carried(
    struct attest_dpu *d, const struct attest_carrier *by, const struct attest_binding *b);
void guest_end(struct guest *g);

/* Message bytes of our own, and the same fields pointing into them; *bytes is the caller's. */
int dpu_copy_message(struct attest_message *out, uint8_t **bytes, const struct attest_message *m);

static inline void
dpu_later(struct event *e, uint64_t ns)
{
	struct timeval tv = { .tv_sec = (time_t)(ns / PK_NS_PER_S),
		.tv_usec = (suseconds_t)(ns % PK_NS_PER_S / 1000) };

	event_add(e, &tv);
}
