#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/pem.h>

#include "attest/daemon/dpu_priv.h"
#include "attest/daemon/logs.h"
#include "attest/statement.h"
#include "lib/log.h"

/* What the host has to look like: taken up from a file when that changes, signed or as the operator has put it there. */
#define REFERENCE_MAX (64u << 20)

static uint8_t *
read_beside(void *arg, const char *path, size_t *len, struct pk_diag *diag)
{
	char whole[4096];
	const char *slash = strrchr(arg, '/');
	uint8_t *bytes;
	int n = path[0] == '/' || slash == NULL
	    ? snprintf(whole, sizeof(whole), "%s", path)
	    : snprintf(
	          whole, sizeof(whole), "%.*s/%s", (int)(slash - (char *)arg), (char *)arg, path);

	if (n < 0 || (size_t)n >= sizeof(whole)) {
		pk_diag_set(diag, "%s: too long a name", path);
		return NULL;
	}
	return attest_file_read(whole, REFERENCE_MAX, &bytes, len, diag) == 0 ? bytes : NULL;
}

/* Values with a statement are believed by it; those without, where the operator has put them there himself. */
static int
check_statement(struct attest_dpu *d, const uint8_t *bytes, size_t len,
    struct attest_statement *out, struct pk_diag *diag)
{
	char path[4096];
	X509 *ca = NULL;
	FILE *f;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!attest_statement_is(bytes, len)) {
		if (!d->conf->reference_signed)
			return 0;
		pk_diag_set(diag, "it is not signed, and reference-signed is set");
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "%s/ca.crt", d->conf->identity);
	f = fopen(path, "re");
	if (f != NULL) {
		ca = PEM_read_X509(f, NULL, NULL, NULL);
		fclose(f);
	}
	if (ca == NULL) {
		pk_diag_set(diag, "%s: holds no certificate in PEM form", path);
		return -EINVAL;
	}
	rc = attest_statement_check(out, bytes, len, X509_get0_pubkey(ca), "host", d->name,
	    d->record.reference_generation, diag);
	X509_free(ca);
	return rc;
}

/* A quote over nothing would be about nothing. */
static bool
asks_for_something(const struct attest_reference *ref)
{
	for (unsigned int i = 0; i < ref->require.nb_banks; i++)
		if (ref->require.bank[i].mask == 0)
			return false;
	return ref->require.nb_banks > 0;
}

static void
name_reference(struct attest_dpu *d, const struct attest_statement *s)
{
	char hex[17];

	attest_hex(d->reference_hash, 8, hex);
	if (s->generation == 0)
		snprintf(d->reference_name, sizeof(d->reference_name), "file %s", hex);
	else
		snprintf(d->reference_name, sizeof(d->reference_name), "%.42s@%llu", s->name,
		    (unsigned long long)s->generation);
	d->reference_told = false;
}

bool
dpu_load_reference(struct attest_dpu *d)
{
	const char *path = d->conf->reference;
	struct attest_reference *ref;
	struct attest_bytes part;
	struct attest_statement statement;
	struct pk_diag diag;
	struct stat st;
	uint8_t *bytes, digest[ATTEST_DIGEST_MAX];
	size_t len;

	/* The helper reads the one in force; it is not changed under a round. */
	if (d->appraising)
		return d->reference != NULL;
	if (stat(path, &st) < 0) {
		if (d->reference == NULL)
			pk_warn(
			    "%s: %s; nobody is trusted without a reference", path, strerror(errno));
		return d->reference != NULL;
	}
	if (d->reference_time.tv_sec == st.st_mtim.tv_sec &&
	    d->reference_time.tv_nsec == st.st_mtim.tv_nsec && d->reference_size == st.st_size)
		return d->reference != NULL;
	d->reference_time = st.st_mtim;
	d->reference_size = st.st_size;
	if (attest_file_read(path, REFERENCE_MAX, &bytes, &len, &diag) < 0) {
		pk_error("%s", diag.text);
		return d->reference != NULL;
	}
	if (check_statement(d, bytes, len, &statement, &diag) < 0) {
		pk_error("%s: %s; %s", path, diag.text,
		    d->reference != NULL ? "the one before stays in force" : "nobody is trusted");
		free(bytes);
		return d->reference != NULL;
	}
	part = (struct attest_bytes){ bytes + statement.values_at, len - statement.values_at };
	if (attest_reference_parse(&ref, part.at, part.len,
	        statement.generation == 0 ? read_beside : NULL, d->conf->reference, &diag) < 0) {
		pk_error("%s: %s; %s", path, diag.text,
		    d->reference != NULL ? "the one before stays in force" : "nobody is trusted");
		free(bytes);
		return d->reference != NULL;
	}
	if (!asks_for_something(ref)) {
		pk_error("%s: it requires a bank, and none of its PCRs", path);
		attest_reference_destroy(ref);
		free(bytes);
		return d->reference != NULL;
	}
	if (attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, digest) == 0)
		memcpy(d->reference_hash, digest, 32);
	free(bytes);
	name_reference(d, &statement);
	/* What was judged good by the one before has to be judged again, from the beginning. */
	attest_ima_judge_destroy(d->judge);
	d->judge = NULL;
	attest_reference_destroy(d->reference);
	d->reference = ref;
	d->want_whole = true;
	if (statement.generation != 0) {
		d->record.reference_generation = statement.generation;
		dpu_save(d);
		pk_notice("%s: reference %s of generation %llu in force", path, statement.name,
		    (unsigned long long)statement.generation);
	} else {
		pk_notice("%s: reference in force", path);
	}
	return true;
}
