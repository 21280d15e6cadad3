#pragma once

#include "fw/path.h"
#include "ipsec/macsec/secy.h"

/*
 * MACsec on the outside port of a wire: between the port and the packet path, which sees clear frames alone.
 *
 *     path -- controlled port --> SecY ----.
 *                                          +--- port
 *     picket-mkad -- uncontrolled port ----'     (EAPOL, ethertype 88-8e)
 *
 * The port has one queue, so one lcore receives and sends on it and owns the SecY.  EAPOL frames go to the control
 * thread and come from there through rings; they are no part of the path's account.
 *
 * A link on which MACsec is required passes nothing in clear.  One on which it is preferred passes clear frames until
 * a key agreement has succeeded, and nothing but MACsec from then on as long as it lasts.
 */
struct fw_macsec;

struct fw_macsec_conf {
	uint16_t wire;
	uint16_t port; /* DPDK's number of the outside port */
	bool required;
	bool engine; /* the port's own, through rte_security, or nothing */
	struct macsec_secy_conf secy;
	struct rte_mempool
	    *pool; /* for EAPOL frames, and packets that cannot grow in place; borrowed */
};

/*
 * `words` is the rest of an option: "WIRE required|preferred [WORD [NUMBER]]...", as picketd's man page has it.
 * Fills in wire, required, engine and secy but its SCI.  Returns 0 or -EINVAL with *diag.  Context: control thread.
 */
int fw_macsec_parse(const char *words, struct fw_macsec_conf *conf, struct pk_diag *diag);

/* Context: control thread, for all down to fw_macsec_eapol().  Returns 0, -EINVAL or -ENOMEM, with *diag. */
int fw_macsec_create(
    struct fw_macsec **out, const struct fw_macsec_conf *conf, struct pk_diag *diag);
void fw_macsec_destroy(struct fw_macsec *m); /* NULL is allowed */

const struct fw_macsec_conf *fw_macsec_conf(const struct fw_macsec *m);
struct macsec_secy *fw_macsec_secy(struct fw_macsec *m);
void fw_macsec_enable(struct fw_macsec *m, bool enabled); /* the controlled port */
bool fw_macsec_up(const struct fw_macsec *m);

/* Send a frame on the uncontrolled port.  Returns 0, -ENOBUFS or -EMSGSIZE. */
int fw_macsec_inject(struct fw_macsec *m, const uint8_t *frame, size_t len);

/* The next EAPOL frame that has come, cut to `size` octets; 0: none. */
size_t fw_macsec_eapol(struct fw_macsec *m, uint8_t *frame, size_t size);

struct fw_macsec_stats {
	pk_counter eapol_in, eapol_in_lost, eapol_out, eapol_out_lost;
	pk_counter clear_in, clear_out; /* passed in clear, where MACsec is preferred and not up */
};
const struct fw_macsec_stats *fw_macsec_stats(const struct fw_macsec *m);

/* ---- the lcore that owns the port ------------------------------------------------------------------- */

/*
 * Of pkts[0 .. n - 1] received keep those that the path is to see, as their senders had them.  What is refused is
 * counted by the path as received and dropped.  Returns how many are left, in their order.
 */
unsigned int fw_macsec_rx(struct fw_macsec *m, struct fw_path *p, struct rte_mbuf **pkts,
    unsigned int n, uint64_t now_ns);

/* Protect what is to be sent; the path has counted it as sent, and is told of what is not. */
unsigned int fw_macsec_tx(
    struct fw_macsec *m, struct fw_path *p, struct rte_mbuf **pkts, unsigned int n);

/* EAPOL frames to send, n at most. */
unsigned int fw_macsec_injected(struct fw_macsec *m, struct rte_mbuf **pkts, unsigned int n);
