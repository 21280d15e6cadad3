#include "lib/jws.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#include "attest/statement.h"

/* Signed statements (RFC 7515), with either algorithm, and those about reference values. */

static void
round_trip(EVP_PKEY *key, EVP_PKEY *other)
{
	const char *payload = "{\"a\":1,\"text\":\"with more in it\"}";
	struct pk_diag diag;
	char *token = pk_jws_sign("test", payload, key, &diag), *back;
	size_t len;

	assert_non_null(token);
	len = strlen(token);
	back = pk_jws_verify("test", token, len, key, &diag);
	assert_non_null(back);
	assert_string_equal(back, payload);
	free(back);
	assert_null(pk_jws_verify("other", token, len, key, &diag));
	assert_null(pk_jws_verify("test", token, len, other, &diag));
	/* Every character counts, the last ones of each part too. */
	for (size_t i = 0; i < len; i++) {
		char kept = token[i];

		token[i] = kept == 'A' ? 'B' : 'A';
		assert_null(pk_jws_verify("test", token, len, key, &diag));
		token[i] = kept;
		assert_null(pk_jws_verify("test", token, i, key, &diag));
	}
	free(token);
}

static void
test_round_trip(void **state)
{
	EVP_PKEY *p256 = EVP_EC_gen("P-256"), *p256_too = EVP_EC_gen("P-256");
	EVP_PKEY *sm2 = EVP_PKEY_Q_keygen(NULL, NULL, "SM2"), *p384 = EVP_EC_gen("P-384");
	struct pk_diag diag;

	(void)state;
	round_trip(p256, p256_too);
	round_trip(sm2, p256);
	assert_null(pk_jws_sign("test", "{}", p384, &diag));
	assert_non_null(strstr(diag.text, "P-256 or SM2"));
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p256_too);
	EVP_PKEY_free(sm2);
	EVP_PKEY_free(p384);
}

/* RFC 7515, appendix A.3.1: somebody else's signature with ES256, under a header of another form. */
static void
test_foreign_header(void **state)
{
	static const char token[] =
	    "eyJhbGciOiJFUzI1NiJ9"
	    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
	EVP_PKEY *key = EVP_EC_gen("P-256");
	struct pk_diag diag;

	(void)state;
	assert_null(pk_jws_verify("JWT", token, strlen(token), key, &diag));
	EVP_PKEY_free(key);
}

#define VALUES "{\"version\": 1, \"layers\": [\"quote\"]}"

static void
test_statement(void **state)
{
	static const char *const dpus[] = { "dpu1", "rack7-*" };
	EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
	struct attest_statement s;
	uint8_t hash[32];
	unsigned int n;
	char hex[65], file[4096], *token;
	struct pk_diag diag;
	size_t len;

	(void)state;
	assert_int_equal(EVP_Digest(VALUES, strlen(VALUES), hash, &n, EVP_sha256(), NULL), 1);
	for (unsigned int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	token = attest_statement_make("web", 7, "host", dpus, 2, hex, key, &diag);
	assert_non_null(token);
	len = (size_t)snprintf(file, sizeof(file), "%s\n%s", token, VALUES);
	free(token);
#define CHECK(want, k, subject, dpu, oldest, says)                                              \
	do {                                                                                    \
		diag.text[0] = '\0';                                                            \
		assert_int_equal(attest_statement_check(                                        \
		                     &s, (uint8_t *)file, len, k, subject, dpu, oldest, &diag), \
		    want);                                                                      \
		assert_non_null(strstr(diag.text, says));                                       \
	} while (0)
	assert_true(attest_statement_is((uint8_t *)file, len));
	assert_false(attest_statement_is((const uint8_t *)VALUES, strlen(VALUES)));
	CHECK(0, key, "host", "dpu1", 0, "");
	assert_string_equal(s.name, "web");
	assert_int_equal(s.generation, 7);
	assert_string_equal(file + s.values_at, VALUES);
	CHECK(0, key, "host", "rack7-19", 7, "");
	CHECK(-EINVAL, key, "host", "dpu2", 0, "another DPU");
	CHECK(-EINVAL, key, "dpu", "dpu1", 0, "another DPU");
	CHECK(-EINVAL, key, "host", "dpu1", 8, "older");
	CHECK(-EINVAL, other, "host", "dpu1", 0, "signed by the key");
	file[len - 2] = ' ';
	CHECK(-EINVAL, key, "host", "dpu1", 0, "not those");
	len = strlen(VALUES);
	memcpy(file, VALUES, len);
	CHECK(-EINVAL, key, "host", "dpu1", 0, "no statement");
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_foreign_header),
		cmocka_unit_test(test_statement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
