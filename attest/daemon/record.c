#include "attest/daemon/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/x509.h>

#include "attest/daemon/logs.h"
#include "lib/log.h"

#define RECORD_MAX 65536

int
attest_spki_hash(EVP_PKEY *key, uint8_t out[32])
{
	uint8_t *der = NULL;
	unsigned int n = 0;
	int len = key != NULL ? i2d_PUBKEY(key, &der) : -1;
	int ok = len > 0 && EVP_Digest(der, (size_t)len, out, &n, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	return ok ? 0 : -EINVAL;
}

/* ---- host.json ------------------------------------------------------------------------------------ */

static json_t *
hex_of(const uint8_t *bytes, size_t len)
{
	char hex[2 * ATTEST_NAME_MAX + 1];

	attest_hex(bytes, len, hex);
	return json_string(hex);
}

static int
write_whole(const char *dir, const char *name, const char *text)
{
	char path[4096], beside[4096];
	size_t len = strlen(text);
	int fd, dirfd, rc = 0;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path) ||
	    (size_t)snprintf(beside, sizeof(beside), "%s/%s.new", dir, name) >= sizeof(beside))
		return -ENAMETOOLONG;
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len || fsync(fd) < 0)
		rc = errno != 0 ? -errno : -EIO;
	close(fd);
	if (rc == 0 && rename(beside, path) < 0)
		rc = -errno;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd >= 0) {
		(void)fsync(dirfd);
		close(dirfd);
	}
	return rc;
}

int
attest_record_save(const char *dir, const struct attest_record *r, struct pk_diag *d)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:b, s:I}", "version", 1,
	    "host", r->host, "state", attest_state_name(r->state), "epoch", (json_int_t)r->epoch,
	    "clock_known", r->clock_known, "clock", (json_int_t)r->clock.clock, "reset_count",
	    (json_int_t)r->clock.reset_count, "restart_count", (json_int_t)r->clock.restart_count,
	    "safe", r->clock.safe, "reference_generation", (json_int_t)r->reference_generation);
	char *text = NULL;
	int rc = -ENOMEM;

	if (o != NULL && json_object_set_new(o, "ek", hex_of(r->ek, sizeof(r->ek))) == 0 &&
	    json_object_set_new(o, "ak_name", hex_of(r->ak_name, r->ak_name_len)) == 0)
		text = json_dumps(o, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	if (text != NULL)
		rc = write_whole(dir, "host.json", text);
	if (rc < 0)
		pk_diag_set(d, "%s/host.json: not written: %s", dir, strerror(-rc));
	free(text);
	json_decref(o);
	return rc;
}

static int
unhex_of(const json_t *o, const char *key, uint8_t *out, size_t max, size_t *len)
{
	const char *hex = json_string_value(json_object_get(o, key));
	size_t n = hex != NULL ? strlen(hex) : 1;

	if (n % 2 != 0 || n / 2 > max || attest_unhex(hex, n, out, n / 2) < 0)
		return -EINVAL;
	*len = n / 2;
	return 0;
}

int
attest_record_load(const char *dir, struct attest_record *r, struct pk_diag *d)
{
	const char *host, *state;
	json_int_t epoch, clock, resets, restarts, reference = 0;
	int version, known, safe;
	char path[4096];
	uint8_t *bytes;
	size_t len, ek_len;
	json_t *o;
	int rc;

	memset(r, 0, sizeof(*r));
	snprintf(path, sizeof(path), "%s/host.json", dir);
	rc = attest_file_read(path, RECORD_MAX, &bytes, &len, d);
	if (rc < 0)
		return rc;
	o = json_loadb((char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
	free(bytes);
	if (json_unpack(o, "{s:i, s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:b, s?I}", "version",
	        &version, "host", &host, "state", &state, "epoch", &epoch, "clock_known", &known,
	        "clock", &clock, "reset_count", &resets, "restart_count", &restarts, "safe", &safe,
	        "reference_generation", &reference) < 0 ||
	    version != 1 || strlen(host) >= sizeof(r->host) || epoch < 0 || clock < 0 ||
	    unhex_of(o, "ek", r->ek, sizeof(r->ek), &ek_len) < 0 || ek_len != sizeof(r->ek) ||
	    unhex_of(o, "ak_name", r->ak_name, sizeof(r->ak_name), &r->ak_name_len) < 0 ||
	    (r->state = attest_state_find(state),
	        strcmp(attest_state_name(r->state), state) != 0)) {
		json_decref(o);
		pk_diag_set(d,
		    "%s: damaged; if this host may enrol anew, say `picketctl attest forget`",
		    path);
		return -EBADMSG;
	}
	strcpy(r->host, host);
	r->epoch = (uint64_t)epoch;
	r->clock_known = known;
	r->reference_generation = reference > 0 ? (uint64_t)reference : 0;
	r->clock = (struct attest_clock){ .clock = (uint64_t)clock,
		.reset_count = (uint32_t)resets,
		.restart_count = (uint32_t)restarts,
		.safe = safe };
	json_decref(o);
	return 0;
}

/* ---- audit.log ------------------------------------------------------------------------------------ */

#define REASONS_KEPT 32 /* in a line; the verdict rests on the first as well as on all */

int
attest_audit_open(struct pk_chain **out, const char *dir, struct pk_diag *d)
{
	char path[4096];

	if ((size_t)snprintf(path, sizeof(path), "%s/audit.log", dir) >= sizeof(path)) {
		pk_diag_set(d, "%s: too long a name", dir);
		return -ENAMETOOLONG;
	}
	return pk_chain_open(out, path, d);
}

static json_t *
codes_of(const struct attest_reasons *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < PK_MIN(r->nb, REASONS_KEPT); i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:s}", "code", attest_code_name(r->reason[i].code), "text",
		        r->reason[i].text));
	return list;
}

void
attest_audit_note(struct pk_chain *c, const char *what, const char *host,
    const struct attest_transition *t, const struct attest_reasons *r)
{
	json_t *o = json_pack("{s:s, s:s}", "what", what, "host", host);
	char *line;
	int err = -ENOMEM;

	if (t != NULL) {
		json_object_set_new(o, "from", json_string(attest_state_name(t->from)));
		json_object_set_new(o, "to", json_string(attest_state_name(t->to)));
		json_object_set_new(o, "epoch", json_integer((json_int_t)t->epoch));
	}
	if (r != NULL && r->nb > 0)
		json_object_set_new(o, "reasons", codes_of(r));
	line = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(o);
	if (line != NULL) {
		line[strlen(line) - 1] = '\0'; /* members, without braces */
		err = pk_chain_append(c, line + 1, 0);
	}
	if (err < 0)
		pk_error("audit.log: not written: %s", strerror(-err));
	free(line);
}
