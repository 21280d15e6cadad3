#pragma once

#include <openssl/ssl.h>

#include "attest/daemon/message.h"

/*
 * Messages between a host and its DPU over TLS 1.3, on whatever connects the two:
 *
 *     tcp:ADDRESS:PORT      tcp:[ADDRESS]:PORT      vsock:CID:PORT      unix:PATH
 *
 * The DPU shows its certificate; the host shows none, since what it is worth is what this connection is
 * there to find out.  What the TPM signs names the connection by its exporter (RFC 8446, section 7.5),
 * so nobody can stand in the middle and pass answers on.
 * Context: control thread, all of it.
 */
struct event_base;
struct attest_channel;

#define ATTEST_CHANNEL_SMALL 131072 /* bytes of a message from somebody not yet known */

struct attest_channel_ops {
	void (*ready)(struct attest_channel *c, void *arg);
	/* `bytes` are those of the message, borrowed for the call. */
	void (*message)(struct attest_channel *c, const struct attest_message *m, void *arg);
	/* Called once, from the loop, and never after attest_channel_destroy(), which is due then. */
	void (*closed)(struct attest_channel *c, const char *why, void *arg);
};

/* TLS settings for either role.  Returns NULL with the sentence. */
SSL_CTX *attest_channel_server_tls(const char *cert, const char *key, struct pk_diag *d);
SSL_CTX *attest_channel_client_tls(const char *ca, struct pk_diag *d);

/*
 * Listen on, or connect to, an address as above; a socket that does not block.  Connecting may still be
 * under way.  Returns the descriptor or negative errno with the sentence.
 */
int attest_address_listen(const char *address, struct pk_diag *d);
int attest_address_connect(const char *address, struct pk_diag *d);

/*
 * Speak on `fd` (taken, also on failure).  `dpu` NULL: we are the DPU; otherwise the host, and the
 * certificate has to be that of the DPU of this name (spiffe://DOMAIN/dpu/NAME).
 * A peer that does not get through the handshake, or begins a message and does not end it, or does not
 * read, within `patience_ns` is cut off.
 */
int attest_channel_create(struct attest_channel **out, struct event_base *base, SSL_CTX *tls,
    int fd, const char *dpu, uint64_t patience_ns, const struct attest_channel_ops *ops, void *arg);
void attest_channel_destroy(struct attest_channel *c);

/*
 * A channel whose other end is elsewhere: somebody has made the connection, `b` binds it (exporter and DPU key), and
 * passes messages on.  `carry` takes the bytes of one message and returns 0 or negative errno; `hang_up` ends the
 * connection there.  ops->ready is not called; ops->closed not by attest_channel_destroy().
 */
struct attest_carrier {
	int (*carry)(void *arg, const uint8_t *bytes, size_t len);
	void (*hang_up)(void *arg);
	void *arg;
};
int attest_channel_carried(struct attest_channel **out, const struct attest_carrier *by,
    const struct attest_binding *b, const struct attest_channel_ops *ops, void *arg);
/* The bytes of one message have come. */
void attest_channel_deliver(struct attest_channel *c, const uint8_t *bytes, size_t len);

/* The longest message taken from now on; ATTEST_CHANNEL_SMALL at first. */
void attest_channel_limit(struct attest_channel *c, size_t limit);

/* Returns 0, -EPROTO, -ENOMEM, or -EPIPE when the connection is at its end. */
int attest_channel_send(struct attest_channel *c, const struct attest_message *m);

/* Fill exporter and DPU key of `b`; once ready.  Returns 0 or -EPROTO. */
int attest_channel_bind(const struct attest_channel *c, struct attest_binding *b);
