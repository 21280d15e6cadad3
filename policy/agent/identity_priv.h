#pragma once

#include <fcntl.h>

#include <openssl/evp.h>

#include "lib/secret.h"
#include "lib/svid.h"
#include "lib/svid_wire.h"
#include "policy/agent/identity.h"

/* Shared by identity.c (keys, requests, what is believed) and identity_users.c (the programs that use them). */
struct svid_users;
struct svid_user;

struct identity {
	char workload[PK_SVID_WORKLOAD_MAX]; /* "": the DPU itself */
	char id[PK_SVID_ID_MAX];
	bool seen; /* it is wanted still */
	/* what is served; not_after_s 0: nothing */
	uint8_t *chain; /* leaf first */
	size_t chain_len;
	uint64_t not_after_s, epoch, issued;
	int key_fd;
	uint8_t *key_map;
	size_t key_len;
	/* what has been asked for; asked_id 0: nothing */
	uint64_t asked_id;
	EVP_PKEY *asked_key;
	uint64_t due_ns,
	    wait_ns; /* ask then, or give the request up; wait so long after the next refusal */
	char why[256];
};

struct agent_identities {
	const struct agent_identity_ops *ops;
	void *arg;
	char dpu[64];
	enum agent_svid_keys keys;
	bool up;
	struct pk_msg_posture posture;
	bool has_posture;
	const struct policy_state *state;
	struct identity **item;
	size_t nb;
	uint64_t next_id;
	struct pk_svid_trust *trust;
	uint8_t *bundle;
	size_t bundle_len;
	bool new_bundle; /* nobody has been told */
	struct event *due, *look;
	struct svid_users *users;
};

/* identity.c */
void identities_user_came(struct agent_identities *a, struct svid_user *u);
void identities_user_watches(struct agent_identities *a, struct svid_user *u, const char *workload);
void identities_user_went(struct agent_identities *a);

/* identity_users.c */
int svid_users_create(struct svid_users **out, struct event_base *base, const char *path,
    struct agent_identities *a, struct pk_diag *diag);
void svid_users_destroy(struct svid_users *s);
/* To `only`, or to all who watch m->workload; what is about no workload to everybody. */
void svid_users_tell(
    struct svid_users *s, const struct pk_svid_message *m, int key, struct svid_user *only);
bool svid_users_watch(const struct svid_users *s, const char *workload);
bool svid_users_watch_any(const struct svid_users *s);
