#include "ipsec/ike/creds.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <collections/hashtable.h>
#include <collections/linked_list.h>
#include <credentials/certificates/x509.h>
#include <credentials/sets/mem_cred.h>

#include "lib/secret.h"

#define FILE_MAX_BYTES 65536

typedef struct private_creds_t private_creds_t;

struct private_creds_t {
	creds_t public;
	char *dir;
	/** certificates and keys */
	mem_cred_t *mem;
	/** secrets, found by identity; nothing is added once it is in force, so it needs no lock */
	credential_set_t secrets;
	hashtable_t *by_identity;	/* identification_t => linked_list_t of secret_t */
	linked_list_t *wild;		/* secret_t of peers with %any or * in their identity */
	linked_list_t *all;		/* secret_t, owned */
	bool enabled;
};

typedef struct {
	identification_t *local, *remote;
	shared_key_t *key;
} secret_t;

static void destroy_secret(secret_t *secret)
{
	secret->local->destroy(secret->local);
	secret->remote->destroy(secret->remote);
	secret->key->destroy(secret->key);
	free(secret);
}

static u_int identity_hash(const void *key)
{
	identification_t *id = (identification_t*)key;

	return id->hash(id, 0);
}

static bool identity_equals(const void *a, const void *b)
{
	identification_t *id = (identification_t*)a;

	return id->equals(id, (identification_t*)b);
}

/* ---- secrets, as a credential_set_t ------------------------------------------------------------------ */

typedef struct {
	enumerator_t public;
	enumerator_t *exact, *wild;
	identification_t *me, *other;
} secret_enumerator_t;

METHOD(enumerator_t, enumerate_secrets, bool,
	secret_enumerator_t *this, va_list args)
{
	id_match_t *out_me, *out_other, me, other;
	shared_key_t **out;
	secret_t *secret;

	VA_ARGS_VGET(args, out, out_me, out_other);
	while ((this->exact && this->exact->enumerate(this->exact, &secret)) ||
		   this->wild->enumerate(this->wild, &secret))
	{
		me = this->me ? this->me->matches(this->me, secret->local) : ID_MATCH_ANY;
		other = this->other ? this->other->matches(this->other, secret->remote) : ID_MATCH_ANY;
		if (me == ID_MATCH_NONE || other == ID_MATCH_NONE)
		{
			continue;
		}
		*out = secret->key;
		if (out_me)
		{
			*out_me = me;
		}
		if (out_other)
		{
			*out_other = other;
		}
		return TRUE;
	}
	return FALSE;
}

METHOD(enumerator_t, destroy_enumerator, void,
	secret_enumerator_t *this)
{
	DESTROY_IF(this->exact);
	this->wild->destroy(this->wild);
	free(this);
}

METHOD(credential_set_t, create_shared_enumerator, enumerator_t*,
	credential_set_t *set, shared_key_type_t type, identification_t *me, identification_t *other)
{
	private_creds_t *this = (private_creds_t*)((char*)set - offsetof(private_creds_t, secrets));
	secret_enumerator_t *enumerator;
	linked_list_t *list;

	if (type != SHARED_IKE && type != SHARED_ANY)
	{
		return NULL;
	}
	INIT(enumerator,
		.public = {
			.enumerate = enumerator_enumerate_default,
			.venumerate = _enumerate_secrets,
			.destroy = _destroy_enumerator,
		},
		.me = me,
		.other = other,
		.wild = this->wild->create_enumerator(this->wild),
	);
	list = other ? this->by_identity->get(this->by_identity, other) : this->all;
	if (list)
	{
		enumerator->exact = list->create_enumerator(list);
	}
	return &enumerator->public;
}

/**
 * The rest of what a credential_set_t may have: nothing
 */
static enumerator_t *create_no_enumerator()
{
	return NULL;
}

static void add_secret(private_creds_t *this, identification_t *local, identification_t *remote,
					   chunk_t bytes)
{
	linked_list_t *list;
	secret_t *secret;

	INIT(secret,
		.local = local,
		.remote = remote,
		.key = shared_key_create(SHARED_IKE, bytes),
	);
	this->all->insert_last(this->all, secret);
	if (remote->contains_wildcards(remote))
	{
		this->wild->insert_last(this->wild, secret);
		return;
	}
	list = this->by_identity->get(this->by_identity, remote);
	if (!list)
	{
		list = linked_list_create();
		this->by_identity->put(this->by_identity, remote, list);
	}
	list->insert_last(list, secret);
}

/* ---- files ------------------------------------------------------------------------------------------- */

/**
 * PEM as it stands, or the content of a file below our directory.  Returns chunk_empty with diag.
 */
static chunk_t get_text(private_creds_t *this, const char *text, struct pk_diag *diag)
{
	chunk_t bytes = chunk_empty;
	struct stat st;
	char path[512];
	int fd;

	if (strpfx((char*)text, "-----BEGIN "))
	{
		return chunk_clone(chunk_from_str((char*)text));
	}
	if (text[0] == '/' || strstr(text, ".."))
	{
		pk_diag_set(diag, "\"%.128s\" leads out of %s, which holds the files of peers", text, this->dir);
		return chunk_empty;
	}
	snprintf(path, sizeof(path), "%s/%s", this->dir, text);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd == -1 || fstat(fd, &st) != 0)
	{
		pk_diag_set(diag, "%s: cannot be opened: %s", path, strerror(errno));
	}
	else if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FILE_MAX_BYTES)
	{
		pk_diag_set(diag, "%s: want a file of 1 to %d bytes", path, FILE_MAX_BYTES);
	}
	else
	{
		bytes = chunk_alloc(st.st_size);
		if (read(fd, bytes.ptr, bytes.len) != (ssize_t)bytes.len)
		{
			pk_diag_set(diag, "%s: cannot be read: %s", path, strerror(errno));
			chunk_clear(&bytes);
		}
	}
	if (fd != -1)
	{
		close(fd);
	}
	return bytes;
}

/**
 * What to call PEM in a sentence: never by its text
 */
static const char *name_of(const char *text)
{
	return strpfx((char*)text, "-----BEGIN ") ? "the PEM given" : text;
}

static certificate_t *load_certificate(private_creds_t *this, const char *text, struct pk_diag *diag)
{
	chunk_t bytes = get_text(this, text, diag);
	certificate_t *cert;

	if (!bytes.len)
	{
		return NULL;
	}
	cert = lib->creds->create(lib->creds, CRED_CERTIFICATE, CERT_X509, BUILD_BLOB_PEM, bytes,
							  BUILD_END);
	chunk_clear(&bytes);
	if (!cert)
	{
		pk_diag_set(diag, "%s: holds no X.509 certificate", name_of(text));
	}
	return cert;
}

static private_key_t *load_key(private_creds_t *this, const char *text, struct pk_diag *diag)
{
	chunk_t bytes = get_text(this, text, diag);
	private_key_t *key;

	if (!bytes.len)
	{
		return NULL;
	}
	key = lib->creds->create(lib->creds, CRED_PRIVATE_KEY, KEY_ANY, BUILD_BLOB_PEM, bytes,
							 BUILD_END);
	chunk_clear(&bytes);
	if (!key)
	{
		pk_diag_set(diag, "%s: holds no private key of RSA, ECDSA or Ed25519", name_of(text));
	}
	return key;
}

static bool load_local(private_creds_t *this, const struct policy_ike_peer *peer, auth_cfg_t *local,
					   struct pk_diag *diag)
{
	identification_t *id;
	certificate_t *cert;
	private_key_t *key;
	public_key_t *public;
	bool ok = FALSE;

	cert = load_certificate(this, peer->local.certificate, diag);
	if (!cert)
	{
		return FALSE;
	}
	key = load_key(this, peer->local.key, diag);
	public = cert->get_public_key(cert);
	id = identification_create_from_string((char*)peer->local.identity);
	if (key && (!public || !key->belongs_to(key, public)))
	{
		pk_diag_set(diag, "local: the key is not that of the certificate");
	}
	else if (key && !cert->has_subject(cert, id))
	{	/* the peer would refuse it, and nobody here would know why */
		pk_diag_set(diag, "local: the certificate is not for identity \"%.128s\"",
					peer->local.identity);
	}
	else if (key)
	{
		key->get_ref(key);
		this->mem->add_key(this->mem, key);
		cert = this->mem->add_cert_ref(this->mem, FALSE, cert);
		local->add(local, AUTH_RULE_SUBJECT_CERT, cert->get_ref(cert));
		ok = TRUE;
	}
	id->destroy(id);
	DESTROY_IF(public);
	DESTROY_IF(key);
	cert->destroy(cert);
	return ok;
}

static bool load_remote(private_creds_t *this, const struct policy_ike_peer *peer,
						auth_cfg_t *remote, struct pk_diag *diag)
{
	certificate_t *cert;
	x509_t *x509;
	size_t i;

	for (i = 0; i < peer->remote.authorities.nb; i++)
	{
		cert = load_certificate(this, peer->remote.authorities.at[i], diag);
		if (!cert)
		{
			return FALSE;
		}
		x509 = (x509_t*)cert;
		if (!(x509->get_flags(x509) & X509_CA))
		{
			pk_diag_set(diag, "%s: is no authority's certificate",
						name_of(peer->remote.authorities.at[i]));
			cert->destroy(cert);
			return FALSE;
		}
		cert = this->mem->add_cert_ref(this->mem, TRUE, cert);
		remote->add(remote, AUTH_RULE_CA_CERT, cert);
	}
	return TRUE;
}

static bool load_secret(private_creds_t *this, const struct policy_ike_peer *peer,
						struct pk_diag *diag)
{
	chunk_t bytes, text;

	if (peer->secret_file)
	{
		bytes = get_text(this, peer->secret_file, diag);
		if (bytes.len && bytes.ptr[bytes.len - 1] == '\n')
		{
			bytes.len--;
		}
	}
	else
	{
		text = chunk_from_str((char*)peer->secret);
		if (strpfx((char*)peer->secret, "0x"))
		{
			bytes = chunk_from_hex(chunk_skip(text, 2), NULL);
		}
		else if (strpfx((char*)peer->secret, "0s"))
		{
			bytes = chunk_from_base64(chunk_skip(text, 2), NULL);
		}
		else
		{
			bytes = chunk_clone(text);
		}
		if (!bytes.len)
		{
			pk_diag_set(diag, "the secret is empty");
		}
	}
	if (!bytes.len)
	{
		return FALSE;
	}
	add_secret(this, identification_create_from_string((char*)peer->local.identity),
			   identification_create_from_string((char*)peer->remote.identity), bytes);
	return TRUE;
}

METHOD(creds_t, add, bool,
	private_creds_t *this, const struct policy_ike_peer *peer, auth_cfg_t *local,
	auth_cfg_t *remote, struct pk_diag *diag)
{
	if (peer->local.auth == POLICY_IKE_AUTH_CERTIFICATE && !load_local(this, peer, local, diag))
	{
		return FALSE;
	}
	if (peer->remote.auth == POLICY_IKE_AUTH_CERTIFICATE && !load_remote(this, peer, remote, diag))
	{
		return FALSE;
	}
	return (!peer->secret && !peer->secret_file) || load_secret(this, peer, diag);
}

METHOD(creds_t, enable, void,
	private_creds_t *this, bool on)
{
	if (this->enabled == on)
	{
		return;
	}
	this->enabled = on;
	if (on)
	{
		lib->credmgr->add_set(lib->credmgr, &this->mem->set);
		lib->credmgr->add_set(lib->credmgr, &this->secrets);
	}
	else
	{
		lib->credmgr->remove_set(lib->credmgr, &this->secrets);
		lib->credmgr->remove_set(lib->credmgr, &this->mem->set);
		lib->credmgr->flush_cache(lib->credmgr, CERT_ANY);
	}
}

METHOD(creds_t, destroy, void,
	private_creds_t *this)
{
	enumerator_t *enumerator;
	linked_list_t *list;

	_enable(this, FALSE);
	enumerator = this->by_identity->create_enumerator(this->by_identity);
	while (enumerator->enumerate(enumerator, NULL, &list))
	{
		list->destroy(list);
	}
	enumerator->destroy(enumerator);
	this->by_identity->destroy(this->by_identity);
	this->wild->destroy(this->wild);
	this->all->destroy_function(this->all, (void*)destroy_secret);
	this->mem->destroy(this->mem);
	free(this->dir);
	free(this);
}

creds_t *creds_create(const char *dir)
{
	private_creds_t *this;

	INIT(this,
		.public = {
			.add = _add,
			.enable = _enable,
			.destroy = _destroy,
		},
		.secrets = {
			.create_private_enumerator = (void*)create_no_enumerator,
			.create_cert_enumerator = (void*)create_no_enumerator,
			.create_shared_enumerator = _create_shared_enumerator,
			.create_cdp_enumerator = (void*)create_no_enumerator,
			.cache_cert = (void*)nop,
		},
		.dir = strdup(dir),
		.mem = mem_cred_create(),
		.by_identity = hashtable_create(identity_hash, identity_equals, 64),
		.wild = linked_list_create(),
		.all = linked_list_create(),
	);
	return &this->public;
}
