#pragma once

#include "lib/addr.h"

struct policy_findings;

/*
 * Peers of IKE (RFC 7296), as documents of kind IkePeer.
 *
 * The same text is a file for picket-iked to read by itself, and what an agent pushes to it.  Reading gives one
 * object that lives and dies as a whole; what names algorithms or identities stays text here, since libcharon alone
 * knows them all.  docs/ike.md says the same to people; whoever changes a table changes it too.
 *
 * Context: any thread, one at a time; nothing here has state of its own.
 */
enum policy_ike_auth {
	POLICY_IKE_AUTH_NONE = 0,
	POLICY_IKE_AUTH_PSK,         /* RFC 7296, section 2.15 */
	POLICY_IKE_AUTH_CERTIFICATE, /* RFC 7427 */
};

enum policy_ike_start {
	POLICY_IKE_START_NONE = 0, /* the peer begins, or an operator */
	POLICY_IKE_START_TRAP,     /* the first packet begins */
	POLICY_IKE_START_NOW,
};

enum policy_ike_fragmentation { /* RFC 7383 */
	POLICY_IKE_FRAGMENTATION_NO = 0,
	POLICY_IKE_FRAGMENTATION_ACCEPT, /* put theirs together, send none */
	POLICY_IKE_FRAGMENTATION_YES,
};

enum policy_ike_unique {             /* several IKE SAs with one identity */
	POLICY_IKE_UNIQUE_NEVER = 0, /* all stay */
	POLICY_IKE_UNIQUE_REPLACE,   /* the newest stays */
	POLICY_IKE_UNIQUE_KEEP,      /* the oldest stays */
};

enum policy_ike_mode {
	POLICY_IKE_TUNNEL = 0,
	POLICY_IKE_TRANSPORT,
};

enum policy_ike_copy {
	POLICY_IKE_COPY_NO = 0,
	POLICY_IKE_COPY_OUT, /* inner to outer */
	POLICY_IKE_COPY_IN,  /* outer to inner */
	POLICY_IKE_COPY_BOTH,
};

struct policy_ike_texts {
	const char **at;
	size_t nb;
};

struct policy_ike_selectors {
	struct policy_ike_selector {
		struct pk_prefix prefix; /* family 0: the end's own address */
		uint8_t proto;           /* 0: all */
		uint16_t low, high;      /* ports: 0 - 65535 is all */
	} * at;
	size_t nb;
};

/* One end.  A certificate, key or authority is PEM, or the name of a file. */
struct policy_ike_end {
	struct policy_ike_texts addresses; /* "192.0.2.1", "198.51.100.0/24"; none: any */
	const char
	    *identity; /* as libstrongswan reads it: "gw.example.org", "C=CH, CN=gw", "%any" */
	uint8_t auth;  /* enum policy_ike_auth */
	const char *certificate;             /* local; NULL with psk */
	const char *key;                     /* local; NULL with psk */
	struct policy_ike_texts authorities; /* remote: one of these has issued its certificate */
};

struct policy_ike_child {
	const char *name;
	uint8_t mode;           /* enum policy_ike_mode */
	uint8_t start;          /* enum policy_ike_start */
	uint8_t on_dpd;         /* enum policy_ike_start: when the peer is dead */
	uint8_t on_close;       /* enum policy_ike_start: when the peer has closed it */
	uint8_t copy_dscp;      /* enum policy_ike_copy */
	uint8_t copy_df;        /* bool */
	uint8_t copy_ecn;       /* bool */
	uint32_t replay_window; /* packets, 0: no check */
	uint32_t tfc;           /* bytes, 0: no padding */
	struct policy_ike_selectors local, remote; /* never empty */
	struct policy_ike_texts proposals;         /* none: the default */
	uint64_t rekey_ns, life_ns;
	uint64_t rekey_bytes, life_bytes;
	uint32_t rekey_packets, life_packets;
	uint64_t inactivity_ns; /* 0: stays */
};

struct policy_ike_peer {
	const char *name;
	uint32_t line; /* where it is written */
	struct policy_ike_end local, remote;
	const char *
	    secret; /* of psk, as text; 0x and 0s lead hexadecimal and base64; NULL: see secret_file */
	const char *secret_file;              /* bytes of the file, without a newline at its end */
	struct policy_ike_texts proposals;    /* none: the default */
	uint64_t rekey_ns, reauth_ns, dpd_ns; /* 0: never */
	uint32_t keying_tries;                /* 0: for ever */
	uint8_t fragmentation, unique;
	uint8_t mobike;      /* RFC 4555 */
	uint8_t encapsulate; /* UDP even without NAT */
	struct policy_ike_child *children;
	size_t nb_children;
};

struct policy_ike; /* what one text said */

/*
 * Read text[0 .. len - 1], which `name` is the file of.  The caller owns *out, and wipes the text, which may hold
 * secrets.  Returns 0, -EINVAL with findings, or -ENOMEM.
 */
int policy_ike_read(struct policy_ike **out, const char *name, const char *text, size_t len,
    struct policy_findings *f);
void policy_ike_destroy(struct policy_ike *ike); /* NULL is allowed; wipes */

size_t policy_ike_count(const struct policy_ike *ike);
/* Borrowed as long as `ike`.  i < count, in the order of the text. */
const struct policy_ike_peer *policy_ike_get(const struct policy_ike *ike, size_t i);
