/* Bundles of signatures: what is written is read back, and nothing else is; and the heap that inspection lives on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "dpi/bundle.h"
#include "dpi/heap.h"
#include "tests/unit/test.h"

static char dir[] = "/tmp/picket-bundle-XXXXXX";
static char bundle[128], private_key[128], public_key[128], other_key[128];

static const char text[] =
    "alert http any any -> $HOME_NET any (msg:\"one\"; http.uri; content:\"/attack\"; sid:1; rev:3;)\n"
    "drop tcp any any -> any any (msg:\"two\"; content:\"EVILBYTES\"; sid:2;)\n"
    "alert dns any any -> any any (msg:\"three\"; dns.query; content:\"evil.example\"; nocase; sid:3;)\n"
    "alert tcp any any -> any any (msg:\"no pattern\"; dsize:>1000; sid:4;)\n";

static void
write_key(const char *private, const char *public)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *f;

	assert_non_null(key);
	if (private != NULL) {
		f = fopen(private, "w");
		assert_non_null(f);
		assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
		fclose(f);
	}
	f = fopen(public, "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_PUBKEY(f, key), 1);
	fclose(f);
	EVP_PKEY_free(key);
}

static int
set_up(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(bundle, sizeof(bundle), "%s/bundle", dir);
	snprintf(private_key, sizeof(private_key), "%s/private.pem", dir);
	snprintf(public_key, sizeof(public_key), "%s/public.pem", dir);
	snprintf(other_key, sizeof(other_key), "%s/other.pem", dir);
	write_key(private_key, public_key);
	write_key(NULL, other_key);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(bundle);
	unlink(private_key);
	unlink(public_key);
	unlink(other_key);
	return rmdir(dir);
}

static void
write_bundle(const char *key, const char *cpu)
{
	hs_platform_info_t platform;
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag = { "" };

	assert_int_equal(dpi_bundle_cpu(&platform, cpu), 0);
	assert_int_equal(dpi_vars_create(&vars), 0);
	assert_int_equal(dpi_vars_set(vars, "HOME_NET", "[192.0.2.0/24]"), 0);
	assert_int_equal(dpi_set_create(&set, vars), 0);
	assert_int_equal(dpi_set_add(set, "text", text, sizeof(text) - 1, NULL, &diag), 4);
	assert_int_equal(dpi_set_finish_with(
	                     set, strcmp(cpu, "native") == 0 ? NULL : &platform, NULL, NULL, &diag),
	    0);
	if (dpi_bundle_write(set, bundle, key, &diag) < 0)
		fail_msg("%s", diag.text);
	dpi_set_destroy(set);
}

static int
read_bundle(const char *key, struct pk_diag *diag)
{
	struct dpi_set *set;
	int rc = dpi_bundle_read(&set, bundle, key, diag);

	if (rc == 0)
		dpi_set_destroy(set);
	return rc;
}

static void
test_there_and_back(void **state)
{
	struct dpi_set *set;
	struct pk_diag diag = { "" };

	(void)state;
	write_bundle(private_key, "native");
	assert_true(dpi_bundle_is(bundle));
	assert_false(dpi_bundle_is(private_key));
	if (dpi_bundle_read(&set, bundle, public_key, &diag) < 0)
		fail_msg("%s", diag.text);
	assert_int_equal(dpi_set_nb(set), 4);
	assert_int_equal(dpi_set_nb_refused(set), 0);
	/* In order of judgement: what drops comes first. */
	assert_int_equal(dpi_set_sig(set, 0)->sid, 2);
	assert_string_equal(dpi_set_sig(set, 0)->msg, "two");
	assert_true(dpi_set_nb_databases(set) >= 3);
	dpi_set_destroy(set);
	/* Not asked for, a signature does no harm. */
	assert_int_equal(read_bundle(NULL, &diag), 0);
}

static void
test_signature(void **state)
{
	struct pk_diag diag = { "" };

	(void)state;
	write_bundle(private_key, "native");
	assert_int_equal(read_bundle(other_key, &diag), -EBADMSG);
	assert_non_null(strstr(diag.text, "is not signed by the key"));
	assert_int_equal(read_bundle("/nonexistent.pem", &diag), -ENOKEY);
	write_bundle(NULL, "native");
	assert_int_equal(read_bundle(NULL, &diag), 0);
	assert_int_equal(read_bundle(public_key, &diag), -EBADMSG);
	assert_non_null(strstr(diag.text, "is not signed, and has to be"));
}

/* Every byte counts, signed or not; and so does every length. */
static void
test_tampering(void **state)
{
	static uint8_t bytes[1 << 20];
	struct pk_diag diag = { "" };
	struct dpi_set *set;
	size_t len;
	FILE *f;

	(void)state;
	for (unsigned int with_key = 0; with_key < 2; with_key++) {
		const char *key = with_key ? public_key : NULL;

		write_bundle(with_key ? private_key : NULL, "native");
		f = fopen(bundle, "r");
		assert_non_null(f);
		len = fread(bytes, 1, sizeof(bytes), f);
		fclose(f);
		assert_true(len > 100 && len < sizeof(bytes));
		for (size_t at = 0; at < len; at += at < 256 ? 1 : 97) {
			bytes[at] ^= 0x20;
			if (dpi_bundle_read_bytes(&set, "x", bytes, len, key, &diag) == 0)
				fail_msg("byte %zu of %zu does not count", at, len);
			bytes[at] ^= 0x20;
		}
		for (size_t n = 0; n < len; n += n < 256 ? 1 : 997)
			assert_true(
			    dpi_bundle_read_bytes(&set, "x", bytes, n, key, &diag) == -EBADMSG);
		assert_int_equal(
		    dpi_bundle_read_bytes(&set, "x", bytes, len + 1, key, &diag), -EBADMSG);
		assert_int_equal(dpi_bundle_read_bytes(&set, "x", bytes, len, key, &diag), 0);
		dpi_set_destroy(set);
	}
}

/* Another kind of CPU: the least there is can be used anywhere. */
static void
test_cpu(void **state)
{
	hs_platform_info_t platform;
	struct pk_diag diag = { "" };

	(void)state;
	assert_int_equal(dpi_bundle_cpu(&platform, "abacus"), -EINVAL);
	write_bundle(private_key, "sse4.2");
	if (read_bundle(public_key, &diag) < 0)
		fail_msg("%s", diag.text);
}

/* ---- the heap ---- */

static void
test_heap(void **state)
{
	enum {
		PIECES = 4000
	};
	static void *at[PIECES];
	static size_t len[PIECES];
	struct dpi_heap *h;
	uint64_t seed = 88172645463325252u;

	(void)state;
	assert_int_equal(dpi_heap_create(&h, 100), -EINVAL);
	assert_int_equal(dpi_heap_create(&h, 8u << 20), 0);
	assert_null(dpi_heap_enter(h));
	for (unsigned int round = 0; round < 100000; round++) {
		unsigned int i;
		size_t n;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		i = (unsigned int)(seed >> 8) % PIECES;
		n = (seed >> 24) % ((seed & 63) == 0 ? 200000 : (seed & 7) == 0 ? 5000 : 200);
		/* Each piece holds its number, all over. */
		for (size_t k = 0; k < len[i]; k++)
			if (((uint8_t *)at[i])[k] != (uint8_t)i)
				fail_msg("round %u: piece %u was overwritten", round, i);
		if (seed & 0x80) {
			void *more = dpi_realloc(at[i], n);

			if (more == NULL)
				continue;
			at[i] = more;
			len[i] = n;
		} else {
			dpi_free(at[i]);
			at[i] = dpi_malloc(n);
			len[i] = at[i] != NULL ? n : 0;
		}
		if (at[i] != NULL)
			memset(at[i], (int)i, len[i]);
		assert_true(dpi_heap_used(h) <= 8u << 20);
	}
	assert_true(dpi_heap_refused(h) > 0); /* it has been full */
	for (unsigned int i = 0; i < PIECES; i++)
		dpi_free(at[i]);
	assert_int_equal(dpi_heap_used(h), 0);
	/* All of it is anybody's again. */
	assert_int_equal(dpi_heap_free(h), 8u << 20);
	assert_null(dpi_malloc((8u << 20) + 1));
	at[0] = dpi_malloc(8u << 20);
	assert_non_null(at[0]);
	assert_null(dpi_malloc(1));
	dpi_free(at[0]);
	assert_null(dpi_calloc(SIZE_MAX / 2, 4));
	assert_ptr_equal(dpi_heap_enter(NULL), h);
	dpi_heap_destroy(h);
	dpi_heap_destroy(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_signature), cmocka_unit_test(test_tampering),
		cmocka_unit_test(test_cpu), cmocka_unit_test(test_heap) };

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
