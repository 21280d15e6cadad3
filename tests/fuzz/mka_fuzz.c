/*
 * MKPDUs, of any bytes, and of any bytes with a good ICV (so that what a holder of the CAK may say is fuzzed as well);
 * and the messages between mkad and picketd.
 */
#include <stdlib.h>
#include <string.h>

#include "ipsec/macsec/msg.h"
#include "ipsec/mka/kay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t cak[16] = { 1 }, ckn[4] = "ckn";
static uint8_t ick[16];

static void
send_nothing(void *arg, const uint8_t *frame, size_t len)
{
	(void)arg;
	PK_ASSERT(frame != NULL && len <= MKA_FRAME_MAX);
}

static int
no_chance(void *arg, void *bytes, size_t len)
{
	static uint8_t n;

	(void)arg;
	memset(bytes, ++n, len);
	return 0;
}

static void
sc(void *arg, uint64_t sci)
{
	(void)arg;
	(void)sci;
}

static void
sa_add(void *arg, const struct mka_sa *sa)
{
	(void)arg;
	PK_ASSERT(sa->an < MACSEC_ANS && macsec_suite_key_len(sa->suite) != 0);
}

static void
sa_delete(void *arg, bool receive, uint64_t sci, uint8_t an)
{
	(void)arg;
	(void)receive;
	(void)sci;
	PK_ASSERT(an < MACSEC_ANS);
}

static void
sa_use(void *arg, uint8_t an)
{
	(void)arg;
	PK_ASSERT(an < MACSEC_ANS);
}

static void
sa_floor(void *arg, uint64_t sci, uint8_t an, uint64_t pn)
{
	(void)pn;
	sa_delete(arg, true, sci, an);
}

static void
enable(void *arg, bool enabled)
{
	(void)arg;
	(void)enabled;
}

static void
event(void *arg, enum mka_event e, const char *text)
{
	(void)arg;
	PK_ASSERT(e < MKA_EVENT_COUNT && text != NULL);
}

static const struct mka_kay_ops ops = { send_nothing, no_chance, sc, sc, sa_add, sa_delete, sa_use,
	sa_floor, enable, event };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 9 };
	struct mka_kay_conf conf;
	struct mka_kay *k;
	struct pk_diag diag;
	uint64_t now = 10 * PK_NS_PER_S;
	struct macsec_msg m = { .h.version = 0 };

	memcpy(&m, data, PK_MIN(len, sizeof(m)));
	(void)macsec_msg_check(&m, len, &diag);
	m.h.version = MACSEC_MSG_VERSION;
	(void)macsec_msg_check(&m, macsec_msg_len(&m), &diag);
	if (ick[0] == 0)
		PK_ASSERT(mka_derive(cak, sizeof(cak), ckn, sizeof(ckn), "IEEE8021 ICK", ick) == 0);
	mka_kay_conf_init(&conf);
	memcpy(conf.mac, mac, 6);
	conf.sci = macsec_sci_of(mac, 1);
	PK_ASSERT(mka_kay_create(&k, &conf, &ops, NULL, &diag) == 0);
	PK_ASSERT(mka_kay_add(k, cak, sizeof(cak), ckn, sizeof(ckn), now, &diag) == 0);
	(void)mka_kay_tick(k, now);
	/* Frames, each after its length of two octets. */
	while (len > 2) {
		size_t n = PK_MIN((size_t)(data[0] << 8 | data[1]) % 1600, len - 2), body = 0;
		uint8_t frame[1600 + 32];
		struct mkpdu pdu;

		memcpy(frame, data + 2, n);
		data += 2 + n;
		len -= 2 + n;
		mka_kay_receive(k, frame, n, now);
		if (mkpdu_decode(&pdu, frame, n, &body) == NULL && body + MKA_ICV <= n) {
			PK_ASSERT(mka_cmac(ick, sizeof(ick), frame, body, frame + body) == 0);
			mka_kay_receive(k, frame, n, now);
		}
		now += 700 * PK_NS_PER_MS;
		(void)mka_kay_tick(k, now);
	}
	mka_kay_destroy(k);
	return 0;
}
