#pragma once

#include "lib/addr.h"
#include "lib/base.h"

/*
 * What picketd and whoever makes keys (picket-iked; `picketctl ipsec`, for keys made by hand) say to each other.
 *
 * picketd listens on a Unix SOCK_SEQPACKET socket, RUN-DIR/sadb.sock; one key maker at a time, and a new
 * connection ends the one before.  A message is a struct pk_sadb of PK_SADB_SIZE bytes, and behind it, for IKE packets
 * alone, as many bytes of UDP payload as it says.  Numbers are in host byte order, addresses in network order.  The
 * receiver checks every field as if the sender had just been taken over: pk_sadb_check() is the first thing done to
 * what arrives.
 *
 *      key maker                                            picketd
 *          HELLO                                        ->
 *                                                       <-  HELLO, LOCAL*           its own addresses
 *          GET_SPI  ADD_SA  UPDATE_SA  DEL_SA  QUERY_SA
 *          ADD_POLICY  DEL_POLICY  FLUSH                ->
 *                                                       <-  ANSWER                  one to each of these, in order
 *                                                       <-  ACQUIRE  EXPIRE  MAPPING  BAD_SPI     whenever it happens
 *          IKE                                         <->  IKE                     no answer, no promise
 *
 * Answers and questions belong together by h.seq.  When ANSWER to ADD_SA, UPDATE_SA or ADD_POLICY says 0, it is in
 * force on all lcores; when that to DEL_SA does, no lcore uses it any more.
 *
 * A message may hold keys: both ends wipe it with pk_wipe() when it has been used.
 *
 * Tunnels.  SAs belong to a tunnel, which is what IKE calls a CHILD_SA through all its rekeyings, by `reqid`: the
 * tunnel has selectors (ADD_POLICY), any number of inbound SAs, and one outbound SA that is in use, which is the one
 * that the last ADD_POLICY for `out` has named by its SPI.  So rekeying is: ADD_SA in, ADD_SA out, ADD_POLICY out
 * with the new SPI (the switch), and some time later DEL_SA of the old ones.  A tunnel whose out policy names SPI 0 is
 * a trap: the first packet drops as `esp-acquire` and ACQUIRE goes out.
 *
 * Selectors are pairs of prefixes, with protocol and ports.  Whoever has ranges of addresses sends several.
 * What is to be protected is not decided here: policy decides that (`encryption` in its rules); a policy
 * of this family only says by which tunnel it then goes.
 *
 * Restart.  SAs live as long as picketd, not as long as the connection: a key maker that comes back finds them
 * going on, and is expected to say FLUSH, unless it knows them all.  When picketd restarts they are gone, its HELLO
 * has another epoch, and the key maker has to set them up anew with new keys.
 */
#define PK_SADB_VERSION 1
#define PK_SADB_SIZE    512  /* bytes, of every message */
#define PK_SADB_IKE_MAX 9000 /* bytes of UDP payload behind an IKE message */
#define PK_SADB_SOCKET  "sadb.sock"
/* From here on reqids are picketd's own, for tunnels of mesh mode: they are shown, and nobody's to change. */
#define PK_SADB_REQID_END UINT32_C(0x80000000)

enum pk_sadb_type {
	PK_SADB_NONE = 0,
	PK_SADB_HELLO,
	PK_SADB_LOCAL,
	PK_SADB_GET_SPI,
	PK_SADB_ADD_SA,
	PK_SADB_UPDATE_SA,
	PK_SADB_DEL_SA,
	PK_SADB_QUERY_SA,
	PK_SADB_ADD_POLICY,
	PK_SADB_DEL_POLICY,
	PK_SADB_FLUSH,
	PK_SADB_ANSWER,
	PK_SADB_ACQUIRE,
	PK_SADB_EXPIRE,
	PK_SADB_MAPPING,
	PK_SADB_BAD_SPI,
	PK_SADB_IKE,
	PK_SADB_TYPE_COUNT,
};

struct pk_sadb_header {
	uint16_t version; /* PK_SADB_VERSION */
	uint16_t type;    /* enum pk_sadb_type */
	uint32_t seq;     /* of a request: any number; of an ANSWER: that of its request; else 0 */
	uint32_t more;    /* bytes behind the message: 0, but for IKE */
	uint32_t zero;
};

struct pk_sadb_hello {
	char program[32];
	char instance[64];
	uint64_t epoch; /* random per process start */
	uint32_t pid;
	uint32_t nb_sas_max; /* of picketd: as many fit, of both directions; 0 from a key maker */
};

/*
 * An address of the DPU itself, on the outside of a wire: ends of tunnels and IKE packets come from it.  picketd
 * answers ARP and neighbour solicitations for it.
 */
struct pk_sadb_local {
	struct pk_addr addr;
	struct pk_addr gateway; /* family 0: none, all peers are on the link */
	uint8_t prefix_len;     /* of the link */
	uint8_t zero[3];
	uint16_t wire;
	uint16_t zero2;
	uint32_t vrf; /* VLAN tag, as in lib/msg.h */
	uint32_t mtu; /* bytes of the largest IP packet on that link */
};

/* An SA by name: SPI and receiver, as in RFC 4301, section 4.1.  All SAs are of ESP. */
struct pk_sadb_id {
	struct pk_addr src, dst; /* outer addresses; the receiver is dst */
	uint32_t spi;            /* host order */
	uint32_t zero;
};

/*
 * Choose an SPI for an inbound SA from id.src to id.dst; id.spi is 0.  The answer holds it.  It is ours until
 * DEL_SA, and whoever does not send ADD_SA for it within two minutes loses it.  SPIs of picketd are 0xc0000000 and
 * above, and lead to the SA without a search.
 */
struct pk_sadb_get_spi {
	struct pk_sadb_id id;
	uint32_t
	    reqid; /* below PK_SADB_REQID_END; 0: not known yet, since IKE chooses tunnels when both ends have
	              * said their selectors */
	uint32_t zero;
};

enum pk_sadb_direction {
	PK_SADB_IN =
	    1, /* from outside; id.spi is one of GET_SPI, or, for keys made by hand, any free one of that range */
	PK_SADB_OUT,
};

enum pk_sadb_mode {
	PK_SADB_TRANSPORT = 1,
	PK_SADB_TUNNEL,
};

/* What outer headers say about fragmentation, RFC 4301 section 8.1. */
enum pk_sadb_df {
	PK_SADB_DF_COPY = 0, /* of the inner header */
	PK_SADB_DF_SET,
	PK_SADB_DF_CLEAR,
};

#define PK_SADB_KEY_MAX 68 /* bytes: 64 for HMAC-SHA-512; 32 and a salt of 4 for AES-256-GCM */

enum pk_sadb_sa_flags {
	PK_SADB_ESN = 1 << 0,   /* sequence numbers of 64 bits */
	PK_SADB_ENCAP = 1 << 1, /* in UDP (RFC 3948), between sport and dport */
	PK_SADB_NO_ECN =
	    1 << 2, /* RFC 6040 compatibility mode: outer Not-ECT, ECN is not carried over */
	PK_SADB_NO_DSCP_COPY = 1 << 3, /* outer DSCP is `dscp`; else that of the inner header */
	PK_SADB_DSCP_DECAP = 1 << 4,   /* inbound: outer DSCP replaces the inner one */
	PK_SADB_INITIATOR = 1 << 5,    /* for people */
	PK_SADB_MANUAL = 1 << 6,       /* keys made by hand, for people */
	PK_SADB_FLAGS_ALL = (1 << 7) - 1,
};

/* Lifetimes: 0: none.  Soft says EXPIRE and goes on; hard says EXPIRE, and the SA carries nothing any more. */
struct pk_sadb_life {
	uint64_t soft_ns, hard_ns;       /* after ADD_SA */
	uint64_t soft_bytes, hard_bytes; /* of ESP payload, with trailer, before encryption */
	uint64_t soft_packets, hard_packets;
};

/* Add an SA.  -EEXIST if there is one of that name and direction. */
struct pk_sadb_add_sa {
	struct pk_sadb_id id;
	uint32_t reqid;    /* of its tunnel; not 0, below PK_SADB_REQID_END */
	uint8_t direction; /* enum pk_sadb_direction */
	uint8_t mode;      /* enum pk_sadb_mode */
	uint8_t df;        /* enum pk_sadb_df */
	uint8_t dscp;      /* 0 - 63 */
	uint16_t flags;    /* enum pk_sadb_sa_flags */
	uint16_t
	    encr; /* transforms of IANA's IKEv2 registry: ENCR_AES_GCM_16 is 20 (see ipsec/crypto.h) */
	uint16_t encr_bits; /* of the key without salt; 0 where there is one length alone */
	uint16_t integ;     /* AUTH_HMAC_SHA2_256_128 is 12; 0 for AEAD */
	uint32_t
	    replay_window; /* inbound: packets, 0 (no check) or 32 - 4096, rounded up to a multiple of 64 */
	uint16_t sport, dport; /* UDP, with PK_SADB_ENCAP */
	uint16_t
	    tfc; /* outbound: pad the inner packet to so many bytes (RFC 4303, section 2.7); 0: no padding */
	uint16_t wire;        /* outer packets leave by, and come in by, its outside */
	uint32_t vrf;         /* VLAN tag, of outer packets and of those inside */
	uint8_t encr_key_len; /* bytes, with salt */
	uint8_t integ_key_len;
	uint8_t zero[2];
	uint64_t seq; /* the last number used, or seen: 0, but for keys made by hand */
	struct pk_sadb_life life;
	uint8_t encr_key[PK_SADB_KEY_MAX], integ_key[PK_SADB_KEY_MAX];
	/* Inbound, mode transport with NAT in between: the addresses as the peer knows them (RFC 3948, section 3.1.2), so
	 * that its checksums can be mended; family 0: the same. */
	struct pk_addr original_src, original_dst;
};

/* Move an SA to other outer addresses and ports (MOBIKE, NAT); number and keys go on. */
struct pk_sadb_update_sa {
	struct pk_sadb_id id;
	struct pk_addr src, dst; /* from now on */
	uint16_t sport, dport;
	uint8_t encap; /* 0 or 1 */
	uint8_t zero[3];
};

/* DEL_SA, QUERY_SA. */
struct pk_sadb_sa {
	struct pk_sadb_id id;
};

enum pk_sadb_policy_direction {
	PK_SADB_POLICY_IN = 1, /* what an inbound SA of the tunnel may carry */
	PK_SADB_POLICY_OUT,    /* what goes by the tunnel */
};

/*
 * One pair of selectors of a tunnel.  Several are several messages.  The same again replaces it.  src and dst are
 * as the packet has them, so those of `in` are those of `out` the other way round.
 * DEL_POLICY: the same, -ENOENT if it is not there; spi and priority are not looked at.
 */
struct pk_sadb_policy {
	uint8_t direction; /* enum pk_sadb_policy_direction */
	uint8_t mode;      /* enum pk_sadb_mode */
	uint8_t proto; /* of IP; 0: all.  If not, TCP, UDP or SCTP for ports other than 0 - 65535 */
	uint8_t zero;
	uint32_t reqid;
	struct pk_prefix src, dst;
	uint16_t sport_low, sport_high, dport_low, dport_high; /* 0 - 65535: all */
	uint32_t
	    vrf; /* of the protected packets, and of the outer ones: a tunnel does not leave its VLAN */
	uint32_t spi; /* out: of the SA to use from now on, for the whole tunnel; 0: a trap */
	struct pk_addr
	    sa_dst; /* out: its receiver, since SPIs are the peer's choice; family 0 with SPI 0 */
	uint32_t priority; /* the smallest number decides when several match */
	uint32_t zero2;
};

enum pk_sadb_flush_what {
	PK_SADB_FLUSH_SAS = 1 << 0,
	PK_SADB_FLUSH_POLICIES = 1 << 1,
};

struct pk_sadb_flush {
	uint32_t what; /* of enum pk_sadb_flush_what, not 0 */
	uint32_t zero;
};

/* What became of the request of h.seq. */
struct pk_sadb_answer {
	int32_t error; /* 0, or a negative errno */
	uint32_t spi;  /* of GET_SPI */
	/* QUERY_SA */
	uint64_t packets, bytes; /* carried; bytes as in struct pk_sadb_life */
	uint64_t seq;            /* last sent, or highest received */
	uint64_t idle_ns;        /* since the last packet; UINT64_MAX: there was none */
	char text[256];          /* the sentence when refused */
};

/*
 * A packet wants to be protected, and there is no SA.  At most one a second for a pair of addresses, and a
 * thousand a second for all; the packet is gone.
 */
struct pk_sadb_acquire {
	uint32_t reqid; /* of the trap that matched; 0: there is no policy for it at all */
	uint16_t wire;
	uint8_t proto;
	uint8_t zero;
	uint32_t vrf;
	struct pk_addr src, dst; /* of the packet */
	uint16_t sport, dport;
	uint32_t zero2;
};

struct pk_sadb_expire {
	struct pk_sadb_id id;
	uint32_t reqid;
	uint8_t hard; /* 0: soft */
	uint8_t direction;
	uint8_t what; /* enum pk_sadb_expire_what */
	uint8_t zero;
};

enum pk_sadb_expire_what {
	PK_SADB_EXPIRE_TIME = 1,
	PK_SADB_EXPIRE_BYTES,
	PK_SADB_EXPIRE_PACKETS,
	PK_SADB_EXPIRE_SEQ, /* sequence numbers run out: soft at 3/4 of them, hard at the last */
};

/* A packet that passed its ICV has come from elsewhere (RFC 7296 section 2.23): NAT has forgotten the peer. */
struct pk_sadb_mapping {
	struct pk_sadb_id id; /* as it is known here */
	uint32_t reqid;
	struct pk_addr src; /* and where it comes from now */
	uint16_t sport;
	uint16_t zero;
};

/* ESP for an SPI that is not there: at most ten a second. */
struct pk_sadb_bad_spi {
	struct pk_sadb_id id;
	uint16_t wire;
	uint16_t zero;
	uint32_t vrf;
};

/*
 * An IKE packet, received by picketd on one of its own addresses, UDP port 500 or 4500 (without the non-ESP
 * marker, and without keepalives), or to be sent from there; h.more bytes of IKE follow.  picketd adds the marker if
 * sport is 4500, but to a keepalive (the one byte 0xff, RFC 3948 section 2.3).  Nothing is fragmented or put together: what
 * is longer than the link's MTU is not sent, so use RFC 7383; and a few packets wait while the next hop is looked for.
 */
struct pk_sadb_ike {
	struct pk_addr src, dst;
	uint16_t sport, dport;
	uint16_t wire;
	uint8_t dscp, ecn; /* ecn: received ones */
	uint32_t vrf;
	uint32_t zero;
};

struct pk_sadb {
	struct pk_sadb_header h;
	union {
		struct pk_sadb_hello hello;
		struct pk_sadb_local local;
		struct pk_sadb_get_spi get_spi;
		struct pk_sadb_add_sa add_sa;
		struct pk_sadb_update_sa update_sa;
		struct pk_sadb_sa sa;
		struct pk_sadb_policy policy;
		struct pk_sadb_flush flush;
		struct pk_sadb_answer answer;
		struct pk_sadb_acquire acquire;
		struct pk_sadb_expire expire;
		struct pk_sadb_mapping mapping;
		struct pk_sadb_bad_spi bad_spi;
		struct pk_sadb_ike ike;
		uint8_t raw[PK_SADB_SIZE - sizeof(struct pk_sadb_header)];
	};
};
_Static_assert(sizeof(struct pk_sadb) == PK_SADB_SIZE, "a message must fill its slot exactly");

/* Zero *m and set version and type.  Context: any. */
void pk_sadb_init(struct pk_sadb *m, enum pk_sadb_type type, uint32_t seq);

/*
 * Check everything about a message that can be judged without state: version, type, enumerations, lengths,
 * families of addresses, strings ended inside their arrays, zeros where nothing is said.  `len` is what recv()
 * returned for the message and what follows it, which is not looked at.  Whether an algorithm is there, and its key
 * of the right length, is asked by ADD_SA's receiver.
 * Context: any.  Returns 0 or -EPROTO with *diag.
 */
int pk_sadb_check(const struct pk_sadb *m, size_t len, struct pk_diag *diag);

/* "add-sa" and so on, for logs; never NULL. */
const char *pk_sadb_type_name(unsigned int type);
const char *pk_sadb_mode_name(unsigned int mode);
const char *pk_sadb_expire_name(unsigned int what);
