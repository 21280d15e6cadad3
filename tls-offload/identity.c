#include "tls-offload/identity.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tls-offload/direct.h"
#include "tls-offload/trust.h"

struct tlso_identities {
	pthread_mutex_t lock; /* of what follows */
	struct tlso_identity *first;
	unsigned int nb;
	enum tlso_mode mode;
};

/* RFC 7301, section 3.1: each with its length before it. */
static const uint8_t protocols[] = "\x08" TLSO_DIRECT_ALPN "\x02" TLSO_ALPN_H2;
#define DIRECT_LEN 9
#define BOTH_LEN   12

static void
offer_of(enum tlso_mode mode, const uint8_t **list, unsigned int *len)
{
	*list = mode == TLSO_MODE_HBONE ? protocols + DIRECT_LEN : protocols;
	*len = mode == TLSO_MODE_BOTH  ? BOTH_LEN
	    : mode == TLSO_MODE_DIRECT ? DIRECT_LEN
	                               : BOTH_LEN - DIRECT_LEN;
}

static int
choose(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in, unsigned int in_len,
    void *arg)
{
	const uint8_t *list;
	unsigned int len;

	(void)ssl;
	offer_of((enum tlso_mode)(uintptr_t)arg, &list, &len);
	if (SSL_select_next_proto((uint8_t **)(uintptr_t)out, out_len, list, len, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *
make_context(const struct pk_svid *s, bool server, enum tlso_mode mode)
{
	SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	const uint8_t *list;
	unsigned int len;
	bool ok = c != NULL && SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1 &&
	    SSL_CTX_set_ciphersuites(c, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256") == 1 &&
	    SSL_CTX_set1_groups_list(c, "X25519:P-256") == 1 &&
	    SSL_CTX_use_certificate(c, s->leaf) == 1 && SSL_CTX_use_PrivateKey(c, s->key) == 1 &&
	    SSL_CTX_check_private_key(c) == 1;

	for (int i = 0; ok && i < sk_X509_num(s->chain); i++)
		ok = SSL_CTX_add1_chain_cert(c, sk_X509_value(s->chain, i)) == 1;
	offer_of(mode, &list, &len);
	if (ok && !server)
		ok = SSL_CTX_set_alpn_protos(c, list, len) == 0;
	if (!ok) {
		SSL_CTX_free(c);
		return NULL;
	}
	if (server)
		SSL_CTX_set_alpn_select_cb(c, choose, (void *)(uintptr_t)mode);
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(c, tlso_check_callback, NULL);
	/* No resumption: a peer that is known by a ticket would not have been judged by what is revoked now. */
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(c, 0);
	SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(c,
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	        SSL_MODE_RELEASE_BUFFERS);
	/* Chains are short: a leaf, perhaps an authority between. */
	SSL_CTX_set_max_cert_list(c, 16384);
	return c;
}

int
tlso_identities_create(struct tlso_identities **out, enum tlso_mode mode)
{
	struct tlso_identities *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->mode = mode;
	*out = t;
	return 0;
}

void
tlso_identities_destroy(struct tlso_identities *t)
{
	if (t == NULL)
		return;
	while (t->first != NULL) {
		struct tlso_identity *i = t->first;

		t->first = i->next;
		tlso_identity_put(i);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* The place of `workload`'s, or the end of the list.  Behind one DPU there are some dozens. */
static struct tlso_identity **
place_of(struct tlso_identities *t, const char *workload)
{
	struct tlso_identity **at = &t->first;

	while (*at != NULL && strcmp((*at)->workload, workload) != 0)
		at = &(*at)->next;
	return at;
}

int
tlso_identities_put(struct tlso_identities *t, const struct pk_svid *s, struct pk_diag *diag)
{
	struct tlso_identity *i = calloc(1, sizeof(*i)), **at, *old;

	if (i == NULL)
		return -ENOMEM;
	atomic_init(&i->refs, 1);
	memcpy(i->workload, s->workload, sizeof(i->workload));
	i->not_after_s = s->not_after_s;
	i->server = make_context(s, true, t->mode);
	i->client = make_context(s, false, t->mode);
	if (i->server == NULL || i->client == NULL) {
		const char *why = ERR_reason_error_string(ERR_peek_last_error());

		pk_diag_set(diag, "%s: its SVID cannot be used for TLS: %s", s->workload,
		    why != NULL ? why : "no memory");
		ERR_clear_error();
		tlso_identity_put(i);
		return -EINVAL;
	}
	pthread_mutex_lock(&t->lock);
	at = place_of(t, i->workload);
	old = *at;
	i->next = old != NULL ? old->next : NULL;
	*at = i;
	t->nb += old == NULL;
	pthread_mutex_unlock(&t->lock);
	tlso_identity_put(old);
	return 0;
}

void
tlso_identities_remove(struct tlso_identities *t, const char *workload)
{
	struct tlso_identity **at, *old;

	pthread_mutex_lock(&t->lock);
	at = place_of(t, workload);
	old = *at;
	if (old != NULL) {
		*at = old->next;
		t->nb--;
	}
	pthread_mutex_unlock(&t->lock);
	tlso_identity_put(old);
}

struct tlso_identity *
tlso_identities_get(struct tlso_identities *t, const char *workload, uint64_t now_s)
{
	struct tlso_identity *i;

	pthread_mutex_lock(&t->lock);
	i = *place_of(t, workload);
	if (i != NULL && i->not_after_s <= now_s)
		i = NULL;
	if (i != NULL)
		atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&t->lock);
	return i;
}

void
tlso_identity_put(struct tlso_identity *i)
{
	if (i == NULL || atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(i->server);
	SSL_CTX_free(i->client);
	free(i);
}

unsigned int
tlso_identities_count(struct tlso_identities *t)
{
	unsigned int nb;

	pthread_mutex_lock(&t->lock);
	nb = t->nb;
	pthread_mutex_unlock(&t->lock);
	return nb;
}
