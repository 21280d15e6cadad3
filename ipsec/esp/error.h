#pragma once

/*
 * Why ESP refuses a packet.  fw/drop.h makes each of them a reason of the packet path, with a counter.
 *
 *   X(NAME, "name", "what an operator should know")
 */
#define ESP_ERRORS(X)                                                                                  \
	/* inbound */                                                                                  \
	X(ESP_TRUNCATED, "esp-truncated",                                                              \
	    "ESP: shorter than its headers, IV and ICV, or no whole blocks")                           \
	X(ESP_SPI, "esp-spi", "ESP: no SA has this SPI")                                               \
	X(ESP_ADDRESS, "esp-address",                                                                  \
	    "ESP: its SA is between other addresses, or on another wire")                              \
	X(ESP_REPLAY, "esp-replay", "ESP: this sequence number has come before")                       \
	X(ESP_OLD, "esp-old", "ESP: the sequence number is left of the replay window, or 0")           \
	X(ESP_ICV, "esp-icv", "ESP: the integrity check fails")                                        \
	X(ESP_PADDING, "esp-padding",                                                                  \
	    "ESP: padding that is longer than the packet, or not 1, 2, 3, ...")                        \
	X(ESP_NEXT_HEADER, "esp-next-header", "ESP: a next header that this mode does not carry")      \
	X(ESP_INNER, "esp-inner", "ESP: what was inside is no IP packet of that length")               \
	X(ESP_DUMMY, "esp-dummy",                                                                      \
	    "ESP: a dummy packet, sent to hide traffic (RFC 4303, section 2.6)")                       \
	X(ESP_ECN, "esp-ecn",                                                                          \
	    "ESP: congestion was marked on what cannot carry the mark (RFC 6040)")                     \
	X(ESP_SELECTOR, "esp-selector", "ESP: the packet inside is none that its SA may carry")        \
	/* outbound */                                                                                 \
	X(ESP_ACQUIRE, "esp-acquire",                                                                  \
	    "has to be protected, and there is no SA yet: it is asked for")                            \
	X(ESP_TOO_BIG, "esp-too-big",                                                                  \
	    "longer than the path with ESP around it; the sender was told")                            \
	X(ESP_FRAGMENT, "esp-fragment",                                                                \
	    "a fragment: transport mode carries whole packets, and ESP in pieces is not put together") \
	X(ESP_ROOM, "esp-room", "ESP: no room in the packet's buffers for headers and trailer")        \
	/* both */                                                                                     \
	X(ESP_EXPIRED, "esp-expired", "ESP: the SA has reached the end of its life")                   \
	X(ESP_SEQ, "esp-seq", "ESP: the SA has used up its sequence numbers")                          \
	/* policy */                                                                                   \
	X(ESP_PLAIN, "esp-plain", "in plain text, of a session that has to be protected")

enum esp_error {
	ESP_OK = 0,
#define ESP_ERROR_ENUM(name, text, help) name,
	ESP_ERRORS(ESP_ERROR_ENUM)
#undef ESP_ERROR_ENUM
	ESP_ERROR_COUNT,
};

/* "esp-icv"; "none" for ESP_OK.  Context: any. */
const char *esp_error_name(unsigned int error);
