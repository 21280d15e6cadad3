/*
 * What a key maker could send: messages one after the other, as picketd takes them, into the SAD; and between them the
 * questions that lcores ask.  The first byte of each piece says how many bytes of a message follow.
 */
#include <stdint.h>
#include <string.h>

#include "ipsec/esp/sad.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct esp_sad_conf conf = { .nb_sas = 32 };
	static uint64_t now_ns = PK_NS_PER_S;
	static struct esp_sad *sad; /* made once, and emptied each time */
	struct pk_diag diag;

	if (sad == NULL && esp_sad_create(&sad, &conf, &diag) < 0)
		return 0;
	while (len > 0) {
		struct pk_sadb m = { 0 };
		struct pk_sadb_answer answer;
		struct esp_flow flow = { 0 };
		struct esp_sa_info info;
		size_t n = 1 + (size_t)data[0] * 2;
		uint32_t spi, cursor = 0;

		n = PK_MIN(n, len);
		memcpy((uint8_t *)&m + 2, data + 1, PK_MIN(n - 1, sizeof(m) - 2));
		data += n;
		len -= n;
		/* Most inputs would die at the version and the length; those checks have a test of their own. */
		m.h.version = PK_SADB_VERSION;
		m.h.zero = 0;
		m.h.more = m.h.type == PK_SADB_IKE ? 1 : 0;
		now_ns += PK_NS_PER_S;
		if (pk_sadb_check(&m, PK_SADB_SIZE + m.h.more, &diag) < 0)
			continue;
		switch (m.h.type) {
		case PK_SADB_GET_SPI:
			(void)esp_sad_get_spi(sad, &m.get_spi, now_ns, &spi, &diag);
			break;
		case PK_SADB_ADD_SA:
			(void)esp_sad_add(sad, &m.add_sa, now_ns, &diag);
			break;
		case PK_SADB_UPDATE_SA:
			(void)esp_sad_update(sad, &m.update_sa, &diag);
			break;
		case PK_SADB_DEL_SA:
			(void)esp_sad_delete(sad, &m.sa.id, &diag);
			break;
		case PK_SADB_QUERY_SA:
			(void)esp_sad_query(sad, &m.sa.id, now_ns, &answer, &diag);
			break;
		case PK_SADB_ADD_POLICY:
			(void)esp_sad_add_policy(sad, &m.policy, &diag);
			flow.src = m.policy.src.addr;
			flow.dst = m.policy.dst.addr;
			flow.vrf = m.policy.vrf;
			flow.proto = m.policy.proto;
			flow.sport = m.policy.sport_low;
			flow.dport = m.policy.dport_low;
			break;
		case PK_SADB_DEL_POLICY:
			(void)esp_sad_delete_policy(sad, &m.policy, &diag);
			break;
		case PK_SADB_FLUSH:
			esp_sad_flush(sad, m.flush.what);
			break;
		default:
			break;
		}
		(void)esp_sad_tunnel_in(sad, esp_sad_tunnel_out(sad, &flow), &flow);
		esp_sad_tick(sad, now_ns, NULL);
		for (uint32_t nb = 0; esp_sad_next(sad, &cursor, now_ns, &info) == 0; nb++) {
			PK_ASSERT(nb < conf.nb_sas && info.index <= conf.nb_sas);
			if (info.direction == PK_SADB_IN && info.state == ESP_STATE_ALIVE)
				PK_ASSERT(esp_sad_by_spi(sad, __builtin_bswap32(info.id.spi)) ==
				    esp_sad_at(sad, info.index));
		}
	}
	esp_sad_flush(sad, PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES);
	esp_sad_settle(sad);
	PK_ASSERT(esp_sad_count(sad) == 0);
	return 0;
}
