/*
 * The TCP table as a table: what must hold for every entry, so that one changed by a slip shows.  Single
 * sequences of packets are in tests/replay/.
 */
#include <stdio.h>
#include <string.h>

#include "fw/tcp.h"
#include "tests/unit/test.h"

/* How far a connection has got.  States may only go up, whatever comes. */
static const unsigned int rank[FW_STATE_TCP_COUNT] = {
	[FW_STATE_SYN_SENT] = 1,
	[FW_STATE_SYN_BOTH] = 2,
	[FW_STATE_SYN_BOTH_F] = 3,
	[FW_STATE_SYN_BOTH_R] = 3,
	[FW_STATE_SYN_RECV] = 3,
	[FW_STATE_ESTABLISHED] = 4,
	[FW_STATE_FIN_F] = 5,
	[FW_STATE_FIN_R] = 5,
	[FW_STATE_HALF_F] = 6,
	[FW_STATE_HALF_R] = 6,
	[FW_STATE_CLOSING] = 7,
	[FW_STATE_LAST_F] = 8,
	[FW_STATE_LAST_R] = 8,
	[FW_STATE_TIME_WAIT] = 9,
	[FW_STATE_CLOSED] = 10,
};

static void
test_only_forward(void **state)
{
	(void)state;
	for (unsigned int s = 1; s < FW_STATE_TCP_COUNT; s++)
		for (unsigned int d = 0; d < 2; d++)
			for (unsigned int e = 0; e < FW_TCP_EV_COUNT; e++) {
				unsigned int next = fw_tcp_next[s][d][e];

				assert_true(next < FW_STATE_TCP_COUNT);
				if (next != FW_STATE_NONE && rank[next] < rank[s])
					fail_msg("%s, %s of side %u: back to %s",
					    fw_session_state_name(s), fw_tcp_event_name(e), d,
					    fw_session_state_name(next));
			}
}

/* RFC 9293 section 3.10.7.4: a believed reset closes, but for RFC 1337. */
static void
test_reset_closes(void **state)
{
	(void)state;
	for (unsigned int s = FW_STATE_SYN_SENT; s < FW_STATE_TCP_COUNT; s++)
		for (unsigned int d = 0; d < 2; d++)
			assert_int_equal(fw_tcp_next[s][d][FW_TCP_EV_RST],
			    s == FW_STATE_TIME_WAIT ? FW_STATE_TIME_WAIT : FW_STATE_CLOSED);
}

/* Once both are open, the sides are each other's mirror image. */
static void
test_mirror(void **state)
{
	static const uint8_t mirror[FW_STATE_TCP_COUNT] = {
		[FW_STATE_ESTABLISHED] = FW_STATE_ESTABLISHED,
		[FW_STATE_FIN_F] = FW_STATE_FIN_R,
		[FW_STATE_FIN_R] = FW_STATE_FIN_F,
		[FW_STATE_HALF_F] = FW_STATE_HALF_R,
		[FW_STATE_HALF_R] = FW_STATE_HALF_F,
		[FW_STATE_CLOSING] = FW_STATE_CLOSING,
		[FW_STATE_LAST_F] = FW_STATE_LAST_R,
		[FW_STATE_LAST_R] = FW_STATE_LAST_F,
		[FW_STATE_TIME_WAIT] = FW_STATE_TIME_WAIT,
		[FW_STATE_CLOSED] = FW_STATE_CLOSED,
	};

	(void)state;
	for (unsigned int s = FW_STATE_ESTABLISHED; s < FW_STATE_TCP_COUNT; s++)
		for (unsigned int d = 0; d < 2; d++)
			/* SYN and SYN-ACK tell the opener from the other */
			for (unsigned int e = FW_TCP_EV_ACK; e < FW_TCP_EV_COUNT; e++)
				assert_int_equal(
				    fw_tcp_next[mirror[s]][d ^ 1][e], mirror[fw_tcp_next[s][d][e]]);
}

/* The reverse side opens nothing, ever. */
static void
test_only_the_opener_opens(void **state)
{
	(void)state;
	for (unsigned int e = 0; e < FW_TCP_EV_COUNT; e++) {
		assert_int_equal(fw_tcp_next[FW_STATE_NONE][1][e], FW_STATE_NONE);
		assert_int_equal(fw_tcp_next[FW_STATE_NONE][0][e],
		    e == FW_TCP_EV_SYN ? FW_STATE_SYN_SENT : FW_STATE_NONE);
	}
	for (unsigned int s = FW_STATE_ESTABLISHED; s < FW_STATE_TCP_COUNT; s++)
		assert_int_equal(fw_tcp_next[s][1][FW_TCP_EV_SYN], FW_STATE_NONE);
}

/* RFC 9293 section 3.4: numbers wrap. */
static void
test_wrap(void **state)
{
	static const uint32_t starts[] = { 0, 1, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(starts); i++)
		for (size_t k = 0; k < PK_COUNT(starts); k++) {
			struct fw_session s = { .state = FW_STATE_ESTABLISHED,
				.scale = 2 << 4 | 1 };
			uint32_t f = starts[i], r = starts[k];

			s.side[0] = (struct fw_tcp_side){ .end = f, .ack = r };
			s.side[1] = (struct fw_tcp_side){ .end = r, .ack = f };
			s.win[0] = 1000; /* 2000 bytes */
			s.win[1] = 1000; /* 4000 bytes */
			assert_int_equal(fw_tcp_check(&s, 0, f, f + 4000, r), FW_DROP_NONE);
			assert_int_equal(fw_tcp_check(&s, 0, f, f + 4001, r), FW_DROP_TCP_WINDOW);
			assert_int_equal(
			    fw_tcp_check(&s, 0, f - 1, f - 1, r), FW_DROP_NONE); /* keep-alive */
			assert_int_equal(fw_tcp_check(&s, 0, f - 4000, f, r), FW_DROP_NONE);
			assert_int_equal(fw_tcp_check(&s, 0, f - 4001, f, r), FW_DROP_TCP_WINDOW);
			assert_int_equal(fw_tcp_check(&s, 0, f, f, r + 1), FW_DROP_TCP_ACK);
			assert_int_equal(fw_tcp_check(&s, 0, f, f, r - 2000), FW_DROP_NONE);
			assert_int_equal(fw_tcp_check(&s, 0, f, f, r - 2001), FW_DROP_TCP_ACK);
			assert_int_equal(fw_tcp_check(&s, 1, r, r + 2000, f), FW_DROP_NONE);
			assert_int_equal(fw_tcp_check(&s, 1, r, r + 2001, f), FW_DROP_TCP_WINDOW);
		}
}

static uint32_t
rnd(uint32_t below)
{
	static uint64_t rng = 77;

	rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(rng >> 33) % below;
}

/* A refused packet changes nothing. */
static void
test_refusal_is_silent(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 300000; i++) {
		struct fw_session s = { 0 }, before;
		uint8_t bytes[64] = { 0 };
		struct fw_pkt pk = { .data = bytes, .contiguous = sizeof(bytes), .l4_len = 24 };
		struct fw_tcp_move mv;
		static const uint8_t flags[] = { 2, 18, 16, 17, 4, 20 };

		s.state = (uint8_t)(1 + rnd(FW_STATE_TCP_COUNT - 1));
		s.flags = (uint8_t)rnd(64);
		s.scale = (uint8_t)(rnd(15) << 4);
		s.scale |= (uint8_t)rnd(15);
		for (unsigned int d = 0; d < 2; d++) {
			s.side[d].end = rnd(6);
			s.side[d].ack = rnd(6);
			s.win[d] = (uint16_t)rnd(3);
		}
		bytes[20] = (uint8_t)rnd(5);
		bytes[21] = (uint8_t)rnd(5);
		bytes[22] = (uint8_t)rnd(20);
		pk.seq = rnd(9) - 2;
		pk.ack = rnd(9) - 2;
		pk.tcp_flags = flags[rnd(6)];
		pk.payload = (uint16_t)rnd(3);
		pk.win = (uint16_t)rnd(65536);
		before = s;
		if (fw_tcp_step(&s, &pk, rnd(2), &mv) != FW_DROP_NONE)
			assert_memory_equal(&s, &before, sizeof(s));
		else
			assert_true(rank[s.state] >= rank[before.state]);
	}
}

/* A session of which only the state has been handed over takes its numbers from the next segment, from either side;
 * what anybody might send does not teach it. */
static void
test_learns_numbers(void **state)
{
	static const uint8_t states[] = { FW_STATE_ESTABLISHED, FW_STATE_FIN_F, FW_STATE_HALF_F,
		FW_STATE_HALF_R, FW_STATE_CLOSING, FW_STATE_LAST_R };

	(void)state;
	for (unsigned int k = 0; k < 2 * sizeof(states); k++) {
		unsigned int d = k % 2;
		struct fw_session s = {
			.state = states[k / 2], .flags = FW_SESSION_LOOSE, .scale = 7 << 4 | 7
		};
		const struct fw_session before = s;
		struct fw_pkt pk = { .tcp_flags = FW_TCP_RST, .seq = 4000000000u, .ack = 77 };
		struct fw_tcp_move mv;

		assert_int_equal(fw_tcp_step(&s, &pk, d, &mv), FW_DROP_TCP_RST);
		pk.tcp_flags = FW_TCP_SYN | FW_TCP_ACK;
		assert_int_not_equal(fw_tcp_step(&s, &pk, d, &mv), FW_DROP_NONE);
		assert_memory_equal(&s, &before, sizeof(s));

		pk.tcp_flags = FW_TCP_ACK;
		pk.payload = 1000;
		pk.win = 500;
		assert_int_equal(fw_tcp_step(&s, &pk, d, &mv), FW_DROP_NONE);
		assert_int_equal(s.side[d].end, 4000001000u);
		assert_int_equal(s.side[d ^ 1].end, 77);
		/* From now on as any other: the answer, what is beyond the window, a RST that is not exact. */
		pk = (struct fw_pkt){ .tcp_flags = FW_TCP_ACK,
			.seq = 77,
			.ack = 4000001000u,
			.payload = 1,
			.win = 500 };
		assert_int_equal(fw_tcp_step(&s, &pk, d ^ 1, &mv), FW_DROP_NONE);
		pk.seq = 77 + (UINT16_MAX << 7) + 1;
		assert_int_equal(fw_tcp_step(&s, &pk, d ^ 1, &mv), FW_DROP_TCP_WINDOW);
		pk.tcp_flags = FW_TCP_RST;
		assert_int_equal(fw_tcp_step(&s, &pk, d ^ 1, &mv), FW_DROP_TCP_RST);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_forward),
		cmocka_unit_test(test_reset_closes),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_only_the_opener_opens),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_refusal_is_silent),
		cmocka_unit_test(test_learns_numbers),
	};

	return cmocka_run_group_tests_name("fw/tcp", tests, NULL, NULL);
}
