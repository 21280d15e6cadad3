/*
 * App-ID on sessions made from the specifications, however they are cut into segments; and what ClientHellos
 * and Initial packets are made to say.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dpi/app.h"
#include "tests/unit/dpi_vectors.h"
#include "tests/unit/test.h"

#define POOL (1 << 20)

static struct dpi *dpi;
static uint8_t *pool;

static int
setup(void **state)
{
	static const struct dpi_limits limits = { DPI_STREAM_MAX, 9000, 12 };

	(void)state;
	pool = malloc(POOL);
	return dpi_create(&dpi, pool, POOL, &limits);
}

static int
teardown(void **state)
{
	(void)state;
	dpi_destroy(dpi);
	free(pool);
	return 0;
}

struct session {
	struct dpi_flow f;
	uint32_t next[2];
	char said[DPI_NB_FIELDS][256];
	unsigned int answers;
};

static void
on_field(void *arg, enum dpi_field field, unsigned int dir, uint32_t offset, const uint8_t *bytes,
    uint32_t len)
{
	struct session *s = arg;

	(void)dir;
	(void)offset;
	s->answers += field == DPI_FIELD_DNS_ANSWER;
	snprintf(s->said[field], sizeof(s->said[field]), "%.*s", (int)len, (const char *)bytes);
}

static void
begin(struct session *s, enum dpi_transport transport, uint32_t seq)
{
	static const uint16_t port[2] = { 40000, 4444 };

	memset(s, 0, sizeof(*s));
	dpi_flow_init(&s->f, transport, port);
	for (int i = 0; i < 2 && transport == DPI_TCP; i++) {
		struct dpi_packet p = { .dir = (uint8_t)i, .syn = true, .seq = seq };

		dpi_flow_feed(dpi, &s->f, &p, NULL);
		s->next[i] = seq + 1;
	}
}

static enum dpi_verdict
feed_at(struct session *s, unsigned int dir, uint32_t seq, const uint8_t *bytes, size_t len)
{
	/* A copy that ends where the segment ends. */
	uint8_t *copy = malloc(len);
	struct dpi_packet p = {
		.bytes = copy, .len = (uint16_t)len, .dir = (uint8_t)dir, .seq = seq
	};
	enum dpi_verdict v;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	v = dpi_flow_feed(dpi, &s->f, &p, &(struct dpi_sink){ on_field, s });
	free(copy);
	return v;
}

static void
feed(struct session *s, unsigned int dir, const uint8_t *bytes, size_t len)
{
	feed_at(s, dir, s->next[dir], bytes, len);
	s->next[dir] += (uint32_t)len;
}

static void
end(struct session *s)
{
	dpi_flow_finish(dpi, &s->f, &(struct dpi_sink){ on_field, s });
	dpi_flow_fini(dpi, &s->f);
	/* Nothing is held after the verdict. */
	assert_int_equal(dpi_bytes_used(dpi), 0);
}

/* Told of each vector, and counted: one mistake shall not hide the next. */
static unsigned int nb_wrong, last_wrong;

static void
expect(const struct session *s, const struct dpi_vector *v, const char *how)
{
	if (s->f.app == v->app)
		return;
	if (v->line != last_wrong)
		print_message("# vectors.txt:%u: want %s, got %s, %s\n", v->line,
		    dpi_app_name(v->app), dpi_app_name((enum dpi_app)s->f.app), how);
	last_wrong = v->line;
	nb_wrong++;
}

static int
no_wrong(void **state)
{
	(void)state;
	nb_wrong = last_wrong = 0;
	return 0;
}

static void
test_vectors(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	unsigned int wrong = 0;
	struct session s;

	(void)state;
	for (size_t i = 0; i < nb; i++) {
		begin(&s, all[i].transport, 1000);
		for (unsigned int m = 0; m < all[i].nb; m++)
			feed(&s, all[i].message[m].dir, all[i].message[m].bytes,
			    all[i].message[m].len);
		end(&s);
		if (s.f.app != all[i].app) {
			print_message("# vectors.txt:%u: want %s, got %s\n", all[i].line,
			    dpi_app_name(all[i].app), dpi_app_name((enum dpi_app)s.f.app));
			wrong++;
		}
	}
	print_message("# %zu sessions\n", nb);
	assert_int_equal(wrong, 0);
	dpi_vectors_free(all, nb);
}

/* One byte at a time; the sequence numbers wrap on the way. */
static void
test_single_bytes(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	struct session s;

	(void)state;
	for (size_t i = 0; i < nb; i++) {
		if (all[i].transport != DPI_TCP)
			continue;
		begin(&s, DPI_TCP, UINT32_MAX - 10);
		for (unsigned int m = 0; m < all[i].nb; m++)
			for (unsigned int b = 0; b < all[i].message[m].len; b++)
				feed(&s, all[i].message[m].dir, all[i].message[m].bytes + b, 1);
		end(&s);
		expect(&s, &all[i], "byte by byte");
	}
	assert_int_equal(nb_wrong, 0);
	dpi_vectors_free(all, nb);
}

/* Every message cut in two at every byte, in order and the second part first, and the first one sent again. */
static void
test_split(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	struct session s;

	(void)state;
	for (size_t i = 0; i < nb; i++) {
		struct dpi_vector *v = &all[i];
		unsigned int longest = 0;

		for (unsigned int m = 0; m < v->nb; m++)
			longest = PK_MAX(longest, (unsigned int)v->message[m].len);
		longest = PK_MIN(longest, 300u);
		for (unsigned int cut = 1; cut < longest && v->transport == DPI_TCP; cut++)
			for (int reversed = 0; reversed < 2; reversed++) {
				begin(&s, DPI_TCP, cut * 0x01234567u);
				for (unsigned int m = 0; m < v->nb; m++) {
					struct dpi_message *msg = &v->message[m];
					unsigned int at = PK_MIN(cut, (unsigned int)msg->len);
					uint32_t seq = s.next[msg->dir];

					if (reversed && at < msg->len)
						feed_at(&s, msg->dir, seq + at, msg->bytes + at,
						    msg->len - at);
					feed_at(&s, msg->dir, seq, msg->bytes, at);
					feed_at(&s, msg->dir, seq, msg->bytes, at);
					if (!reversed && at < msg->len)
						feed_at(&s, msg->dir, seq + at, msg->bytes + at,
						    msg->len - at);
					s.next[msg->dir] += msg->len;
				}
				end(&s);
				expect(&s, v, reversed ? "second part first" : "in two parts");
			}
	}
	assert_int_equal(nb_wrong, 0);
	dpi_vectors_free(all, nb);
}

/* Bytes of one direction alone never make another application of it. */
static void
test_one_side(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	struct session s;

	(void)state;
	for (size_t i = 0; i < nb; i++)
		for (unsigned int side = 0; side < 2; side++) {
			begin(&s, all[i].transport, 1);
			for (unsigned int m = 0; m < all[i].nb; m++)
				if (all[i].message[m].dir == side)
					feed(&s, side, all[i].message[m].bytes,
					    all[i].message[m].len);
			end(&s);
			if (s.f.app != DPI_APP_UNKNOWN && all[i].app != DPI_APP_WEBSOCKET &&
			    all[i].app != DPI_APP_ELASTICSEARCH && all[i].app != DPI_APP_GRPC)
				expect(&s, &all[i],
				    side == 0 ? "the client alone" : "the server alone");
		}
	assert_int_equal(nb_wrong, 0);
	dpi_vectors_free(all, nb);
}

/* ---- TLS and QUIC ---- */

/* A ClientHello with SNI, ALPN, groups, signatures, versions, and GREASE; returns its length. */
static size_t
make_hello(uint8_t *out, size_t padding)
{
	static const uint8_t middle[] = { 0, 8, 0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2f, 0xc0, 0x2b, 1,
		0 },
	                     exts[] = { 0x1a, 0x1a, 0, 0, 0, 0, 0, 20, 0, 18, 0, 0, 15, 'w', 'w',
		                     'w', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e', '.', 'o', 'r',
		                     'g', 0, 10, 0, 6, 0, 4, 0x2a, 0x2a, 0, 29, 0, 11, 0, 2, 1, 0,
		                     0, 13, 0, 6, 0, 4, 4, 3, 8, 4, 0, 16, 0, 5, 0, 3, 2, 'h', '2',
		                     0, 43, 0, 5, 4, 3, 4, 3, 3 };
	size_t n = 4, ext_len = sizeof(exts) + 4 + padding;

	out[n++] = 3;
	out[n++] = 3;
	memset(out + n, 0x5a, 32);
	n += 32;
	out[n++] = 0;
	memcpy(out + n, middle, sizeof(middle));
	n += sizeof(middle);
	out[n++] = (uint8_t)(ext_len >> 8);
	out[n++] = (uint8_t)ext_len;
	memcpy(out + n, exts, sizeof(exts));
	n += sizeof(exts);
	out[n++] = 0;
	out[n++] = 21; /* padding, RFC 7685 */
	out[n++] = (uint8_t)(padding >> 8);
	out[n++] = (uint8_t)padding;
	memset(out + n, 0, padding);
	n += padding;
	out[0] = 1;
	out[1] = 0;
	out[2] = (uint8_t)((n - 4) >> 8);
	out[3] = (uint8_t)(n - 4);
	return n;
}

static void
digest_hex(const EVP_MD *md, const char *text, int nb, char *out)
{
	uint8_t d[EVP_MAX_MD_SIZE];

	assert_int_equal(EVP_Digest(text, strlen(text), d, NULL, md, NULL), 1);
	for (int i = 0; i < nb; i++)
		sprintf(out + 2 * i, "%02x", d[i]);
}

static void
expect_hello(const struct session *s, char letter)
{
	char ja3[33], b[13], c[13], ja4[64];

	assert_string_equal(s->said[DPI_FIELD_SNI], "www.example.org");
	assert_string_equal(s->said[DPI_FIELD_ALPN], "h2");
	digest_hex(EVP_md5(), "771,4865-49199-49195,0-10-11-13-16-43-21,29,0", 16, ja3);
	assert_string_equal(s->said[DPI_FIELD_JA3], ja3);
	digest_hex(EVP_sha256(), "1301,c02b,c02f", 6, b);
	digest_hex(EVP_sha256(), "000a,000b,000d,0015,002b_0403,0804", 6, c);
	snprintf(ja4, sizeof(ja4), "%c13d0307h2_%s_%s", letter, b, c);
	assert_string_equal(s->said[DPI_FIELD_JA4], ja4);
}

/* However records and segments cut it: the message in records of any size, those in segments of any size. */
static void
test_client_hello(void **state)
{
	static const size_t sizes[] = { 1, 2, 5, 7, 64, 500, 16000 };
	uint8_t hello[4096], stream[65536];
	size_t len = make_hello(hello, 1200);
	struct session s;

	(void)state;
	for (size_t r = 0; r < PK_COUNT(sizes); r++)
		for (size_t g = 0; g < PK_COUNT(sizes); g++) {
			size_t n = 0;

			for (size_t at = 0; at < len; at += sizes[r]) {
				size_t part = PK_MIN(sizes[r], len - at);

				stream[n++] = 22;
				stream[n++] = 3;
				stream[n++] = 1;
				stream[n++] = (uint8_t)(part >> 8);
				stream[n++] = (uint8_t)part;
				memcpy(stream + n, hello + at, part);
				n += part;
			}
			begin(&s, DPI_TCP, 77);
			for (size_t at = 0; at < n; at += sizes[g])
				feed(&s, 0, stream + at, PK_MIN(sizes[g], n - at));
			end(&s);
			assert_int_equal(s.f.app, DPI_APP_TLS);
			assert_int_equal(s.f.confidence, DPI_CERTAIN);
			expect_hello(&s, 't');
		}
}

/* RFC 9001 appendix A.1 and RFC 9369 appendix A.1: keys of connection id 8394c8f03e515708. */
struct keys {
	uint32_t version;
	uint8_t first;
	uint8_t key[16], iv[12], hp[16];
};
static const struct keys quic_v1 = { 1, 0xc3,
	{ 0x1f, 0x36, 0x96, 0x13, 0xdd, 0x76, 0xd5, 0x46, 0x77, 0x30, 0xef, 0xcb, 0xe3, 0xb1, 0xa2,
	    0x2d },
	{ 0xfa, 0x04, 0x4b, 0x2f, 0x42, 0xa3, 0xfd, 0x3b, 0x46, 0xfb, 0x25, 0x5c },
	{ 0x9f, 0x50, 0x44, 0x9e, 0x04, 0xa0, 0xe8, 0x10, 0x28, 0x3a, 0x1e, 0x99, 0x33, 0xad, 0xed,
	    0xd2 } };
static const struct keys quic_v2 = { 0x6b3343cf, 0xd3,
	{ 0x8b, 0x1a, 0x0b, 0xc1, 0x21, 0x28, 0x42, 0x90, 0xa2, 0x9e, 0x09, 0x71, 0xb5, 0xcd, 0x04,
	    0x5d },
	{ 0x91, 0xf7, 0x3e, 0x23, 0x51, 0xd8, 0xfa, 0x91, 0x66, 0x0e, 0x90, 0x9f },
	{ 0x45, 0xb9, 0x5e, 0x15, 0x23, 0x5d, 0x6f, 0x45, 0xa6, 0xb1, 0x9c, 0xbc, 0xb0, 0x29, 0x4b,
	    0xa9 } };

/* An Initial packet with one CRYPTO frame, padded to 1200 bytes. */
static size_t
make_initial(uint8_t *out, const struct keys *k, uint32_t number, const uint8_t *crypto,
    uint16_t off, uint16_t len)
{
	static const uint8_t dcid[8] = { 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08 };
	uint8_t plain[1200] = { 0 }, iv[12], mask[16];
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t n = 0, head, body = 1200 - 22 - 16;
	int got;

	plain[0] = 6;
	plain[1] = (uint8_t)(0x40 | off >> 8);
	plain[2] = (uint8_t)off;
	plain[3] = (uint8_t)(0x40 | len >> 8);
	plain[4] = (uint8_t)len;
	memcpy(plain + 5, crypto, len);
	out[n++] = k->first;
	for (int i = 3; i >= 0; i--)
		out[n++] = (uint8_t)(k->version >> 8 * i);
	out[n++] = 8;
	memcpy(out + n, dcid, 8);
	n += 8;
	out[n++] = 0;
	out[n++] = 0;
	out[n++] = (uint8_t)(0x40 | (body + 20) >> 8);
	out[n++] = (uint8_t)(body + 20);
	for (int i = 3; i >= 0; i--)
		out[n++] = (uint8_t)(number >> 8 * i);
	head = n;
	memcpy(iv, k->iv, 12);
	for (int i = 0; i < 4; i++)
		iv[11 - i] ^= (uint8_t)(number >> 8 * i);
	EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, k->key, iv);
	EVP_EncryptUpdate(ctx, NULL, &got, out, (int)head);
	EVP_EncryptUpdate(ctx, out + n, &got, plain, (int)body);
	n += body;
	EVP_EncryptFinal_ex(ctx, out + n, &got);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, out + n);
	n += 16;
	EVP_EncryptInit_ex(ctx, EVP_aes_128_ecb(), NULL, k->hp, NULL);
	EVP_EncryptUpdate(ctx, mask, &got, out + head, 16);
	out[0] ^= mask[0] & 15;
	for (int i = 0; i < 4; i++)
		out[head - 4 + (size_t)i] ^= mask[1 + i];
	EVP_CIPHER_CTX_free(ctx);
	return n;
}

/* The hello in two packets, in either order, for both versions. */
static void
test_quic(void **state)
{
	const struct keys *const keys[] = { &quic_v1, &quic_v2 };
	uint8_t hello[2048], packet[2][1400];
	size_t len = make_hello(hello, 700), n[2];
	struct session s;

	(void)state;
	for (size_t k = 0; k < PK_COUNT(keys); k++)
		for (int order = 0; order < 2; order++) {
			n[0] = make_initial(packet[0], keys[k], 0, hello, 0, 400);
			n[1] = make_initial(
			    packet[1], keys[k], 1, hello + 400, 400, (uint16_t)(len - 400));
			begin(&s, DPI_UDP, 0);
			feed(&s, 0, packet[order], n[order]);
			assert_int_equal(s.f.verdict, DPI_DESCRIBING);
			feed(&s, 0, packet[!order], n[!order]);
			assert_int_equal(s.f.verdict, DPI_IDENTIFIED);
			end(&s);
			assert_int_equal(s.f.app, DPI_APP_QUIC);
			expect_hello(&s, 'q');
		}
}

/* What sessions say about themselves. */
static void
test_fields(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	struct session s;
	unsigned int seen = 0;

	(void)state;
	for (size_t i = 0; i < nb; i++) {
		begin(&s, all[i].transport, 5);
		for (unsigned int m = 0; m < all[i].nb; m++)
			feed(&s, all[i].message[m].dir, all[i].message[m].bytes,
			    all[i].message[m].len);
		end(&s);
		if (all[i].app == DPI_APP_HTTP && all[i].nb == 2) {
			assert_string_equal(s.said[DPI_FIELD_HTTP_METHOD], "GET");
			assert_string_equal(s.said[DPI_FIELD_HTTP_PATH], "/index.html");
			assert_string_equal(s.said[DPI_FIELD_HTTP_HOST], "www.example.org");
			assert_string_equal(s.said[DPI_FIELD_HTTP_STATUS], "200");
			seen++;
		}
		if (all[i].app == DPI_APP_DNS && all[i].transport == DPI_UDP) {
			assert_string_equal(s.said[DPI_FIELD_DNS_QUERY], "www.example.org");
			assert_string_equal(s.said[DPI_FIELD_DNS_TYPE], "1");
			assert_int_equal(s.answers, 1);
			seen++;
		}
		if (all[i].app == DPI_APP_GRPC) {
			assert_string_equal(s.said[DPI_FIELD_HTTP_PATH], "/a.B/Do");
			assert_string_equal(s.said[DPI_FIELD_SERVICE], "a.B");
			seen++;
		}
		if (all[i].app == DPI_APP_SSH)
			assert_string_equal(
			    s.said[DPI_FIELD_SOFTWARE], "SSH-2.0-OpenSSH_9.2p1 Debian");
	}
	assert_int_equal(seen, 3);
	dpi_vectors_free(all, nb);
}

/* A session that finds no block is unknown, and costs nothing. */
static void
test_no_memory(void **state)
{
	static uint8_t two[2 * DPI_BLOCK];
	struct dpi_limits limits = DPI_LIMITS_DEFAULT;
	static const uint16_t port[2] = { 1, 2 };
	struct dpi *small;
	struct dpi_flow f;
	uint8_t bytes[600] = "GET /";
	struct dpi_packet p = { .bytes = bytes, .len = sizeof(bytes), .seq = 0 };

	(void)state;
	memset(bytes + 5, 'a', sizeof(bytes) - 5);
	assert_int_equal(dpi_create(&small, two, DPI_BLOCK, &limits), -EINVAL);
	assert_int_equal(dpi_create(&small, two, sizeof(two), &limits), 0);
	dpi_flow_init(&f, DPI_TCP, port);
	assert_int_equal(dpi_flow_feed(small, &f, &p, NULL), DPI_UNKNOWN);
	assert_int_equal(dpi_bytes_used(small), 0);
	dpi_destroy(small);
}

/* Seeds for the fuzzer: dpi_app_test DIRECTORY writes one file for each vector. */
static int
write_seeds(const char *dir)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);

	for (size_t i = 0; i < nb; i++) {
		char path[1024];
		FILE *f;

		snprintf(
		    path, sizeof(path), "%s/%s-%u", dir, dpi_app_name(all[i].app), all[i].line);
		f = fopen(path, "wb");
		if (f == NULL)
			return 1;
		fputc((int)all[i].transport, f);
		for (unsigned int m = 0; m < all[i].nb; m++) {
			fputc((int)all[i].message[m].dir, f);
			fputc(all[i].message[m].len >> 8, f);
			fputc(all[i].message[m].len & 255, f);
			fwrite(all[i].message[m].bytes, 1, all[i].message[m].len, f);
		}
		fclose(f);
	}
	dpi_vectors_free(all, nb);
	return 0;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test_setup(test_single_bytes, no_wrong),
		cmocka_unit_test_setup(test_split, no_wrong),
		cmocka_unit_test_setup(test_one_side, no_wrong),
		cmocka_unit_test(test_client_hello),
		cmocka_unit_test(test_quic),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_no_memory),
	};

	if (argc > 1)
		return write_seeds(argv[1]);
	return cmocka_run_group_tests_name("dpi_app", tests, setup, teardown);
}
