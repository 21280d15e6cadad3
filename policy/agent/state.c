#include "policy/agent/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "lib/wire.h"

#define MAGIC     "PKSTATE1"
#define MAGIC_LEN 8
#define HASH_LEN  32
#define FILE_MAX  (UINT64_C(1) << 30)
#define COUNT_MAX (16U << 20)

/* Bytes go to the file and into its hash; the first failure stays. */
struct writer {
	FILE *f;
	EVP_MD_CTX *hash;
	int failed;
};

static void
put(struct writer *w, const void *bytes, size_t len)
{
	if (len != 0 &&
	    (fwrite(bytes, 1, len, w->f) != len || !EVP_DigestUpdate(w->hash, bytes, len)))
		w->failed = 1;
}

static void
put_be(struct writer *w, uint64_t v, unsigned int len)
{
	uint8_t b[8];

	for (unsigned int i = 0; i < len; i++)
		b[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
	put(w, b, len);
}

static void
put_all(struct writer *w, const struct agent_saved *s)
{
	size_t name_len = strlen(s->dpu), at = 0;
	const struct policy_resource *r;

	put(w, MAGIC, MAGIC_LEN);
	put_be(w, s->generation, 8);
	put_be(w, s->epoch, 8);
	put_be(w, policy_state_count(s->state), 4);
	put_be(w, name_len, 1);
	put(w, s->dpu, name_len);
	while ((r = policy_state_next(s->state, &at)) != NULL) {
		put_be(w, r->type, 1);
		put_be(w, r->key_len, 1);
		put(w, r->key, r->key_len);
		put_be(w, r->len, 4);
		put(w, r->body, r->len);
	}
}

static int
sync_directory(const char *path)
{
	char dir[PATH_MAX];
	char *slash;
	int fd, err;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash != NULL)
		slash[slash == dir] = '\0';
	fd = open(slash != NULL ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fsync(fd) == 0 ? 0 : -errno;
	close(fd);
	return err;
}

int
agent_state_save(const char *path, const struct agent_saved *s, struct pk_diag *diag)
{
	struct writer w = { 0 };
	uint8_t digest[EVP_MAX_MD_SIZE];
	char made[PATH_MAX];
	int fd, err;

	snprintf(made, sizeof(made), "%s.new", path);
	fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || (w.f = fdopen(fd, "w")) == NULL) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		goto fail;
	}
	w.hash = EVP_MD_CTX_new();
	if (w.hash == NULL || !EVP_DigestInit_ex(w.hash, EVP_sha256(), NULL)) {
		w.failed = 1;
	} else {
		put_all(&w, s);
		if (!EVP_DigestFinal_ex(w.hash, digest, NULL) ||
		    fwrite(digest, 1, HASH_LEN, w.f) != HASH_LEN)
			w.failed = 1;
	}
	err = 0;
	if (w.failed || fflush(w.f) != 0 || fsync(fd) != 0)
		err = errno != 0 ? -errno : -EIO;
	EVP_MD_CTX_free(w.hash);
	if (fclose(w.f) != 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(made, path) != 0)
		err = -errno;
	if (err == 0)
		err = sync_directory(path);
	if (err == 0)
		return 0;
	(void)unlink(made);
fail:
	pk_diag_set(diag, "%s: generation %llu could not be saved: %s", path,
	    (unsigned long long)s->generation, strerror(-err));
	return err;
}

static int
damaged(const char *path, const char *what, struct pk_diag *diag)
{
	pk_diag_set(diag, "%s: is damaged (%s); all of it will be asked of the server", path, what);
	return -EBADMSG;
}

static int
read_all(const char *path, uint8_t **out, size_t *len, struct pk_diag *diag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	uint8_t *bytes = NULL;
	struct stat st;
	size_t have = 0;

	if (fd < 0) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return err;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX) {
		err = damaged(path, "it is no file of ours", diag);
		goto out;
	}
	bytes = malloc((size_t)st.st_size + 1);
	if (bytes == NULL) {
		err = -ENOMEM;
		pk_diag_set(diag, "%s: no memory to read it", path);
		goto out;
	}
	while (have < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + have, (size_t)st.st_size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
out:
	close(fd);
	if (err != 0) {
		free(bytes);
		return err;
	}
	*out = bytes;
	*len = have;
	return 0;
}

static int
take_resources(struct pk_wire *w, uint32_t count, struct policy_state *state, struct pk_diag *diag)
{
	for (uint32_t i = 0; i < count; i++) {
		unsigned int type = pk_wire_u8(w), key_len = pk_wire_u8(w);
		const uint8_t *key = pk_wire_bytes(w, key_len), *body;
		struct policy_resource *r;
		uint32_t len = pk_wire_be32(w);
		int err;

		body = pk_wire_bytes(w, len);
		if (!pk_wire_ok(w))
			return -EBADMSG;
		if (policy_resource_create(&r, type, key, key_len, body, len, diag) != 0)
			return -EBADMSG;
		err = policy_state_put(state, r);
		policy_resource_put(r);
		if (err != 0)
			return err;
	}
	return pk_wire_left(w) == 0 && policy_state_count(state) == count ? 0 : -EBADMSG;
}

int
agent_state_load(const char *path, struct agent_saved *out, struct pk_diag *diag)
{
	uint8_t digest[EVP_MAX_MD_SIZE], *bytes = NULL;
	const uint8_t *magic, *name;
	size_t len = 0, name_len;
	uint32_t count;
	struct pk_wire w;
	int err;

	memset(out, 0, sizeof(*out));
	err = read_all(path, &bytes, &len, diag);
	if (err != 0)
		return err;
	if (len < MAGIC_LEN + HASH_LEN) {
		err = damaged(path, "it is cut short", diag);
		goto out;
	}
	if (!EVP_Digest(bytes, len - HASH_LEN, digest, NULL, EVP_sha256(), NULL) ||
	    memcmp(digest, bytes + len - HASH_LEN, HASH_LEN) != 0) {
		err = damaged(path, "its SHA-256 does not agree", diag);
		goto out;
	}
	w = pk_wire_from(bytes, len - HASH_LEN);
	magic = pk_wire_bytes(&w, MAGIC_LEN);
	out->generation = pk_wire_be64(&w);
	out->epoch = pk_wire_be64(&w);
	count = pk_wire_be32(&w);
	name_len = pk_wire_u8(&w);
	name = pk_wire_bytes(&w, name_len);
	if (!pk_wire_ok(&w) || memcmp(magic, MAGIC, MAGIC_LEN) != 0 ||
	    name_len >= sizeof(out->dpu) || count > COUNT_MAX) {
		err = damaged(path, "it is of another version", diag);
		goto out;
	}
	memcpy(out->dpu, name, name_len);
	out->state = policy_state_create();
	err = out->state != NULL ? take_resources(&w, count, out->state, diag) : -ENOMEM;
	if (err == -EBADMSG)
		err = damaged(path, "its contents cannot be decoded", diag);
	else if (err != 0)
		pk_diag_set(diag, "%s: no memory to read it", path);
	if (err != 0) {
		policy_state_destroy(out->state);
		out->state = NULL;
	}
out:
	free(bytes);
	return err;
}
