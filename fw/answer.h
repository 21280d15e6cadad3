#pragma once

#include "fw/parse.h"

/*
 * The bytes of an answer to a packet that was refused, or of a segment in the name of one end of a connection: in
 * the frame of the packet at hand, with the addresses the other way round if it goes back.  fw/reject.h puts
 * them into packet buffers; a plane without such sends them as they are.
 */
#define FW_ANSWER_MAX \
	2048 /* bytes: link header, a tunnel's headers (FW_PARSE_HEAD at most), and 1280 */

/* A TCP segment without data, by its numbers.  Options are whole words of four bytes. */
struct fw_segment {
	uint32_t seq, ack;
	uint16_t win;
	uint8_t flags, options_len;
	uint8_t options[40];
};

/*
 * Each writes a frame at `out` and returns its length; 0: none may be made.  Context: any.
 *
 * fw_answer_make: RST with the numbers of RFC 9293 section 3.10.7.1, ICMP code 13 of type 3 (RFC 1812 section
 * 5.2.7.1), or ICMPv6 code 1 of type 1 (RFC 4443 section 3.1), back to who sent `pk`.
 */
uint32_t fw_answer_make(const struct fw_pkt *pk, uint8_t out[FW_ANSWER_MAX]);

/* Its packets may have `mtu` bytes of IP: ICMP type 3 code 4 (RFC 1191), or ICMPv6 type 2 (RFC 4443 section 3.2), which
 * are made about multicast as well. */
uint32_t fw_answer_too_big(const struct fw_pkt *pk, uint16_t mtu, uint8_t out[FW_ANSWER_MAX]);

/* In the frame of `pk`, a segment of the same connection: with `back` to who sent that, otherwise on to the
 * receiver. */
uint32_t fw_answer_segment(
    const struct fw_pkt *pk, bool back, const struct fw_segment *s, uint8_t out[FW_ANSWER_MAX]);
