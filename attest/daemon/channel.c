#include "attest/daemon/channel.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lib/spiffe.h"

struct attest_channel {
	struct bufferevent *bev;
	SSL *ssl; /* the bufferevent's */
	const struct attest_channel_ops *ops;
	void *arg;
	char dpu[ATTEST_HOST_MAX]; /* "": we are it */
	size_t limit;
	struct timeval patience;
	bool ready, over;
	struct attest_carrier carrier; /* of one that has no connection of its own: bev is NULL */
	struct attest_binding binding; /* the same */
	bool busy, doomed; /* destroyed from one of its own callbacks: freed when that returns */
};

/* ---- TLS ------------------------------------------------------------------------------------------ */

static const char *
tls_error(void)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return why != NULL ? why : "unknown error";
}

static SSL_CTX *
new_tls(const SSL_METHOD *method, struct pk_diag *d)
{
	SSL_CTX *tls = SSL_CTX_new(method);

	if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1) {
		pk_diag_set(d, "TLS 1.3 is not to be had: %s", tls_error());
		SSL_CTX_free(tls);
		return NULL;
	}
	/* Nobody resumes: each connection has a binding of its own. */
	SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(tls, 0);
	return tls;
}

SSL_CTX *
attest_channel_server_tls(const char *cert, const char *key, struct pk_diag *d)
{
	SSL_CTX *tls = new_tls(TLS_server_method(), d);

	if (tls == NULL)
		return NULL;
	if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(tls) != 1) {
		pk_diag_set(d, "%s, %s: %s", cert, key, tls_error());
		SSL_CTX_free(tls);
		return NULL;
	}
	return tls;
}

SSL_CTX *
attest_channel_client_tls(const char *ca, struct pk_diag *d)
{
	SSL_CTX *tls = new_tls(TLS_client_method(), d);

	if (tls == NULL)
		return NULL;
	if (SSL_CTX_load_verify_file(tls, ca) != 1) {
		pk_diag_set(d, "%s: %s", ca, tls_error());
		SSL_CTX_free(tls);
		return NULL;
	}
	/* A DPU's certificate is for both ends of its connections; who it is says the SPIFFE id. */
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	return tls;
}

/* Exactly one URI, and that the id of the DPU we want (X509-SVID, section 2). */
static bool
is_dpu(X509 *cert, const char *dpu)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	struct pk_spiffe id;
	unsigned int uris = 0;
	bool good = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		char text[512];
		int len;

		if (n->type != GEN_URI)
			continue;
		uris++;
		len = ASN1_STRING_length(n->d.uniformResourceIdentifier);
		if (len <= 0 || (size_t)len >= sizeof(text))
			continue;
		memcpy(text, ASN1_STRING_get0_data(n->d.uniformResourceIdentifier), (size_t)len);
		text[len] = '\0';
		good = strlen(text) == (size_t)len && pk_spiffe_parse(&id, text) == 0 &&
		    strcmp(id.kind, "dpu") == 0 && strcmp(id.name, dpu) == 0;
	}
	GENERAL_NAMES_free(names);
	return good && uris == 1;
}

static int
bind_to_tls(const struct attest_channel *c, struct attest_binding *b)
{
	/* OpenSSL 3.0 has no accessor of our own certificate that is not borrowed. */
	X509 *cert = c->dpu[0] == '\0' ? SSL_get_certificate(c->ssl)
	                               : SSL_get0_peer_certificate(c->ssl);
	uint8_t *der = NULL;
	unsigned int n = 0;
	int len = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1, rc = -1;

	if (len > 0 && EVP_Digest(der, (size_t)len, b->dpu_key, &n, EVP_sha256(), NULL) == 1 &&
	    SSL_export_keying_material(c->ssl, b->exporter, sizeof(b->exporter),
	        ATTEST_EXPORTER_LABEL, sizeof(ATTEST_EXPORTER_LABEL) - 1, NULL, 0, 0) == 1)
		rc = 0;
	OPENSSL_free(der);
	return rc == 0 ? 0 : -EPROTO;
}

int
attest_channel_bind(const struct attest_channel *c, struct attest_binding *b)
{
	if (c->bev == NULL) {
		memcpy(b->exporter, c->binding.exporter, sizeof(b->exporter));
		memcpy(b->dpu_key, c->binding.dpu_key, sizeof(b->dpu_key));
		return 0;
	}
	return bind_to_tls(c, b);
}

/* ---- messages ------------------------------------------------------------------------------------- */

static void
end(struct attest_channel *c, const char *why)
{
	if (c->over)
		return;
	c->over = true;
	if (c->bev != NULL)
		bufferevent_disable(c->bev, EV_READ | EV_WRITE);
	c->ops->closed(c, why, c->arg);
}

/* Silence between messages is the business of whoever asked; silence inside one is ours. */
static void
wait_for_rest(struct attest_channel *c, bool begun)
{
	bufferevent_set_timeouts(c->bev, begun || !c->ready ? &c->patience : NULL, &c->patience);
}

static void
take_messages(struct attest_channel *c, struct bufferevent *bev)
{
	struct evbuffer *in = bufferevent_get_input(bev);

	while (!c->over) {
		uint8_t head[ATTEST_MESSAGE_HEADER];
		struct attest_message m;
		struct pk_diag diag;
		size_t len;

		if (evbuffer_copyout(in, head, sizeof(head)) < (ssize_t)sizeof(head))
			break;
		if (attest_message_length(head, c->limit, &len, &diag) < 0) {
			end(c, diag.text);
			return;
		}
		if (evbuffer_get_length(in) < len) {
			/* No more than this message is ever held. */
			bufferevent_setwatermark(bev, EV_READ, len, len + 65536);
			break;
		}
		if (attest_message_parse(&m, evbuffer_pullup(in, (ssize_t)len), len, &diag) < 0) {
			end(c, diag.text);
			return;
		}
		c->ops->message(c, &m, c->arg);
		if (c->over)
			return;
		evbuffer_drain(in, len);
		bufferevent_setwatermark(bev, EV_READ, 0, 65536);
	}
	if (!c->over)
		wait_for_rest(c, evbuffer_get_length(in) > 0);
}

static void
leave(struct attest_channel *c)
{
	c->busy = false;
	if (c->doomed)
		attest_channel_destroy(c);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct attest_channel *c = arg;

	c->busy = true;
	take_messages(c, bev);
	leave(c);
}

static void
take_event(struct attest_channel *c, struct bufferevent *bev, short what)
{
	char why[256];
	unsigned long err;

	if (what & BEV_EVENT_CONNECTED) {
		X509 *cert = SSL_get0_peer_certificate(c->ssl);

		if (c->dpu[0] != '\0' && (cert == NULL || !is_dpu(cert, c->dpu))) {
			snprintf(
			    why, sizeof(why), "its certificate is not that of DPU \"%s\"", c->dpu);
			end(c, why);
			return;
		}
		c->ready = true;
		wait_for_rest(c, false);
		c->ops->ready(c, c->arg);
		return;
	}
	if (what & BEV_EVENT_EOF) {
		end(c, "closed by the other end");
	} else if (what & BEV_EVENT_TIMEOUT) {
		end(c,
		    c->ready ? "it began a message and did not end it, or does not read"
		             : "no TLS handshake in time");
	} else {
		err = bufferevent_get_openssl_error(bev);
		if (err != 0 && SSL_get_verify_result(c->ssl) != X509_V_OK)
			snprintf(why, sizeof(why), "TLS: its certificate is refused: %s",
			    X509_verify_cert_error_string(SSL_get_verify_result(c->ssl)));
		else if (err != 0)
			snprintf(why, sizeof(why), "TLS: %s",
			    ERR_reason_error_string(err) != NULL ? ERR_reason_error_string(err)
			                                         : "error");
		else
			snprintf(why, sizeof(why), "%s",
			    evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
		end(c, why);
	}
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	struct attest_channel *c = arg;

	c->busy = true;
	take_event(c, bev, what);
	leave(c);
}

int
attest_channel_create(struct attest_channel **out, struct event_base *base, SSL_CTX *tls, int fd,
    const char *dpu, uint64_t patience_ns, const struct attest_channel_ops *ops, void *arg)
{
	struct attest_channel *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->ssl = SSL_new(tls);
	if (c == NULL || c->ssl == NULL || (dpu != NULL && strlen(dpu) >= sizeof(c->dpu))) {
		close(fd);
		free(c);
		return -ENOMEM;
	}
	c->bev = bufferevent_openssl_socket_new(base, fd, c->ssl,
	    dpu != NULL ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING,
	    BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (c->bev == NULL) {
		SSL_free(c->ssl);
		close(fd);
		free(c);
		return -ENOMEM;
	}
	/* What is not closed with close_notify ends like any other: a message is whole or it is not. */
	bufferevent_openssl_set_allow_dirty_shutdown(c->bev, 1);
	if (dpu != NULL)
		strcpy(c->dpu, dpu);
	c->ops = ops;
	c->arg = arg;
	c->limit = ATTEST_CHANNEL_SMALL;
	c->patience.tv_sec = (time_t)(patience_ns / PK_NS_PER_S);
	c->patience.tv_usec = (suseconds_t)(patience_ns % PK_NS_PER_S / 1000);
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, 65536);
	wait_for_rest(c, false);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
	*out = c;
	return 0;
}

int
attest_channel_carried(struct attest_channel **out, const struct attest_carrier *by,
    const struct attest_binding *b, const struct attest_channel_ops *ops, void *arg)
{
	struct attest_channel *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->carrier = *by;
	c->binding = *b;
	c->ops = ops;
	c->arg = arg;
	c->limit = ATTEST_CHANNEL_SMALL;
	c->ready = true;
	*out = c;
	return 0;
}

void
attest_channel_deliver(struct attest_channel *c, const uint8_t *bytes, size_t len)
{
	struct attest_message m;
	struct pk_diag diag;
	size_t whole;

	if (c->over)
		return;
	c->busy = true;
	if (len < ATTEST_MESSAGE_HEADER ||
	    attest_message_length(bytes, c->limit, &whole, &diag) < 0 || whole != len ||
	    attest_message_parse(&m, bytes, len, &diag) < 0)
		end(c, "it sent what is no message, or too long");
	else
		c->ops->message(c, &m, c->arg);
	leave(c);
}

void
attest_channel_destroy(struct attest_channel *c)
{
	if (c == NULL)
		return;
	c->over = true;
	c->doomed = true;
	if (c->busy)
		return;
	if (c->bev != NULL)
		bufferevent_free(c->bev);
	else
		c->carrier.hang_up(c->carrier.arg);
	free(c);
}

void
attest_channel_limit(struct attest_channel *c, size_t limit)
{
	c->limit = limit;
}

static void
free_bytes(const void *data, size_t len, void *arg)
{
	(void)len;
	(void)arg;
	free((void *)(uintptr_t)data);
}

int
attest_channel_send(struct attest_channel *c, const struct attest_message *m)
{
	struct pk_diag diag;
	uint8_t *bytes;
	size_t len;
	int rc;

	if (c->over)
		return -EPIPE;
	rc = attest_message_pack(&bytes, &len, m, &diag);
	if (rc < 0)
		return rc;
	if (c->bev == NULL) {
		rc = c->carrier.carry(c->carrier.arg, bytes, len);
		free(bytes);
		return rc;
	}
	if (evbuffer_add_reference(bufferevent_get_output(c->bev), bytes, len, free_bytes, NULL) <
	    0) {
		free(bytes);
		return -ENOMEM;
	}
	return 0;
}
