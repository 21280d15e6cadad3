/* Overlays: their options, and that both directions of what is in a tunnel meet on one lcore. */
#include <rte_eal.h>
#include <rte_mbuf.h>

#include "fw/overlay.h"
#include "fw/steer.h"
#include "tests/unit/packet.h"
#include "tests/unit/test.h"

static struct rte_mempool *pool;

static void
test_options(void **state)
{
	static const struct {
		uint16_t vxlan, geneve;
		const char *peers[3];
		const char *error; /* NULL: it is right */
	} cases[] = {
		{ 0, 0, { NULL }, NULL },
		{ 4789, 0, { "203.0.113.0/24" }, NULL },
		{ 4789, 6081, { "203.0.113.7", "2001:db8::/64" }, NULL },
		{ 4789, 4789, { "203.0.113.0/24" }, "want a port for each" },
		{ 4789, 0, { NULL }, "want the networks" },
		{ 0, 6081, { "203.0.113.1/24" }, "overlay-peer 203.0.113.1/24: " },
		{ 0, 6081, { "anywhere" }, "overlay-peer anywhere: " },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct fw_overlay o;
		struct pk_diag diag = { .text = "" };
		size_t nb = 0;
		int rc;

		while (cases[i].peers[nb] != NULL)
			nb++;
		rc =
		    fw_overlay_init(&o, cases[i].vxlan, cases[i].geneve, cases[i].peers, nb, &diag);
		assert_int_equal(rc, cases[i].error == NULL ? 0 : -EINVAL);
		if (cases[i].error != NULL && strstr(diag.text, cases[i].error) == NULL)
			fail_msg("case %zu: \"%s\"", i, diag.text);
	}
}

static uint16_t
lcore_of(struct fw_steering *g, const char *text)
{
	static struct packet_stage stage = { .family = 4, .server_port = 443 };
	char copy[256], err[256], *words[32], *save = NULL;
	unsigned int n = 0;
	struct packet p;
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	uint16_t to[FW_BURST] = { 0 };
	char *bytes;

	stage.client_port = 40000;
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		words[n++] = w;
	if (packet_build(&p, &stage, words, n, err, sizeof(err)) < 0)
		fail_msg("%s: %s", text, err);
	assert_non_null(m);
	bytes = rte_pktmbuf_append(m, (uint16_t)p.len);
	assert_non_null(bytes);
	memcpy(bytes, p.bytes, p.len);
	if (!fw_steering_sort(g, 0, FW_INSIDE, &m, 1, 0, to))
		to[0] = 0;
	rte_pktmbuf_free(m);
	return to[0];
}

/* The outer addresses are the same for all flows between two endpoints, and say nothing. */
static void
test_lcores(void **state)
{
	static const uint16_t queues[] = { 0, 1, 2, 3 };
	const uint64_t seed[2] = { 1, 2 };
	const char *peers[] = { "203.0.113.0/24" };
	unsigned int seen = 0;
	struct fw_overlay o;
	struct fw_steer s;
	struct fw_steering *g;

	(void)state;
	assert_int_equal(fw_overlay_init(&o, 4789, 6081, peers, 1, NULL), 0);
	for (enum fw_steer_mode mode = FW_STEER_RSS; mode <= FW_STEER_SOFT; mode++) {
		fw_steer_init(&s, 4, seed);
		s.overlay = &o;
		s.wire[0] =
		    (struct fw_steer_wire){ .mode = (uint8_t)mode, .mask = 3, .queue = queues };
		assert_int_equal(fw_steering_create(&g, &s, 0), 0);
		seen = 0;
		for (unsigned int port = 1024; port < 1056; port++) {
			char there[128], back[128];
			uint16_t a, b;

			snprintf(there, sizeof(there), "in udp sport %u vxlan 5001", port);
			snprintf(back, sizeof(back), "out udp dport %u geneve 5001", port);
			a = lcore_of(g, there);
			b = lcore_of(g, back);
			assert_int_equal(a, b);
			seen |= 1u << a;
		}
		assert_int_equal(seen, 15);
		fw_steering_destroy(g);
	}
}

int
main(void)
{
	char *argv[] = { (char *)"test", (char *)"--no-huge", (char *)"--no-pci",
		(char *)"--no-telemetry", (char *)"-m", (char *)"64", (char *)"--no-shconf",
		(char *)"--log-level=error", (char *)"--lcores=0@0", (char *)"--iova-mode=va" };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_lcores),
	};

	if (rte_eal_init((int)PK_COUNT(argv), argv) < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("test", 255, 0, 0, 2048 + 128, SOCKET_ID_ANY);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests_name("fw_overlay", tests, NULL, NULL);
}
