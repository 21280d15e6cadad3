#pragma once

#include "ipsec/macsec/suite.h"
#include "lib/diag.h"

/*
 * What picketd, which has the SecYs, and picket-mkad, which has the KaYs, say to each other.
 *
 * On a Unix SOCK_SEQPACKET socket of picketd's, in host byte order; a message is as long as its type says
 * (macsec_msg_len()), and each side checks what comes as if the other had just been taken over.
 *
 *     mkad     HELLO                                            picketd  HELLO  PORT*
 *     picketd  EAPOL          a frame from the uncontrolled port
 *     mkad     EAPOL          a frame to send there
 *     mkad     SC_ADD, SC_DELETE, SA_ADD, SA_DELETE, SA_USE, SA_FLOOR, PORT_SET
 *                                                               picketd  STATUS, with the request's seq
 *     mkad     GET                                              picketd  SA*  STATUS
 *
 * Requests take effect in their order, and before what is sent to the wire after them: an association stands
 * ready to receive when an EAPOL that says so leaves.  The end of the connection changes nothing: packets flow on under
 * the keys there are, until their numbers run out.
 */
#define MACSEC_MSG_VERSION 1
#define MACSEC_EAPOL_MAX   1514 /* octets of a frame, from its destination address on */
#define MACSEC_PORTS_MAX   64

enum macsec_msg_type {
	MACSEC_MSG_NONE = 0,
	MACSEC_MSG_HELLO,
	MACSEC_MSG_PORT,
	MACSEC_MSG_EAPOL,
	MACSEC_MSG_SC_ADD,
	MACSEC_MSG_SC_DELETE,
	MACSEC_MSG_SA_ADD,
	MACSEC_MSG_SA_DELETE,
	MACSEC_MSG_SA_USE,
	MACSEC_MSG_SA_FLOOR,
	MACSEC_MSG_PORT_SET,
	MACSEC_MSG_GET,
	MACSEC_MSG_SA,
	MACSEC_MSG_STATUS,
	MACSEC_MSG_TYPE_COUNT,
};

struct macsec_msg_header {
	uint16_t version;
	uint16_t type;
	uint16_t port; /* number of the wire; 0 for HELLO */
	uint16_t zero;
	uint32_t seq; /* of the request */
	uint32_t zero2;
};

struct macsec_msg_hello {
	char program[32];
	char instance[64];
	uint64_t epoch; /* random per start: another one means that all keys are gone */
};

/* A port with a SecY. */
struct macsec_msg_port {
	char name[64];
	uint8_t mac[6];
	uint8_t required; /* 1: nothing passes in clear */
	uint8_t zero;
	uint64_t sci;
};

struct macsec_msg_eapol {
	uint16_t len;
	uint8_t frame[MACSEC_EAPOL_MAX]; /* `len` of them, the rest 0 */
};

/* Which association; of SC_ADD and SC_DELETE only the SCI counts, of SA_USE the AN. */
struct macsec_msg_which {
	uint64_t sci;
	uint64_t pn;     /* SA_FLOOR: lowest acceptable */
	uint8_t receive; /* 0: of the transmit channel */
	uint8_t an;
	uint8_t zero[6];
};

struct macsec_msg_sa_add {
	struct macsec_msg_which which;
	uint8_t suite;           /* enum macsec_suite */
	uint8_t confidentiality; /* enum macsec_confidentiality */
	uint8_t zero[2];
	uint32_t ssci;
	uint64_t pn;
	uint8_t key[MACSEC_KEY_MAX]; /* zeroes behind its end */
	uint8_t salt[MACSEC_SALT];
	uint8_t zero2[4];
	uint8_t ki[16];
};

/* The KaY's say about the controlled port, and what it has to tell people. */
struct macsec_msg_port_set {
	uint8_t enabled; /* controlledPortEnabled */
	uint8_t zero[7];
	char state[64];
};

struct macsec_msg_sa {
	struct macsec_msg_which
	    which; /* pn: next to use, or one above the highest accepted; 0 behind the last */
	uint64_t lowest_pn;
	uint8_t suite, confidentiality, in_use;
	uint8_t zero[5];
	uint8_t ki[16];
};

struct macsec_msg_status {
	int32_t error; /* 0, or a negative errno with the sentence */
	char text[188];
};

struct macsec_msg {
	struct macsec_msg_header h;
	union {
		struct macsec_msg_hello hello;
		struct macsec_msg_port port;
		struct macsec_msg_eapol eapol;
		struct macsec_msg_which which;
		struct macsec_msg_sa_add sa_add;
		struct macsec_msg_port_set port_set;
		struct macsec_msg_sa sa;
		struct macsec_msg_status status;
	};
};

/* Zero *m and set version, type and port. */
void macsec_msg_init(struct macsec_msg *m, enum macsec_msg_type type, uint16_t port);

/* Bytes of a message of its type; 0 for none. */
size_t macsec_msg_len(const struct macsec_msg *m);

/*
 * Check all that can be judged without state; `len` is what recv() returned.  Context: any.
 * Returns 0 or -EPROTO with *diag.
 */
int macsec_msg_check(const struct macsec_msg *m, size_t len, struct pk_diag *diag);

const char *macsec_msg_type_name(unsigned int type);
