#pragma once

#include "dpi/buffer.h"
#include "lib/addr.h"

/*
 * One signature, as parsed: what a rule file says, in the form that matching wants.
 *
 *     header: action, layer, addresses, ports, direction
 *     tests of the packet's headers            (flags:S; ttl:<5;)
 *     lists: one per buffer looked into        (http.uri; content:"a"; content:"b"; distance:1;)
 *     state: flow, flowbits, xbits, hostbits, flowint, threshold
 *
 * A list holds items that have to hold one after the other, each from where the one before it ended when
 * it says so (`distance`, `relative`).  A rule matches when its tests and every one of its lists do.  Rules
 * are made by dpi_sig_parse() and never change after their set has been finished.
 */
enum dpi_action {
	DPI_ACT_ALERT = 0,
	DPI_ACT_DROP,
	DPI_ACT_REJECT,
	DPI_ACT_PASS
};

enum dpi_item_kind {
	DPI_IT_CONTENT = 0,
	DPI_IT_PCRE,
	DPI_IT_ISDATAAT,
	DPI_IT_BYTE_TEST,
	DPI_IT_BYTE_JUMP,
	DPI_IT_BYTE_EXTRACT,
	DPI_IT_BYTE_MATH,
	DPI_IT_BSIZE,
	DPI_IT_BASE64,
	DPI_IT_EVENT,
	DPI_IT_NUMBER, /* bsize's twin over a number that stands in the buffer in big-endian bytes */
	DPI_IT_DCE_IFACE,
	DPI_IT_DCE_OPNUM,
};

/* A number in a rule: itself, or the variable of that index (byte_extract, byte_math). */
struct dpi_value {
	int64_t number;
	int8_t var; /* -1: number */
};

enum dpi_order {
	DPI_BIG = 0,
	DPI_LITTLE,
	DPI_DCE
};
enum dpi_compare {
	DPI_EQ = 0,
	DPI_LT,
	DPI_GT,
	DPI_LE,
	DPI_GE,
	DPI_AND,
	DPI_OR,
	DPI_BETWEEN,
	DPI_NE
};

struct dpi_range {
	uint8_t op; /* enum dpi_compare; BETWEEN: a < x < b */
	int64_t a, b;
};

struct dpi_content {
	uint8_t *bytes; /* in lower case when nocase */
	uint16_t len;
	bool nocase, starts, ends, fast, fast_only;
	bool has_offset, has_depth, has_distance, has_within;
	struct dpi_value offset, depth, distance, within;
	uint16_t fast_from, fast_len; /* the part that goes into the prefilter */
};

struct dpi_bytes_item {
	struct dpi_value nb;
	uint8_t order, base; /* base 0: binary */
	uint8_t compare;
	bool compare_not;
	struct dpi_value value, offset;
	uint32_t mask; /* 0: none */
	/* byte_jump */
	bool align, from_beginning, from_end;
	int32_t multiplier, post;
	struct dpi_value post_var;
	/* byte_extract and byte_math */
	uint8_t align_to;
	int8_t var;
	char math; /* + - * / < >, the last two for shifts */
};

struct dpi_list;

struct dpi_item {
	uint8_t kind; /* enum dpi_item_kind */
	bool negated;
	bool relative;      /* from the end of the match before */
	bool relative_next; /* the next one is relative, so another place may have to be tried */
	union {
		struct dpi_content content;
		struct dpi_pcre *pcre;
		struct dpi_value dataat;
		struct dpi_bytes_item bytes;
		struct dpi_range range;
		struct {
			uint32_t nb, offset;
			struct dpi_list *data; /* of base64_data */
		} base64;
		uint16_t event; /* index in dpi_event_name */
		uint8_t uuid[16];
	};
};

enum dpi_transform_kind {
	DPI_TR_DOTPREFIX = 0,
	DPI_TR_MD5,
	DPI_TR_SHA1,
	DPI_TR_SHA256,
	DPI_TR_COMPRESS_WHITESPACE,
	DPI_TR_STRIP_WHITESPACE,
	DPI_TR_URL_DECODE,
	DPI_TR_XOR,
	DPI_TR_PCRE,
	DPI_TR_TO_LOWERCASE,
	DPI_TR_TO_UPPERCASE,
	DPI_TR_STRIP_PSEUDO,
	DPI_TR_HEADER_LOWERCASE,
};

struct dpi_transform {
	uint8_t kind, key_len;
	uint8_t key[32];
	struct dpi_pcre *pcre;
};

#define DPI_TRANSFORMS_MAX 4

struct dpi_list {
	uint8_t buf; /* enum dpi_buf */
	uint8_t nb_transforms;
	bool
	    needs_end; /* says something of the end or of what is absent: judged when no more will come */
	bool closed; /* parsing: another instance of a buffer of several */
	struct dpi_transform transform[DPI_TRANSFORMS_MAX];
	uint16_t nb;
	struct dpi_item *item;
};

enum dpi_test_kind {
	DPI_TEST_DSIZE = 0,
	DPI_TEST_TTL,
	DPI_TEST_ITYPE,
	DPI_TEST_ICODE,
	DPI_TEST_ICMP_ID,
	DPI_TEST_ICMP_SEQ,
	DPI_TEST_IP_ID,
	DPI_TEST_TOS,
	DPI_TEST_IP_PROTO,
	DPI_TEST_FRAGBITS,
	DPI_TEST_FRAGOFFSET,
	DPI_TEST_TCP_FLAGS,
	DPI_TEST_SEQ,
	DPI_TEST_ACK,
	DPI_TEST_WINDOW,
	DPI_TEST_TCP_MSS,
	DPI_TEST_SAMEIP,
	DPI_TEST_STREAM_SIZE,
	DPI_TEST_EVENT, /* of decoding, stream, or application layer detection */
	DPI_TEST_LAYER, /* app-layer-protocol */
	DPI_TEST_FTPBOUNCE,
};

struct dpi_test {
	uint8_t kind;
	bool negated;
	char mode;    /* flags: 0 exact, '+' all, '*' any; stream_size: s c b(oth) e(ither) */
	uint8_t mask; /* flags: ignored bits */
	uint16_t event;
	struct dpi_range range;
};

enum dpi_bits_op {
	DPI_BITS_SET,
	DPI_BITS_UNSET,
	DPI_BITS_TOGGLE,
	DPI_BITS_ISSET,
	DPI_BITS_ISNOTSET
};
enum dpi_bits_of {
	DPI_BITS_FLOW,
	DPI_BITS_SRC,
	DPI_BITS_DST,
	DPI_BITS_PAIR
};
#define DPI_BITS_OR 8

struct dpi_bits {
	uint8_t op, of, nb;
	uint32_t expire_s;        /* 0: default */
	uint16_t id[DPI_BITS_OR]; /* any of them */
};

struct dpi_flowint {
	uint16_t id;
	char op;       /* + - = e(q) n(e) < > l(e) g(e) i(sset) u(notset) */
	int32_t other; /* another variable, or -1: value */
	uint32_t value;
};

enum dpi_threshold_kind {
	DPI_TH_NONE = 0,
	DPI_TH_THRESHOLD,
	DPI_TH_LIMIT,
	DPI_TH_BOTH,
	DPI_TH_DETECTION,
	DPI_TH_RATE
};
enum dpi_threshold_by {
	DPI_BY_SRC,
	DPI_BY_DST,
	DPI_BY_BOTH,
	DPI_BY_RULE,
	DPI_BY_FLOW
};

struct dpi_threshold {
	uint8_t kind, by;
	uint32_t count, seconds;
};

/* Addresses or ports: in one of the first kind, and in none of the second. */
struct dpi_net {
	struct pk_addr low, high;
	bool negated;
};

struct dpi_nets {
	uint16_t nb;
	bool any; /* no positive one: all but the negated */
	struct dpi_net *net;
};

struct dpi_ports {
	bool any;
	uint64_t *bitmap; /* 65536 bits, or NULL with any */
};

enum dpi_flow_flags {
	DPI_FLOW_TO_SERVER = 1 << 0,
	DPI_FLOW_TO_CLIENT = 1 << 1,
	DPI_FLOW_ESTABLISHED = 1 << 2,
	DPI_FLOW_NOT_ESTABLISHED = 1 << 3,
	DPI_FLOW_STATELESS = 1 << 4,
	DPI_FLOW_ONLY_STREAM = 1 << 5,
	DPI_FLOW_NO_STREAM = 1 << 6,
	DPI_FLOW_ONLY_FRAG = 1 << 7,
	DPI_FLOW_NO_FRAG = 1 << 8,
};

enum dpi_sig_flags {
	DPI_SIG_BOTH_WAYS = 1 << 0, /* <> */
	DPI_SIG_NOALERT = 1 << 1,
	DPI_SIG_IP_ONLY = 1 << 2, /* about addresses alone: judged once per session and direction */
	DPI_SIG_PACKET = 1 << 3,  /* raw: each packet's payload */
	DPI_SIG_STREAM = 1 << 4,  /* raw: the stream */
	DPI_SIG_TX = 1 << 5,      /* looks into transactions */
	DPI_SIG_PKTHDR = 1 << 6,  /* packets that could not be decoded, too */
	DPI_SIG_ALERT = 1 << 7,   /* pass, and tell */
	DPI_SIG_FILE = 1 << 8,    /* needs a file */
};

struct dpi_sig {
	uint32_t sid, gid, rev;
	uint8_t action, priority;
	uint8_t layer;     /* of the header, DPI_LAYER_NONE: any */
	uint64_t layers;   /* that its buffers stand in: 1 << enum dpi_layer; 0: any */
	const char *other; /* name of a layer that is not parsed */
	uint8_t protos;    /* 1 TCP, 2 UDP, 4 ICMP, 8 ICMPv6, 16 SCTP, 32 the rest */
	uint8_t family;    /* 4, 6, 0 for both */
	uint16_t flow;     /* enum dpi_flow_flags */
	uint16_t flags;    /* enum dpi_sig_flags */
	uint8_t dirs;      /* that its buffers are in */
	char *msg, *classtype, *metadata, *reference;
	const char *file;
	uint32_t line;
	uint32_t index;             /* in its set: the order of judgement */
	struct dpi_nets *src, *dst; /* shared by the set */
	struct dpi_ports *sport, *dport;
	uint16_t nb_tests, nb_lists, nb_bits, nb_flowints;
	struct dpi_test *test;
	struct dpi_list *list;
	struct dpi_bits *bits;
	struct dpi_flowint *flowint;
	struct dpi_threshold threshold;
	uint8_t nb_vars;
	/* prefilter */
	int16_t fast_list, fast_item; /* -1: none */
};
#define DPI_VARS_MAX 16

void dpi_sig_destroy(struct dpi_sig *s);

/* Case folding of ASCII, as content:nocase has it. */
extern const uint8_t dpi_lower[256];

bool dpi_range_has(const struct dpi_range *r, int64_t x);
