#include "tls-offload/trust.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#define NAME 32 /* SHA-256 */

struct known {
	uint8_t name[NAME];
	struct pk_svid_peer peer;
};

struct tlso_trust {
	_Atomic unsigned int refs;
	struct pk_svid_trust *trust;
	pthread_mutex_t lock; /* of slot */
	struct known *slot[TLSO_CACHE_SLOTS];
	_Atomic uint64_t verified, cached;
};

int
tlso_trust_create(struct tlso_trust **out, const struct pk_svid_trust *t)
{
	struct tlso_trust *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return -ENOMEM;
	if (pk_svid_trust_copy(&n->trust, t) < 0) {
		free(n);
		return -ENOMEM;
	}
	pthread_mutex_init(&n->lock, NULL);
	atomic_init(&n->refs, 1);
	*out = n;
	return 0;
}

struct tlso_trust *
tlso_trust_get(struct tlso_trust *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void
tlso_trust_put(struct tlso_trust *t)
{
	if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned int i = 0; i < TLSO_CACHE_SLOTS; i++)
		free(t->slot[i]);
	pthread_mutex_destroy(&t->lock);
	pk_svid_trust_destroy(t->trust);
	free(t);
}

void
tlso_trust_stats(const struct tlso_trust *t, struct tlso_trust_stats *out)
{
	out->verified = atomic_load_explicit(&t->verified, memory_order_relaxed);
	out->cached = atomic_load_explicit(&t->cached, memory_order_relaxed);
}

/* Of leaf and chain, each by its own digest, so that no two sequences of certificates have one name. */
static bool
name_of(X509 *leaf, STACK_OF(X509) * chain, uint8_t out[NAME])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t one[EVP_MAX_MD_SIZE];
	unsigned int len;
	bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
	    X509_digest(leaf, EVP_sha256(), one, &len) == 1 && EVP_DigestUpdate(ctx, one, len) == 1;

	for (int i = 0; ok && i < sk_X509_num(chain); i++)
		ok = X509_digest(sk_X509_value(chain, i), EVP_sha256(), one, &len) == 1 &&
		    EVP_DigestUpdate(ctx, one, len) == 1;
	ok = ok && EVP_DigestFinal_ex(ctx, out, &len) == 1;
	EVP_MD_CTX_free(ctx);
	return ok;
}

static struct known **
slot_of(struct tlso_trust *t, const uint8_t *name)
{
	return &t->slot[(name[0] | name[1] << 8) % TLSO_CACHE_SLOTS];
}

static bool
recall(struct tlso_trust *t, const uint8_t *name, time_t now, struct pk_svid_peer *out)
{
	const struct known *k;
	bool found;

	pthread_mutex_lock(&t->lock);
	k = *slot_of(t, name);
	found = k != NULL && memcmp(k->name, name, NAME) == 0 &&
	    (uint64_t)now < k->peer.not_after_s;
	if (found)
		*out = k->peer;
	pthread_mutex_unlock(&t->lock);
	return found;
}

static void
remember(struct tlso_trust *t, const uint8_t *name, const struct pk_svid_peer *peer)
{
	struct known *k = malloc(sizeof(*k)), *old;

	if (k == NULL)
		return;
	memcpy(k->name, name, NAME);
	k->peer = *peer;
	pthread_mutex_lock(&t->lock);
	old = *slot_of(t, name);
	*slot_of(t, name) = k;
	pthread_mutex_unlock(&t->lock);
	free(old);
}

enum pk_svid_verdict
tlso_trust_verify(struct tlso_trust *t, X509 *leaf, STACK_OF(X509) * chain, time_t now,
    struct pk_svid_peer *out, struct pk_diag *diag)
{
	enum pk_svid_verdict verdict;
	uint8_t name[NAME];
	bool named = name_of(leaf, chain, name);

	if (named && recall(t, name, now, out)) {
		atomic_fetch_add_explicit(&t->cached, 1, memory_order_relaxed);
		return PK_SVID_TRUSTED;
	}
	atomic_fetch_add_explicit(&t->verified, 1, memory_order_relaxed);
	verdict = pk_svid_verify(t->trust, leaf, chain, now, out, diag);
	if (named && verdict == PK_SVID_TRUSTED)
		remember(t, name, out);
	return verdict;
}

bool
tlso_trust_is_revoked(const struct tlso_trust *t, const struct pk_svid_peer *peer)
{
	return pk_svid_is_revoked(t->trust, peer);
}

/* ---- a handshake ---- */

static int
ex_index(void)
{
	static _Atomic int index = -1;
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	if (index < 0)
		index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	pthread_mutex_unlock(&once);
	return index;
}

void
tlso_check_attach(SSL *ssl, struct tlso_check *check)
{
	(void)SSL_set_ex_data(ssl, ex_index(), check);
}

int
tlso_check_callback(X509_STORE_CTX *ctx, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tlso_check *c = ssl != NULL ? SSL_get_ex_data(ssl, ex_index()) : NULL;
	X509 *leaf = X509_STORE_CTX_get0_cert(ctx);

	(void)arg;
	X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
	if (c == NULL || c->trust == NULL || leaf == NULL)
		return 0;
	c->verdict = tlso_trust_verify(
	    c->trust, leaf, X509_STORE_CTX_get0_untrusted(ctx), time(NULL), &c->peer, &c->why);
	if (c->verdict != PK_SVID_TRUSTED)
		return 0;
	/* RFC 9525 has names for servers to be checked by clients; here both ends are held to the address they speak from. */
	if (c->want[0] == '\0' || strcmp(c->want, c->peer.workload) != 0) {
		c->verdict = PK_SVID_REFUSED;
		pk_diag_set(&c->why, "%.200s: its address is that of %s", c->peer.id,
		    c->want[0] != '\0' ? c->want : "nobody we know");
		return 0;
	}
	X509_STORE_CTX_set_error(ctx, X509_V_OK);
	return 1;
}
