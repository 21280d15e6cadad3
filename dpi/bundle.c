#include "dpi/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "lib/wire.h"

#define MAGIC         "PKSIGS2\n"
#define HEAD          (8 + 4 + 2 + 32)
#define SIGNATURE_MAX 1024
/* Which content of a rule stands in which group: changes when sig_set.c or sig_prefilter.c choose otherwise. */
#define PATTERNS "stream tcp alone udp other 1"

enum section {
	SECTION_VARIABLES = 1, /* NAME=VALUE lines */
	SECTION_RULES,         /* name, 0, text */
	SECTION_DATABASE,      /* be16 group, be16 direction, what hs_serialize_database() made */
	SECTION_LAYOUT,        /* names of the groups: their numbers are those of this build */
};

int
dpi_bundle_cpu(hs_platform_info_t *out, const char *name)
{
	static const struct {
		const char *name;
		unsigned int tune;
		unsigned long long features;
	} kinds[] = {
		{ "sse4.2", HS_TUNE_FAMILY_GENERIC, 0 },
		{ "avx2", HS_TUNE_FAMILY_HSW, HS_CPU_FEATURES_AVX2 },
		{ "avx512", HS_TUNE_FAMILY_SKX, HS_CPU_FEATURES_AVX2 | HS_CPU_FEATURES_AVX512 },
		{ "avx512vbmi", HS_TUNE_FAMILY_ICX,
		    HS_CPU_FEATURES_AVX2 | HS_CPU_FEATURES_AVX512 | HS_CPU_FEATURES_AVX512VBMI },
	};

	memset(out, 0, sizeof(*out));
	if (strcmp(name, "native") == 0)
		return hs_populate_platform(out) == HS_SUCCESS ? 0 : -EINVAL;
	for (size_t i = 0; i < PK_COUNT(kinds); i++) {
		if (strcmp(kinds[i].name, name) != 0)
			continue;
		out->tune = kinds[i].tune;
		out->cpu_features = kinds[i].features;
		return 0;
	}
	return -EINVAL;
}

/* ---- bytes ---- */

struct bytes {
	uint8_t *at;
	size_t len, room;
	bool failed;
};

static void
add(struct bytes *b, const void *bytes, size_t len)
{
	if (b->failed || len > DPI_BUNDLE_MAX - b->len) {
		b->failed = true;
		return;
	}
	if (b->len + len > b->room) {
		size_t room = PK_MAX(b->len + len, b->room * 2);
		uint8_t *more = realloc(b->at, room);

		if (more == NULL) {
			b->failed = true;
			return;
		}
		b->at = more;
		b->room = room;
	}
	if (len > 0)
		memcpy(b->at + b->len, bytes, len);
	b->len += len;
}

static void
add32(struct bytes *b, uint32_t v)
{
	uint8_t be[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };

	add(b, be, 4);
}

static void
add16(struct bytes *b, uint32_t v)
{
	uint8_t be[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	add(b, be, 2);
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* What the numbers of groups in a bundle mean. */
static void
add_layout(struct bytes *b)
{
	struct bytes names = { 0 };

	for (unsigned int i = 0; i < DPI_NB_BUFS; i++)
		add(&names, dpi_buf_info[i].name, strlen(dpi_buf_info[i].name) + 1);
	add(&names, PATTERNS, sizeof(PATTERNS));
	add(&names, hs_version(), strlen(hs_version()));
	add32(b, SECTION_LAYOUT);
	add32(b, (uint32_t)names.len);
	add(b, names.at, names.len);
	b->failed |= names.failed;
	free(names.at);
}

/* ---- keys ---- */

static EVP_PKEY *
read_key(const char *path, bool private, struct pk_diag *diag)
{
	FILE *f = fopen(path, "re");
	EVP_PKEY *key;

	if (f == NULL) {
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return NULL;
	}
	key = private ? PEM_read_PrivateKey(f, NULL, NULL, NULL)
	              : PEM_read_PUBKEY(f, NULL, NULL, NULL);
	fclose(f);
	if (key == NULL)
		pk_diag_set(
		    diag, "%s: holds no %s key in PEM", path, private ? "private" : "public");
	return key;
}

static const EVP_MD *
digest_of(const EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);

	return id == EVP_PKEY_ED25519 || id == EVP_PKEY_ED448 ? NULL : EVP_sha256();
}

static int
sign(const char *path, const uint8_t *head, uint8_t *out, size_t *len, struct pk_diag *diag)
{
	EVP_PKEY *key = read_key(path, true, diag);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int rc = -EINVAL;

	if (key != NULL && c != NULL &&
	    EVP_DigestSignInit(c, NULL, digest_of(key), NULL, key) == 1 &&
	    EVP_DigestSign(c, out, len, head, HEAD) == 1)
		rc = 0;
	else if (key != NULL)
		pk_diag_set(diag, "%s: cannot sign with this key", path);
	EVP_MD_CTX_free(c);
	EVP_PKEY_free(key);
	return rc;
}

static int
verify(const char *name, const char *path, const uint8_t *head, const uint8_t *signature,
    size_t len, struct pk_diag *diag)
{
	EVP_PKEY *key = read_key(path, false, diag);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	int rc = -EBADMSG;

	if (key == NULL)
		rc = -ENOKEY;
	else if (len == 0)
		pk_diag_set(diag, "%s: is not signed, and has to be by the key in %s", name, path);
	else if (c == NULL || EVP_DigestVerifyInit(c, NULL, digest_of(key), NULL, key) != 1 ||
	    EVP_DigestVerify(c, signature, len, head, HEAD) != 1)
		pk_diag_set(diag, "%s: is not signed by the key in %s", name, path);
	else
		rc = 0;
	EVP_MD_CTX_free(c);
	EVP_PKEY_free(key);
	return rc;
}

/* ---- writing ---- */

static void
add_variable(void *arg, const char *name, const char *value)
{
	struct bytes *b = arg;

	add(b, name, strlen(name));
	add(b, "=", 1);
	add(b, value, strlen(value));
	add(b, "\n", 1);
}

static void
add_source(void *arg, const char *name, const char *text, size_t len)
{
	struct bytes *b = arg;

	add32(b, SECTION_RULES);
	add32(b, (uint32_t)(strlen(name) + 1 + len));
	add(b, name, strlen(name) + 1);
	add(b, text, len);
}

static int
add_databases(struct bytes *b, const struct dpi_set *set)
{
	for (unsigned int g = 0; g < DPI_NB_GROUPS; g++) {
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++) {
			const hs_database_t *db = dpi_set_database(set, g, d);
			char *bytes;
			size_t len;

			if (db == NULL)
				continue;
			if (hs_serialize_database(db, &bytes, &len) != HS_SUCCESS)
				return -EIO;
			add32(b, SECTION_DATABASE);
			add32(b, (uint32_t)len + 4);
			add16(b, g);
			add16(b, d);
			add(b, bytes, len);
			free(bytes);
		}
	}
	return 0;
}

static int
write_file(
    const char *path, const struct bytes *head, const struct bytes *body, struct pk_diag *diag)
{
	char temporary[4096];
	FILE *f;
	bool good;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary)) {
		pk_diag_set(diag, "%s: is too long a name", path);
		return -ENAMETOOLONG;
	}
	f = fopen(temporary, "we");
	if (f == NULL) {
		pk_diag_set(diag, "%s: %s", temporary, strerror(errno));
		return -errno;
	}
	good = fwrite(head->at, 1, head->len, f) == head->len &&
	    fwrite(body->at, 1, body->len, f) == body->len && fflush(f) == 0 &&
	    fsync(fileno(f)) == 0;
	good &= fclose(f) == 0;
	if (good && rename(temporary, path) == 0)
		return 0;
	pk_diag_set(diag, "%s: cannot be written: %s", path, strerror(errno));
	unlink(temporary);
	return -EIO;
}

int
dpi_bundle_write(const struct dpi_set *set, const char *path, const char *key, struct pk_diag *diag)
{
	struct bytes body = { 0 }, head = { 0 }, variables = { 0 };
	uint8_t digest[32], signature[SIGNATURE_MAX];
	size_t signature_len = 0;
	int rc;

	add_layout(&body);
	dpi_set_variables(set, add_variable, &variables);
	add32(&body, SECTION_VARIABLES);
	add32(&body, (uint32_t)variables.len);
	add(&body, variables.at, variables.len);
	dpi_set_sources(set, add_source, &body);
	rc = add_databases(&body, set);
	if (rc < 0 || body.failed || variables.failed ||
	    EVP_Digest(body.at, body.len, digest, NULL, EVP_sha256(), NULL) != 1) {
		pk_diag_set(diag, "%s: cannot be made: out of memory", path);
		rc = -ENOMEM;
		goto out;
	}
	/* The length of the signature is signed as 0: nobody knows it yet, and it proves itself. */
	add(&head, MAGIC, 8);
	add32(&head, (uint32_t)body.len);
	add16(&head, 0);
	add(&head, digest, sizeof(digest));
	if (head.failed) {
		rc = -ENOMEM;
		goto out;
	}
	signature_len = sizeof(signature);
	if (key == NULL)
		signature_len = 0;
	else
		rc = sign(key, head.at, signature, &signature_len, diag);
	if (rc == 0) {
		head.at[12] = (uint8_t)(signature_len >> 8);
		head.at[13] = (uint8_t)signature_len;
		add(&head, signature, signature_len);
		rc = head.failed ? -ENOMEM : write_file(path, &head, &body, diag);
	}
out:
	free(body.at);
	free(head.at);
	free(variables.at);
	return rc;
}

/* ---- reading ---- */

struct reading {
	const uint8_t *db[DPI_NB_GROUPS][DPI_NB_DIRS];
	size_t len[DPI_NB_GROUPS][DPI_NB_DIRS];
};

/* The next section of body[*at ..]; 0: there is none, -EBADMSG: it runs over the end. */
static int
next_section(
    const uint8_t *body, size_t len, size_t *at, uint32_t *type, const uint8_t **bytes, uint32_t *n)
{
	if (*at == len)
		return 0;
	if (len - *at < 8)
		return -EBADMSG;
	*type = get32(body + *at);
	*n = get32(body + *at + 4);
	*bytes = body + *at + 8;
	if (*n > len - *at - 8)
		return -EBADMSG;
	*at += 8 + (size_t)*n;
	return 1;
}

static int
set_variables(struct dpi_vars *vars, const uint8_t *bytes, uint32_t n)
{
	char *text = strndup((const char *)bytes, n), *save = NULL;
	int rc = text == NULL ? -ENOMEM : 0;

	for (char *line = rc == 0 ? strtok_r(text, "\n", &save) : NULL; line != NULL && rc == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, '=');

		if (value == NULL) {
			rc = -EBADMSG;
			break;
		}
		*value++ = '\0';
		rc = dpi_vars_set(vars, line, value);
	}
	free(text);
	return rc;
}

static int
database(void *arg, unsigned int group, unsigned int dir, hs_database_t **out)
{
	const struct reading *r = arg;

	*out = NULL;
	if (r->db[group][dir] == NULL)
		return -ENOENT;
	return hs_deserialize_database((const char *)r->db[group][dir], r->len[group][dir], out) ==
	        HS_SUCCESS
	    ? 0
	    : -EBADMSG;
}

static int
read_body(
    struct dpi_set **out, const char *name, const uint8_t *body, size_t len, struct pk_diag *diag)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct bytes layout = { 0 };
	struct dpi_vars *vars = NULL;
	struct dpi_set *set = NULL;
	const uint8_t *bytes;
	bool ours = false;
	size_t at = 0;
	uint32_t type, n;
	int rc = r == NULL ? -ENOMEM : dpi_vars_create(&vars);

	pk_diag_set(diag, "%s: %s", name, rc < 0 ? "out of memory" : "is broken");
	add_layout(&layout);
	while (rc == 0 && (rc = next_section(body, len, &at, &type, &bytes, &n)) > 0) {
		const uint8_t *text = type == SECTION_RULES ? memchr(bytes, '\0', n) : NULL;

		rc = 0;
		if (type == SECTION_LAYOUT)
			ours = layout.len == n + 8u && memcmp(layout.at + 8, bytes, n) == 0;
		else if (type == SECTION_VARIABLES && set == NULL)
			rc = set_variables(vars, bytes, n);
		else if (type == SECTION_RULES && text == NULL)
			rc = -EBADMSG;
		else if (type == SECTION_RULES) {
			if (set == NULL) {
				rc = dpi_set_create(&set, vars);
				vars = NULL;
			}
			text++;
			if (rc == 0)
				rc = dpi_set_add(set, (const char *)bytes, (const char *)text,
				    n - (size_t)(text - bytes), NULL, diag);
			rc = PK_MIN(rc, 0);
		} else if (type == SECTION_DATABASE && n >= 4 &&
		    (bytes[0] << 8 | bytes[1]) < DPI_NB_GROUPS &&
		    (bytes[2] << 8 | bytes[3]) < DPI_NB_DIRS) {
			r->db[bytes[0] << 8 | bytes[1]][bytes[2] << 8 | bytes[3]] = bytes + 4;
			r->len[bytes[0] << 8 | bytes[1]][bytes[2] << 8 | bytes[3]] = n - 4;
		} else {
			rc = -EBADMSG;
		}
		if (rc < 0)
			break;
		continue;
	}
	if (rc == 0 && set == NULL)
		rc = -EBADMSG;
	if (rc == 0 && !ours) {
		pk_diag_set(diag,
		    "%s: was compiled by another version of Picket or Hyperscan: compile it again",
		    name);
		rc = -EBADMSG;
	}
	if (rc == 0)
		rc = dpi_set_finish_with(set, NULL, database, r, diag);
	dpi_vars_destroy(vars);
	free(layout.at);
	free(r);
	if (rc < 0)
		dpi_set_destroy(set);
	else
		*out = set;
	return rc;
}

int
dpi_bundle_read_bytes(struct dpi_set **out, const char *name, const uint8_t *bytes, size_t len,
    const char *key, struct pk_diag *diag)
{
	uint8_t head[HEAD], digest[32];
	size_t signature, body;
	int rc = 0;

	if (len < HEAD || memcmp(bytes, MAGIC, 8) != 0) {
		pk_diag_set(diag, "%s: is no bundle of signatures", name);
		return -EBADMSG;
	}
	memcpy(head, bytes, HEAD);
	body = get32(head + 8);
	signature = (size_t)head[12] << 8 | head[13];
	head[12] = head[13] = 0;
	if (signature > SIGNATURE_MAX || len != HEAD + signature + body) {
		pk_diag_set(diag, "%s: is cut short, or more than a bundle", name);
		return -EBADMSG;
	}
	if (key != NULL)
		rc = verify(name, key, head, bytes + HEAD, signature, diag);
	if (rc < 0)
		return rc;
	bytes += HEAD + signature;
	if (EVP_Digest(bytes, body, digest, NULL, EVP_sha256(), NULL) != 1 ||
	    memcmp(digest, head + 14, sizeof(digest)) != 0) {
		pk_diag_set(diag, "%s: its digest is wrong", name);
		return -EBADMSG;
	}
	return read_body(out, name, bytes, body, diag);
}

int
dpi_bundle_read(struct dpi_set **out, const char *path, const char *key, struct pk_diag *diag)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	uint8_t *bytes = NULL;
	int rc;

	if (f == NULL || fstat(fileno(f), &st) < 0) {
		rc = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > DPI_BUNDLE_MAX) {
		rc = -EBADMSG;
		pk_diag_set(diag, "%s: is no bundle of signatures", path);
	} else if ((bytes = malloc((size_t)st.st_size + 1)) == NULL) {
		rc = -ENOMEM;
		pk_diag_set(diag, "%s: out of memory", path);
	} else if (fread(bytes, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		rc = -EIO;
		pk_diag_set(diag, "%s: cannot be read", path);
	} else {
		rc = dpi_bundle_read_bytes(out, path, bytes, (size_t)st.st_size, key, diag);
	}
	if (f != NULL)
		fclose(f);
	free(bytes);
	return rc;
}

bool
dpi_bundle_is(const char *path)
{
	FILE *f = fopen(path, "re");
	char magic[8];
	bool is = f != NULL && fread(magic, 1, 8, f) == 8 && memcmp(magic, MAGIC, 8) == 0;

	if (f != NULL)
		fclose(f);
	return is;
}
