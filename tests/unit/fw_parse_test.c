/* The parser on frames of exact size: a sanitizer sees the first byte read too many. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

static enum fw_drop
parse(struct fw_pkt *pk, const uint8_t *frame, uint32_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	struct pk_addr src, dst;
	uint16_t sport, dport;
	enum fw_drop got;

	assert_non_null(copy);
	memcpy(copy, frame, len);
	memset(pk, 0, sizeof(*pk));
	got = fw_parse(pk, copy, len, len, 0, NULL);
	assert_int_equal(got, pk->drop);
	fw_pkt_addrs(pk, &src, &dst);
	fw_pkt_ports(pk, &sport, &dport);
	free(copy);
	return got;
}

/* Change some bytes of a good packet and say what has to become of it. */
struct change {
	const char *what;
	uint8_t family, proto;
	uint16_t at; /* from the IP header */
	uint8_t len;
	uint8_t bytes[16];
	enum fw_drop want;
};

/* clang-format off */
static const struct change changes[] = {
	{ "a good packet", 4, IPPROTO_TCP, 0, 0, { 0 }, FW_DROP_NONE },
	{ "a good packet", 6, IPPROTO_TCP, 0, 0, { 0 }, FW_DROP_NONE },
	{ "version 5 (RFC 791 3.1)", 4, IPPROTO_TCP, 0, 1, { 0x55 }, FW_DROP_IP_VERSION },
	{ "version 4 in IPv6", 6, IPPROTO_TCP, 0, 1, { 0x45 }, FW_DROP_IP_VERSION },
	{ "IHL 4 (RFC 791 3.1)", 4, IPPROTO_TCP, 0, 1, { 0x44 }, FW_DROP_IP_HEADER },
	{ "total length < header", 4, IPPROTO_TCP, 2, 2, { 0, 19 }, FW_DROP_IP_HEADER },
	{ "total length > frame", 4, IPPROTO_TCP, 2, 2, { 1, 0 }, FW_DROP_IP_LENGTH },
	{ "payload length > frame", 6, IPPROTO_TCP, 4, 2, { 1, 0 }, FW_DROP_IP_LENGTH },
	{ "more fragments, 44 bytes (RFC 791 3.2)", 4, IPPROTO_TCP, 6, 1, { 0x20 }, FW_DROP_FRAG_SIZE },
	{ "more fragments, 32 bytes", 4, IPPROTO_UDP, 6, 1, { 0x20 }, FW_DROP_NONE },
	{ "the last fragment", 4, IPPROTO_TCP, 6, 2, { 0, 9 }, FW_DROP_NONE },
	{ "one in the middle", 4, IPPROTO_UDP, 6, 2, { 0x20, 9 }, FW_DROP_NONE },
	{ "one in the middle of 44 bytes", 4, IPPROTO_TCP, 6, 2, { 0x20, 9 }, FW_DROP_FRAG_SIZE },
	{ "ends at 65528 + 44 (ping of death)", 4, IPPROTO_TCP, 6, 2, { 0x1f, 0xff }, FW_DROP_FRAG_SIZE },
	{ "with its header one beyond 65535", 4, IPPROTO_TCP, 6, 2, { 0x1f, 0xf8 }, FW_DROP_FRAG_SIZE },
	{ "with its header up to 65528", 4, IPPROTO_TCP, 6, 2, { 0x1f, 0xf7 }, FW_DROP_NONE },
	{ "do not fragment", 4, IPPROTO_TCP, 6, 1, { 0x40 }, FW_DROP_NONE },
	{ "source 127.0.0.1 (RFC 1122 3.2.1.3)", 4, IPPROTO_TCP, 12, 4, { 127, 0, 0, 1 }, FW_DROP_IP_SOURCE },
	{ "source 224.0.0.1 (RFC 1122 3.2.1.3)", 4, IPPROTO_TCP, 12, 4, { 224, 0, 0, 1 }, FW_DROP_IP_SOURCE },
	{ "source 255.255.255.255", 4, IPPROTO_TCP, 12, 4, { 255, 255, 255, 255 }, FW_DROP_IP_SOURCE },
	{ "source 240.0.0.1 (RFC 1112 4)", 4, IPPROTO_TCP, 12, 4, { 240, 0, 0, 1 }, FW_DROP_IP_SOURCE },
	{ "source 0.0.0.1", 4, IPPROTO_TCP, 12, 4, { 0, 0, 0, 1 }, FW_DROP_IP_SOURCE },
	{ "destination 127.0.0.1", 4, IPPROTO_TCP, 16, 4, { 127, 0, 0, 1 }, FW_DROP_IP_DESTINATION },
	{ "destination 0.0.0.0", 4, IPPROTO_TCP, 16, 4, { 0 }, FW_DROP_IP_DESTINATION },
	{ "source ff02::1 (RFC 4291 2.7)", 6, IPPROTO_TCP, 8, 2, { 0xff, 2 }, FW_DROP_IP_SOURCE },
	{ "source ::1 (RFC 4291 2.5.3)", 6, IPPROTO_TCP, 8, 16, { [15] = 1 }, FW_DROP_IP_SOURCE },
	{ "destination ::1 (RFC 4291 2.5.3)", 6, IPPROTO_TCP, 24, 16, { [15] = 1 }, FW_DROP_IP_DESTINATION },
	{ "destination :: (RFC 4291 2.5.2)", 6, IPPROTO_TCP, 24, 16, { 0 }, FW_DROP_IP_DESTINATION },
	{ "destination port 0", 4, IPPROTO_TCP, 22, 2, { 0, 0 }, FW_DROP_PORT_ZERO },
	{ "source port 0", 4, IPPROTO_TCP, 20, 2, { 0, 0 }, FW_DROP_PORT_ZERO },
	{ "UDP source port 0 (RFC 768)", 4, IPPROTO_UDP, 20, 2, { 0, 0 }, FW_DROP_NONE },
	{ "UDP length 7 (RFC 768)", 4, IPPROTO_UDP, 24, 2, { 0, 7 }, FW_DROP_L4_HEADER },
	{ "UDP length > IP length", 4, IPPROTO_UDP, 24, 2, { 0, 200 }, FW_DROP_L4_HEADER },
	{ "data offset 4 (RFC 9293 3.1)", 4, IPPROTO_TCP, 32, 1, { 0x40 }, FW_DROP_L4_HEADER },
	{ "data offset beyond the segment", 4, IPPROTO_TCP, 32, 1, { 0xf0 }, FW_DROP_L4_HEADER },
	{ "no flags", 4, IPPROTO_TCP, 33, 1, { 0 }, FW_DROP_TCP_FLAGS },
	{ "SYN FIN", 4, IPPROTO_TCP, 33, 1, { 3 }, FW_DROP_TCP_FLAGS },
	{ "SYN RST", 4, IPPROTO_TCP, 33, 1, { 6 }, FW_DROP_TCP_FLAGS },
	{ "FIN without ACK", 4, IPPROTO_TCP, 33, 1, { 1 }, FW_DROP_TCP_FLAGS },
	{ "FIN PSH URG", 4, IPPROTO_TCP, 33, 1, { 0x29 }, FW_DROP_TCP_FLAGS },
	{ "all flags", 4, IPPROTO_TCP, 33, 1, { 0x3f }, FW_DROP_TCP_FLAGS },
	{ "SYN ECE CWR (RFC 3168)", 4, IPPROTO_TCP, 33, 1, { 0xc2 }, FW_DROP_NONE },
	{ "ICMP redirect (RFC 792)", 4, IPPROTO_ICMP, 20, 2, { 5, 0 }, FW_DROP_ICMP_TYPE },
	{ "ICMP source quench (RFC 6633)", 4, IPPROTO_ICMP, 20, 2, { 4, 0 }, FW_DROP_ICMP_TYPE },
	{ "ICMP error without an inner packet", 4, IPPROTO_ICMP, 20, 2, { 3, 1 }, FW_DROP_ICMP_INNER },
	{ "ICMPv6 error without an inner packet", 6, IPPROTO_ICMPV6, 40, 2, { 1, 1 }, FW_DROP_ICMP_INNER },
	{ "SCTP", 4, IPPROTO_TCP, 9, 1, { IPPROTO_SCTP }, FW_DROP_NONE },
	{ "ICMPv6 in IPv4 is just a protocol", 4, IPPROTO_TCP, 9, 1, { IPPROTO_ICMPV6 }, FW_DROP_NONE },
	{ "routing header type 0 (RFC 5095)", 6, IPPROTO_UDP, 6, 1, { 43 }, FW_DROP_IP_EXTENSION },
	{ "no next header (RFC 8200 4.7)", 6, IPPROTO_TCP, 6, 1, { 59 }, FW_DROP_NONE },
};
/* clang-format on */

static void
test_changes(void **state)
{
	(void)state;
	for (size_t i = 0; i < PK_COUNT(changes); i++) {
		const struct change *c = &changes[i];
		struct world_pkt w = { .family = c->family,
			.proto = c->proto,
			.in = 1,
			.out = 2,
			.sport = 1,
			.dport = 2,
			.flags = FW_TCP_SYN,
			.payload = 24 };
		uint8_t frame[2048];
		uint32_t len = world_frame(&w, frame);
		enum fw_drop got;
		struct fw_pkt pk;

		memcpy(frame + 14 + c->at, c->bytes, c->len);
		if (c->family == 4 && c->at < 20) {
			uint16_t sum;

			memset(frame + 24, 0, 2);
			sum = (uint16_t)~fw_sum_fold(fw_sum(frame + 14, 20, 0));
			memcpy(frame + 24, &sum, 2);
		}
		got = parse(&pk, frame, len);
		if (got != c->want)
			fail_msg(
			    "%s: %s, want %s", c->what, fw_drop_name(got), fw_drop_name(c->want));
		/* Cut anywhere: never a crash, and never an opinion that needs what is missing. */
		for (uint32_t cut = 0; cut < len; cut++)
			assert_int_not_equal(parse(&pk, frame, cut), FW_DROP_NONE);
		/* Ethernet pads short frames. */
		memset(frame + len, 0xee, 40);
		assert_int_equal(parse(&pk, frame, len + 40),
		    c->want == FW_DROP_IP_LENGTH && len + 26 >= 256 ? FW_DROP_NONE : c->want);
	}
}

static void
test_checksum(void **state)
{
	struct world_pkt w = {
		.family = 4, .proto = IPPROTO_UDP, .in = 1, .out = 2, .sport = 1, .dport = 2
	};
	uint8_t frame[2048];
	uint32_t len = world_frame(&w, frame);
	struct fw_pkt pk;

	(void)state;
	frame[22]--;
	assert_int_equal(parse(&pk, frame, len), FW_DROP_IP_CHECKSUM);
	pk.checksum_ok = true;
	assert_int_equal(fw_parse(&pk, frame, len, len, 0, NULL), FW_DROP_NONE);
}

/* RFC 8200 section 4, RFC 6946, RFC 5095. */
static void
test_extensions(void **state)
{
	static const struct {
		const char *what;
		uint8_t first;
		uint8_t nb;
		uint8_t bytes[9][8];
		enum fw_drop want;
	} cases[] = {
		{ "hop-by-hop", 0, 1, { { 6, 0, 1, 4 } }, FW_DROP_NONE },
		{ "hop-by-hop, destination", 0, 2, { { 60, 0, 1, 4 }, { 6, 0, 1, 4 } },
		    FW_DROP_NONE },
		{ "hop-by-hop second", 60, 2, { { 0, 0, 1, 4 }, { 6, 0, 1, 4 } },
		    FW_DROP_IP_EXTENSION },
		{ "atomic fragment", 44, 1, { { 6, 0, 0, 0, 1, 2, 3, 4 } }, FW_DROP_NONE },
		{ "two of them", 44, 2, { { 44 }, { 6 } }, FW_DROP_IP_EXTENSION },
		{ "first fragment, 20 bytes", 44, 1, { { 6, 0, 0, 1 } }, FW_DROP_FRAG_SIZE },
		{ "first fragment, 28 bytes", 44, 2, { { 60, 0, 0, 1 }, { 6, 0, 1, 4 } },
		    FW_DROP_FRAG_SIZE },
		{ "up to 65535 + 1", 44, 1, { { 6, 0, 0xff, 0xf0 } }, FW_DROP_FRAG_SIZE },
		{ "routing header in a later fragment is data", 44, 2,
		    { { 43, 0, 0, 8 }, { 6, 0, 0, 1 } }, FW_DROP_NONE },
		{ "routing, nothing left", 43, 1, { { 6, 0, 4, 0 } }, FW_DROP_NONE },
		{ "routing, segments left", 43, 1, { { 6, 0, 4, 1 } }, FW_DROP_IP_EXTENSION },
		{ "routing type 0", 43, 1, { { 6, 0, 0, 0 } }, FW_DROP_IP_EXTENSION },
		{ "longer than the packet", 60, 1, { { 6, 200, 1, 4 } }, FW_DROP_TRUNCATED },
		{ "eight", 60, 8, { { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 6 } },
		    FW_DROP_NONE },
		{ "nine", 60, 9,
		    { { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 60 }, { 6 } },
		    FW_DROP_IP_EXTENSION },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct world_pkt w = { .family = 6,
			.proto = IPPROTO_TCP,
			.in = 1,
			.out = 2,
			.sport = 1,
			.dport = 2,
			.flags = FW_TCP_SYN };
		uint8_t frame[2048];
		uint32_t len = world_frame(&w, frame), more = cases[i].nb * 8u;
		enum fw_drop got;
		struct fw_pkt pk;

		memmove(frame + 54 + more, frame + 54, len - 54);
		memcpy(frame + 54, cases[i].bytes, more);
		frame[14 + 6] = cases[i].first;
		frame[14 + 5] = (uint8_t)(20 + more);
		len += more;
		got = parse(&pk, frame, len);
		if (got != cases[i].want)
			fail_msg("%s: %s, want %s", cases[i].what, fw_drop_name(got),
			    fw_drop_name(cases[i].want));
		if (got == FW_DROP_NONE)
			assert_int_equal(pk.selector, pk.kind == FW_KIND_FRAGMENT ? 0 : 2);
		for (uint32_t cut = 0; cut < len; cut++)
			assert_int_not_equal(parse(&pk, frame, cut), FW_DROP_NONE);
	}
}

static void
test_tags(void **state)
{
	struct world_pkt w = {
		.family = 4, .proto = IPPROTO_UDP, .in = 1, .out = 2, .sport = 1, .dport = 2
	};
	uint8_t frame[2048];
	uint32_t len = world_frame(&w, frame);
	static const uint32_t vrf[] = { 0, 7, 9 << 12 | 7 };
	struct fw_pkt pk;

	(void)state;
	for (unsigned int tags = 0; tags < 4; tags++) {
		enum fw_drop got = parse(&pk, frame, len);

		if (tags == 3) {
			assert_int_equal(got, FW_DROP_VLAN_DEPTH);
			break;
		}
		assert_int_equal(got, FW_DROP_NONE);
		assert_int_equal(pk.key.vrf, vrf[tags]);
		memmove(frame + 16, frame + 12, len - 12);
		memcpy(frame + 12,
		    tags == 0 ? (uint8_t[]){ 0x81, 0, 0xe0, 7 } : (uint8_t[]){ 0x88, 0xa8, 0, 9 },
		    4);
		len += 4;
	}
}

/* Both directions of a flow have one key, and a direction bit that differs. */
static void
test_key(void **state)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_GRE,
		IPPROTO_ICMP, IPPROTO_ICMPV6 };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(protos); i++) {
		bool icmp = protos[i] == IPPROTO_ICMP || protos[i] == IPPROTO_ICMPV6;

		for (uint8_t family = 4; family <= 6; family += 2) {
			struct world_pkt w = { .family = family,
				.proto = protos[i],
				.in = 1,
				.out = 2,
				.sport = 5,
				.dport = 6,
				.flags = FW_TCP_ACK,
				.payload = 20 };
			struct fw_pkt a, b;
			uint8_t frame[2048];

			if (icmp && (family == 4) != (protos[i] == IPPROTO_ICMP))
				continue;
			if (icmp)
				w.sport = family == 4 ? 8 << 8 : 128 << 8;
			assert_int_equal(parse(&a, frame, world_frame(&w, frame)), FW_DROP_NONE);
			w.from_outside = true;
			if (icmp) {
				w.sport = family == 4 ? 0 : 129 << 8;
			} else {
				w.sport = 6;
				w.dport = 5;
			}
			assert_int_equal(parse(&b, frame, world_frame(&w, frame)), FW_DROP_NONE);
			assert_memory_equal(&a.key, &b.key, sizeof(a.key));
			if (family == 6)
				assert_memory_equal(a.addr, b.addr, sizeof(a.addr));
			assert_int_equal(a.hi ^ b.hi, 1);
		}
	}
}

/* RFC 1071: whatever the length and alignment, the same as word by word. */
static void
test_sum(void **state)
{
	uint8_t bytes[64];

	(void)state;
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 200);
	for (unsigned int from = 0; from < 5; from++)
		for (unsigned int len = 0; len < 40; len++) {
			uint32_t want = 0;

			for (unsigned int i = 0; i < len; i++)
				want += (uint32_t)bytes[from + i] << (i % 2 != 0 ? 0 : 8);
			want = (want & 0xffff) + (want >> 16);
			assert_int_equal(
			    __builtin_bswap16(fw_sum_fold(fw_sum(bytes + from, len, 0))), want);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_sum),
	};

	return cmocka_run_group_tests_name("fw/parse", tests, NULL, NULL);
}
