#include "attest/ima_policy.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "lib/wire.h"

#define KEYS_MAX     64
#define PATTERNS_MAX 1024
#define PATTERN_MAX  1024 /* bytes */
#define PATH_MAX_    4096

struct keys {
	unsigned int nb;
	EVP_PKEY *key[KEYS_MAX];
};

struct attest_ima_policy {
	json_t *digests;  /* path -> [hex]; NULL: files are not judged by digest */
	json_t *keyrings; /* keyring -> [hex of the loaded key] */
	json_t *buffers;  /* name -> [hex] */
	json_t *ignored;  /* keyrings that may hold anything */
	struct keys keys;
	int keys_given; /* even if there are none: signatures are asked for */
	int violations;
	unsigned int nb_regexes, nb_globs;
	regex_t *regex;
	char **glob;
};

struct attest_ima_judge {
	const struct attest_ima_policy *policy;
	struct keys loaded;
	EVP_MD_CTX *ctx;
};

/* ---- keys ------------------------------------------------------------------------------------- */

/* A public key in any of its usual wrappings, or NULL. */
static EVP_PKEY *
read_key(const uint8_t *bytes, size_t len)
{
	const uint8_t *p = bytes;
	EVP_PKEY *key = NULL;
	X509 *cert;
	BIO *bio;

	if (len == 0 || len > (1U << 16))
		return NULL;
	if ((cert = d2i_X509(NULL, &p, (long)len)) != NULL) {
		key = X509_get_pubkey(cert);
		X509_free(cert);
	}
	p = bytes;
	if (key == NULL)
		key = d2i_PUBKEY(NULL, &p, (long)len);
	if (key == NULL && bytes[0] == '-' && (bio = BIO_new_mem_buf(bytes, (int)len)) != NULL) {
		key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
		BIO_free(bio);
		if (key == NULL && (bio = BIO_new_mem_buf(bytes, (int)len)) != NULL) {
			if ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
				key = X509_get_pubkey(cert);
			X509_free(cert);
			BIO_free(bio);
		}
	}
	ERR_clear_error();
	return key;
}

static void
keys_free(struct keys *k)
{
	while (k->nb > 0)
		EVP_PKEY_free(k->key[--k->nb]);
}

int
attest_ima_policy_add_key(
    struct attest_ima_policy *p, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	EVP_PKEY *key = read_key(bytes, len);

	if (key == NULL || p->keys.nb == KEYS_MAX) {
		pk_diag_set(d,
		    key == NULL ? "IMA policy: not a public key or certificate"
		                : "IMA policy: too many keys");
		EVP_PKEY_free(key);
		return -EINVAL;
	}
	p->keys.key[p->keys.nb++] = key;
	p->keys_given = 1;
	return 0;
}

/* What the kernel's signature_v2_hdr calls its hashes (enum hash_algo). */
static const char *
digsig_hash(uint8_t algo)
{
	static const char *const names[] = { "md4", "md5", "sha1", "rmd160", "sha256", "sha384",
		"sha512", "sha224" };

	if (algo == 17)
		return "sm3";
	return algo < PK_COUNT(names) ? names[algo] : NULL;
}

static int
verify_with(EVP_PKEY *key, const char *hash, struct attest_bytes digest, struct attest_bytes sig)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	const EVP_MD *md = EVP_get_digestbyname(hash);
	int ok;

	ok = ctx != NULL && md != NULL && EVP_PKEY_verify_init(ctx) > 0 &&
	    (!EVP_PKEY_is_a(key, "RSA") ||
	        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0) &&
	    EVP_PKEY_CTX_set_signature_md(ctx, md) > 0 &&
	    EVP_PKEY_verify(ctx, sig.at, sig.len, digest.at, digest.len) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/*
 * security.ima with a signature: type 3, version 2, hash, key id, length, signature.  The key id only
 * saves the kernel a search; we try all keys, for an id of 32 bits proves nothing.
 */
static int
signature_ok(const struct attest_ima_judge *j, const struct attest_ima_entry *e)
{
	struct pk_wire w = pk_wire_from(e->sig.at, e->sig.len);
	uint8_t type = pk_wire_u8(&w), version = pk_wire_u8(&w);
	const char *hash = digsig_hash(pk_wire_u8(&w));
	struct attest_bytes sig;

	pk_wire_skip(&w, 4);
	sig.len = pk_wire_be16(&w);
	sig.at = pk_wire_bytes(&w, sig.len);
	if (!pk_wire_ok(&w) || pk_wire_left(&w) != 0 || type != 3 || version != 2 || hash == NULL)
		return 0;
	if (strcmp(hash, e->file_alg) != 0 &&
	    !(strcmp(hash, "sm3") == 0 && strcmp(e->file_alg, "sm3-256") == 0))
		return 0;
	for (unsigned int i = 0; i < j->policy->keys.nb; i++)
		if (verify_with(j->policy->keys.key[i], hash, e->file, sig))
			return 1;
	for (unsigned int i = 0; i < j->loaded.nb; i++)
		if (verify_with(j->loaded.key[i], hash, e->file, sig))
			return 1;
	return 0;
}

/* ---- patterns --------------------------------------------------------------------------------- */

/*
 * Whether all of path[0 .. len - 1] matches: one row of "can the pattern so far have ended here" per
 * character of the pattern, so time is their product and never more.
 */
int
attest_glob(const char *glob, const char *path, size_t len)
{
	uint8_t row[PATH_MAX_ + 1];

	if (len > PATH_MAX_)
		return 0;
	memset(row, 0, len + 1);
	row[0] = 1;
	for (; *glob != '\0'; glob++) {
		int deep = glob[0] == '*' && glob[1] == '*';

		if (*glob == '*') {
			for (size_t i = 0; i < len; i++)
				row[i + 1] |= row[i] && (deep || path[i] != '/');
			glob += deep;
			continue;
		}
		for (size_t i = len; i > 0; i--)
			row[i] = row[i - 1] &&
			    (*glob == '?' ? path[i - 1] != '/' : path[i - 1] == *glob);
		row[0] = 0;
	}
	return row[len];
}

static int
is_excluded(const struct attest_ima_policy *p, struct attest_bytes path)
{
	char text[PATH_MAX_ + 1];

	if (path.len > PATH_MAX_)
		return 0;
	for (unsigned int i = 0; i < p->nb_globs; i++)
		if (attest_glob(p->glob[i], (const char *)path.at, path.len))
			return 1;
	if (p->nb_regexes == 0)
		return 0;
	memcpy(text, path.at, path.len);
	text[path.len] = '\0';
	for (unsigned int i = 0; i < p->nb_regexes; i++)
		if (regexec(&p->regex[i], text, 0, NULL, 0) == 0)
			return 1;
	return 0;
}

static int
add_regex(struct attest_ima_policy *p, const char *text, struct pk_diag *d)
{
	char anchored[PATTERN_MAX + 8];
	const char *s;

	for (s = text; *s != '\0'; s++) {
		if (*s == '\\' && s[1] != '\0') {
			if ((s[1] >= '0' && s[1] <= '9') || (s[1] >= 'a' && s[1] <= 'z') ||
			    (s[1] >= 'A' && s[1] <= 'Z'))
				goto bad;
			s++;
		} else if (*s == '(' && s[1] == '?') {
			goto bad;
		}
	}
	snprintf(anchored, sizeof(anchored), "^(%s)", text);
	if (regcomp(&p->regex[p->nb_regexes], anchored, REG_EXTENDED | REG_NOSUB) != 0)
		goto bad;
	p->nb_regexes++;
	return 0;
bad:
	pk_diag_set(
	    d, "IMA policy: exclude \"%.100s\" is no POSIX extended regular expression", text);
	return -EINVAL;
}

static int
load_patterns(struct attest_ima_policy *p, const json_t *list, int globs, struct pk_diag *d)
{
	size_t n = json_array_size(list);

	if (list == NULL || json_is_null(list) || n == 0)
		return 0;
	if (!json_is_array(list) || n > PATTERNS_MAX) {
		pk_diag_set(d, "IMA policy: excludes must be a list of at most %d", PATTERNS_MAX);
		return -EINVAL;
	}
	if (globs)
		p->glob = calloc(n, sizeof(p->glob[0]));
	else
		p->regex = calloc(n, sizeof(p->regex[0]));
	if (globs ? p->glob == NULL : p->regex == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (text == NULL || strlen(text) > PATTERN_MAX) {
			pk_diag_set(
			    d, "IMA policy: an exclude is a text of at most %d bytes", PATTERN_MAX);
			return -EINVAL;
		}
		if (globs) {
			if ((p->glob[p->nb_globs] = strdup(text)) == NULL)
				return -ENOMEM;
			p->nb_globs++;
		} else if (add_regex(p, text, d) < 0) {
			return -EINVAL;
		}
	}
	return 0;
}

/* ---- loading ---------------------------------------------------------------------------------- */

/* name -> list of digests, each a text. */
static int
check_map(const json_t *map, const char *what, struct pk_diag *d)
{
	const json_t *list, *item;
	const char *key;
	size_t i;

	json_object_foreach((json_t *)map, key, list)
	{
		json_array_foreach(list, i, item) if (!json_is_string(item)) break;
		if (!json_is_array(list) || i != json_array_size(list)) {
			pk_diag_set(
			    d, "IMA policy: %s \"%.100s\" is not a list of digests", what, key);
			return -EINVAL;
		}
	}
	return 0;
}

static int
load_map(json_t **out, const json_t *json, const char *key, struct pk_diag *d)
{
	json_t *map = json_object_get(json, key);

	if (map == NULL || json_is_null(map))
		return 0;
	if (!json_is_object(map)) {
		pk_diag_set(d, "IMA policy: \"%s\" is not an object", key);
		return -EINVAL;
	}
	*out = json_incref(map);
	return check_map(map, key, d);
}

static int
load_key_text(struct attest_ima_policy *p, const char *text, struct pk_diag *d)
{
	size_t len = strlen(text);
	uint8_t *der;
	int n, rc;

	if (text[0] == '-')
		return attest_ima_policy_add_key(p, (const uint8_t *)text, len, d);
	if (len == 0 || len % 4 != 0 || len > (1U << 16) || (der = malloc(len)) == NULL) {
		pk_diag_set(d, "IMA policy: a key is neither PEM nor base64");
		return -EINVAL;
	}
	n = EVP_DecodeBlock(der, (const uint8_t *)text, (int)len);
	if (n > 0 && text[len - 1] == '=')
		n -= 1 + (text[len - 2] == '=');
	rc = n > 0 ? attest_ima_policy_add_key(p, der, (size_t)n, d) : -EINVAL;
	if (n <= 0)
		pk_diag_set(d, "IMA policy: a key is neither PEM nor base64");
	free(der);
	return rc;
}

/*
 * Keys as Keylime writes them: {"pubkeys": [...], "keyids": [...]}, the same one level down under the
 * name of a keyring, or all that as JSON in a text; and a plain list.
 */
static int
load_keys(struct attest_ima_policy *p, const json_t *keys, int depth, struct pk_diag *d)
{
	const json_t *item;
	const char *name;
	size_t i;
	int rc = 0;

	if (keys == NULL || json_is_null(keys))
		return 0;
	if (json_is_string(keys) && depth < 3) {
		json_t *inner;

		if (json_string_length(keys) == 0)
			return 0;
		if (json_string_value(keys)[0] != '{')
			return load_key_text(p, json_string_value(keys), d);
		inner = json_loads(json_string_value(keys), JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(inner))
			rc = -EINVAL;
		if (rc == 0)
			rc = load_keys(p, inner, depth + 1, d);
		else
			pk_diag_set(d, "IMA policy: verification keys cannot be read");
		json_decref(inner);
		return rc;
	}
	p->keys_given = 1;
	if (json_is_array(keys)) {
		json_array_foreach(keys, i, item) if (rc == 0) rc =
		    json_is_string(item) ? load_key_text(p, json_string_value(item), d) : -EINVAL;
		return rc;
	}
	if (json_object_get(keys, "pubkeys") != NULL)
		return load_keys(p, json_object_get(keys, "pubkeys"), depth + 1, d);
	json_object_foreach((json_t *)keys, name, item) if (rc == 0 && depth < 3 &&
	    strcmp(name, "meta") != 0) rc = load_keys(p, item, depth + 1, d);
	return rc;
}

int
attest_ima_policy_load(struct attest_ima_policy **out, const json_t *json, struct pk_diag *d)
{
	const json_t *ima = json_object_get(json, "ima"), *dm;
	const char *violations = json_string_value(json_object_get(json, "violations"));
	struct attest_ima_policy *p = calloc(1, sizeof(*p));
	int rc;

	*out = NULL;
	if (p == NULL)
		return -ENOMEM;
	dm = json_object_get(ima, "dm_policy");
	if (dm != NULL && !json_is_null(dm)) {
		pk_diag_set(d,
		    "IMA policy: \"dm_policy\" is not supported; list the entries in \"ima-buf\"");
		rc = -EINVAL;
		goto fail;
	}
	if (violations != NULL && strcmp(violations, "deny") != 0 &&
	    strcmp(violations, "allow") != 0) {
		pk_diag_set(d, "IMA policy: \"violations\" must be \"deny\" or \"allow\"");
		rc = -EINVAL;
		goto fail;
	}
	p->violations = violations != NULL && strcmp(violations, "allow") == 0;
	if ((rc = load_map(&p->digests, json, "digests", d)) < 0 ||
	    (rc = load_map(&p->keyrings, json, "keyrings", d)) < 0 ||
	    (rc = load_map(&p->buffers, json, "ima-buf", d)) < 0 ||
	    (rc = load_patterns(p, json_object_get(json, "excludes"), 0, d)) < 0 ||
	    (rc = load_patterns(p, json_object_get(json, "exclude_globs"), 1, d)) < 0 ||
	    (rc = load_keys(p, json_object_get(json, "verification-keys"), 0, d)) < 0)
		goto fail;
	p->ignored = json_incref(json_object_get(ima, "ignored_keyrings"));
	*out = p;
	return 0;
fail:
	attest_ima_policy_destroy(p);
	return rc;
}

/* Lines of `sha256sum`: digest, two spaces or space and star, path. */
static int
parse_sums(struct attest_ima_policy **out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	const char *at = (const char *)bytes, *end = at + len;
	json_t *root = json_object(), *map = json_object();
	unsigned int line = 0;
	int rc = -EINVAL;

	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at)), *space;
		size_t n = (size_t)((nl != NULL ? nl : end) - at);
		char path[PATH_MAX_ + 1], hex[2 * ATTEST_DIGEST_MAX + 1];
		uint8_t digest[ATTEST_DIGEST_MAX];
		json_t *list;

		line++;
		if (n == 0 || *at == '#') {
			at += n + 1;
			continue;
		}
		space = memchr(at, ' ', n);
		if (space == NULL || space - at > 128 || space - at < 32 ||
		    attest_unhex(at, (size_t)(space - at), digest, (size_t)(space - at) / 2) < 0)
			goto bad;
		attest_hex(digest, (size_t)(space - at) / 2, hex);
		n -= (size_t)(space + 1 - at);
		at = space + 1;
		if (n > 0 && (*at == ' ' || *at == '*')) {
			at++;
			n--;
		}
		if (n == 0 || n > PATH_MAX_ || memchr(at, '\0', n) != NULL)
			goto bad;
		memcpy(path, at, n);
		path[n] = '\0';
		if ((list = json_object_get(map, path)) == NULL) {
			/* The kernel writes a space in a path as '_', and so must we look it up. */
			for (char *c = path; *c != '\0'; c++)
				*c = *c == ' ' ? '_' : *c;
			list = json_object_get(map, path);
		}
		if (list == NULL && json_object_set_new_nocheck(map, path, list = json_array()) < 0)
			goto bad;
		json_array_append_new(list, json_string(hex));
		at += n + 1;
	}
	json_object_set(root, "digests", map);
	rc = attest_ima_policy_load(out, root, d);
	goto out;
bad:
	pk_diag_set(d, "allow-list: line %u: not \"DIGEST  PATH\"", line);
out:
	json_decref(map);
	json_decref(root);
	return rc;
}

int
attest_ima_policy_parse(
    struct attest_ima_policy **out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	json_error_t error;
	json_t *root;
	size_t i = 0;
	int rc = -EINVAL;

	*out = NULL;
	while (i < len && (bytes[i] == ' ' || bytes[i] == '\n' || bytes[i] == '\t'))
		i++;
	if (i == len || bytes[i] != '{')
		return parse_sums(out, bytes, len, d);
	root = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		pk_diag_set(d, "IMA policy: line %d: %s", error.line, error.text);
	else
		rc = attest_ima_policy_load(out, root, d);
	json_decref(root);
	return rc;
}

void
attest_ima_policy_destroy(struct attest_ima_policy *p)
{
	if (p == NULL)
		return;
	for (unsigned int i = 0; i < p->nb_regexes; i++)
		regfree(&p->regex[i]);
	for (unsigned int i = 0; i < p->nb_globs; i++)
		free(p->glob[i]);
	free(p->regex);
	free(p->glob);
	keys_free(&p->keys);
	json_decref(p->digests);
	json_decref(p->keyrings);
	json_decref(p->buffers);
	json_decref(p->ignored);
	free(p);
}

int
attest_ima_policy_allows_violations(const struct attest_ima_policy *p)
{
	return p != NULL && p->violations;
}

/* 1 listed, 0 listed with other digests, -1 not listed. */
static int
look_up(const json_t *map, const char *name, struct attest_bytes digest)
{
	const json_t *list = json_object_get(map, name), *item;
	char hex[2 * ATTEST_DIGEST_MAX + 1];
	size_t i;

	if (list == NULL)
		return -1;
	if (digest.len > ATTEST_DIGEST_MAX)
		return 0;
	attest_hex(digest.at, digest.len, hex);
	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item), *colon = strchr(text, ':');

		if (strcasecmp(colon != NULL ? colon + 1 : text, hex) == 0)
			return 1;
	}
	return 0;
}

int
attest_ima_policy_lists(
    const struct attest_ima_policy *p, const char *path, const uint8_t *digest, size_t len)
{
	return p != NULL && look_up(p->digests, path, (struct attest_bytes){ digest, len }) == 1;
}

/* ---- judging ---------------------------------------------------------------------------------- */

int
attest_ima_judge_create(struct attest_ima_judge **out, const struct attest_ima_policy *policy)
{
	struct attest_ima_judge *j = calloc(1, sizeof(*j));

	*out = NULL;
	if (j == NULL || (j->ctx = EVP_MD_CTX_new()) == NULL) {
		free(j);
		return -ENOMEM;
	}
	j->policy = policy;
	*out = j;
	return 0;
}

void
attest_ima_judge_destroy(struct attest_ima_judge *j)
{
	if (j == NULL)
		return;
	keys_free(&j->loaded);
	EVP_MD_CTX_free(j->ctx);
	free(j);
}

static void
judge_listed(
    const json_t *map, const char *path, const struct attest_ima_entry *e, struct attest_reasons *r)
{
	switch (look_up(map, path, e->file)) {
	case 1:
		break;
	case 0:
		attest_reason(r, ATTEST_IMA_FILE_DIGEST,
		    "IMA entry %u: \"%.200s\" is listed with another digest", e->number, path);
		break;
	default:
		attest_reason(r, ATTEST_IMA_UNKNOWN_FILE, "IMA entry %u: \"%.200s\" is not listed",
		    e->number, path);
	}
}

static int
is_ignored(const struct attest_ima_policy *p, const char *ring)
{
	const json_t *item;
	size_t i;

	json_array_foreach(p->ignored, i, item)
	{
		const char *text = json_string_value(item);

		if (text != NULL && (strcmp(text, "*") == 0 || strcmp(text, ring) == 0))
			return 1;
	}
	return 0;
}

/* The digest beside a buffer is the buffer's, so that what was allowed is what was loaded. */
static int
buffer_ok(struct attest_ima_judge *j, const struct attest_ima_entry *e)
{
	uint16_t alg = attest_alg_find(e->file_alg, strlen(e->file_alg));
	uint8_t h[ATTEST_DIGEST_MAX];

	return attest_hash(j->ctx, alg, &e->buf, 1, h) == 0 &&
	    e->file.len == attest_alg_size(alg) && memcmp(h, e->file.at, e->file.len) == 0;
}

int
attest_ima_is_key(const struct attest_ima_entry *e)
{
	EVP_PKEY *key = read_key(e->buf.at, e->buf.len);

	EVP_PKEY_free(key);
	return key != NULL;
}

static void
judge_buffer(struct attest_ima_judge *j, const struct attest_ima_entry *e, const char *name,
    struct attest_reasons *r)
{
	const struct attest_ima_policy *p = j->policy;
	EVP_PKEY *key = read_key(e->buf.at, e->buf.len);

	if (key == NULL) {
		if (!is_excluded(p, e->path))
			judge_listed(p->buffers, name, e, r);
		return;
	}
	if (is_ignored(p, name) || is_excluded(p, e->path)) {
		/* Let pass, and not trusted to sign anything. */
	} else if (look_up(p->keyrings, name, e->file) != 1) {
		attest_reason(r, ATTEST_IMA_KEY,
		    "IMA entry %u: a key was loaded into \"%.100s\" that is not listed", e->number,
		    name);
	} else if (buffer_ok(j, e) && j->loaded.nb < KEYS_MAX) {
		j->loaded.key[j->loaded.nb++] = key;
		return;
	}
	EVP_PKEY_free(key);
}

void
attest_ima_judge_entry(
    struct attest_ima_judge *j, const struct attest_ima_entry *e, struct attest_reasons *r)
{
	const struct attest_ima_policy *p = j->policy;
	char path[PATH_MAX_ + 1];

	snprintf(path, sizeof(path), "%.*s", (int)PK_MIN(e->path.len, (size_t)PATH_MAX_),
	    (const char *)e->path.at);
	if (e->pcr != ATTEST_PCR_IMA)
		attest_reason(r, ATTEST_IMA_PCR,
		    "IMA entry %u: \"%.200s\" was measured into PCR %u", e->number, path, e->pcr);
	if (e->violation) {
		/* Nothing vouches for the path either: it is no part of what was extended. */
		if (!attest_ima_policy_allows_violations(p))
			attest_reason(r, ATTEST_IMA_VIOLATION,
			    "IMA entry %u: a violation (open writers or ToMToU), said to be of \"%.200s\"",
			    e->number, path);
		return;
	}
	if (!attest_ima_digest_ok(j->ctx, e))
		attest_reason(r, ATTEST_IMA_TEMPLATE_DIGEST,
		    "IMA entry %u: \"%.200s\": the template digest is not that of the entry",
		    e->number, path);
	if (p == NULL)
		return;
	if (e->template == ATTEST_IMA_BUF) {
		judge_buffer(j, e, path, r);
		return;
	}
	if (is_excluded(p, e->path) ||
	    (p->digests != NULL && e->path.len <= PATH_MAX_ &&
	        look_up(p->digests, path, e->file) == 1))
		return;
	if (e->sig.len > 0 && p->keys.nb + j->loaded.nb > 0 && signature_ok(j, e))
		return;
	if (p->digests != NULL)
		judge_listed(p->digests, path, e, r);
	else if (p->keys_given)
		attest_reason(r, ATTEST_IMA_SIGNATURE,
		    "IMA entry %u: \"%.200s\" has no signature by an allowed key", e->number, path);
}
