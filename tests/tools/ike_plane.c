/*
 * A data plane of one machine, for tests of picket-iked: it speaks lib/sadb.h as picketd does, carries IKE by UDP
 * sockets of the namespace it runs in, and does ESP in UDP with the keys it is given.  A ping that comes out of a tunnel is
 * answered by that tunnel, so whoever pings through it knows that both ends have the same keys and selectors.
 *
 *   ike_plane SOCKET DUMP ADDRESS...
 *
 * DUMP is written anew (beside it, then renamed) whenever SAs or policies change: sorted lines
 *
 *   sa in|out SPI SRC DST ALGORITHM MODE REQID FLAGS     policy in|out SRC DST REQID SPI
 *   pings N     refused REASON N
 *
 * Words on standard input act as picketd would by itself: `expire soft|hard SPI`, `acquire REQID SRC DST`,
 * `address ADDRESS` (another one of the DPU), `restart` (all SAs are lost, the connection ends), `junk` (a message that is none),
 * `fuzz SEED N` (so many messages that are well-formed and mean nothing).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipsec/crypto.h"
#include "lib/clock.h"
#include "lib/sadb.h"

#define SAS_MAX      4096
#define POLICIES_MAX 4096
#define LOCALS_MAX   8
#define SPI_BASE     0xc0000100u

struct sa {
	bool used, installed;
	struct pk_sadb_add_sa a;
	enum ipsec_alg alg;
	uint64_t seq, packets, bytes, last_ns;
	bool said_soft, said_hard;
	_Alignas(64) uint8_t key[IPSEC_KEY_STRIDE];
};

static struct sa sas[SAS_MAX];
static struct pk_sadb_policy policies[POLICIES_MAX];
static size_t nb_policies;
static struct pk_addr locals[LOCALS_MAX];
static int udp[LOCALS_MAX][2]; /* ports 500 and 4500 */
static size_t nb_locals;
static struct ipsec_crypto *crypto;
static uint8_t last_ike[PK_SADB_IKE_MAX]; /* what the peer has said last */
static size_t last_ike_len;
static uint64_t epoch, pings;
static uint32_t next_spi = SPI_BASE, nb_requests;
static const char *dump_path;
static int client = -1;
static uint64_t bad_spi, bad_icv, bad_selector, no_policy;

static void
die(const char *what)
{
	fprintf(stderr, "ike_plane: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- what a test looks at ----------------------------------------------------------------------- */

static int
compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
dump(void)
{
	static char text[SAS_MAX + POLICIES_MAX][256];
	static char *line[SAS_MAX + POLICIES_MAX];
	char a[PK_PREFIX_TEXT], b[PK_PREFIX_TEXT], tmp[512];
	size_t n = 0;
	FILE *f;

	for (size_t i = 0; i < SAS_MAX; i++) {
		const struct pk_sadb_add_sa *s = &sas[i].a;

		if (!sas[i].used || !sas[i].installed)
			continue;
		snprintf(text[n], sizeof(text[n]),
		    "sa %s %08x %s %s %s %s reqid=%u%s%s%s window=%u",
		    s->direction == PK_SADB_IN ? "in" : "out", s->id.spi,
		    pk_addr_text(&s->id.src, a), pk_addr_text(&s->id.dst, b),
		    ipsec_alg_name(sas[i].alg), pk_sadb_mode_name(s->mode), s->reqid,
		    (s->flags & PK_SADB_ESN) != 0 ? " esn" : "",
		    (s->flags & PK_SADB_ENCAP) != 0 ? " udp" : "",
		    (s->flags & PK_SADB_INITIATOR) != 0 ? " initiator" : "", s->replay_window);
		line[n] = text[n];
		n++;
	}
	for (size_t i = 0; i < nb_policies; i++) {
		const struct pk_sadb_policy *p = &policies[i];

		snprintf(text[n], sizeof(text[n]), "policy %s %s %s reqid=%u %08x proto=%u",
		    p->direction == PK_SADB_POLICY_IN ? "in" : "out", pk_prefix_text(&p->src, a),
		    pk_prefix_text(&p->dst, b), p->reqid, p->spi, p->proto);
		line[n] = text[n];
		n++;
	}
	qsort(line, n, sizeof(line[0]), compare_lines);
	snprintf(tmp, sizeof(tmp), "%s.new", dump_path);
	f = fopen(tmp, "w");
	if (f == NULL)
		die(tmp);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s\n", line[i]);
	fprintf(f,
	    "pings %" PRIu64 "\nrefused spi %" PRIu64 "\nrefused icv %" PRIu64
	    "\nrefused selector %" PRIu64 "\nrefused policy %" PRIu64 "\n",
	    pings, bad_spi, bad_icv, bad_selector, no_policy);
	fclose(f);
	if (rename(tmp, dump_path) != 0)
		die(dump_path);
}

/* ---- the key maker ------------------------------------------------------------------------------ */

static void
tell(struct pk_sadb *m, const void *more, size_t len)
{
	struct iovec iov[] = { { m, sizeof(*m) }, { (void *)(uintptr_t)more, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len > 0 ? 2 : 1 };

	m->h.more = (uint32_t)len;
	if (client >= 0 && sendmsg(client, &msg, MSG_NOSIGNAL) < 0)
		perror("ike_plane: key maker");
}

static struct sa *
find(const struct pk_sadb_id *id)
{
	for (size_t i = 0; i < SAS_MAX; i++)
		if (sas[i].used && sas[i].a.id.spi == id->spi &&
		    pk_addr_compare(&sas[i].a.id.dst, &id->dst) == 0)
			return &sas[i];
	return NULL;
}

static struct sa *
make(void)
{
	for (size_t i = 0; i < SAS_MAX; i++)
		if (!sas[i].used) {
			memset(&sas[i], 0, sizeof(sas[i]));
			sas[i].used = true;
			return &sas[i];
		}
	return NULL;
}

static bool
same_policy(const struct pk_sadb_policy *a, const struct pk_sadb_policy *b)
{
	struct pk_sadb_policy x = *a, y = *b;

	x.spi = y.spi = x.priority = y.priority = 0;
	memset(&x.sa_dst, 0, sizeof(x.sa_dst));
	memset(&y.sa_dst, 0, sizeof(y.sa_dst));
	return memcmp(&x, &y, sizeof(x)) == 0;
}

static int
add_sa(const struct pk_sadb_add_sa *a, struct pk_diag *diag)
{
	enum ipsec_alg alg = ipsec_alg_from_ike(a->encr, a->encr_bits, a->integ, diag);
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);
	struct sa *s = find(&a->id);
	int rc;

	if (info == NULL)
		return -ENOTSUP;
	/* An inbound SPI was given out before; an outbound one is the peer's. */
	if ((a->direction == PK_SADB_IN) != (s != NULL) || (s != NULL && s->installed))
		return a->direction == PK_SADB_IN && s == NULL ? -ENOENT : -EEXIST;
	if (a->encr_key_len != info->encr_len + info->salt_len ||
	    a->integ_key_len != info->integ_len) {
		pk_diag_set(diag, "%s wants keys of %u and %u bytes, not %u and %u", info->name,
		    info->encr_len + info->salt_len, info->integ_len, a->encr_key_len,
		    a->integ_key_len);
		return -EINVAL;
	}
	if (s == NULL)
		s = make();
	if (s == NULL)
		return -ENOSPC;
	s->a = *a;
	s->alg = alg;
	rc = ipsec_key_prepare(
	    s->key, alg, a->encr_key, info->encr_len, a->integ_key, a->integ_key_len, diag);
	if (rc == 0)
		s->installed = true;
	else
		s->used = false;
	return rc;
}

static int
add_policy(const struct pk_sadb_policy *p)
{
	struct pk_sadb_id id = { .dst = p->sa_dst, .spi = p->spi };

	if (p->spi != 0 && find(&id) == NULL)
		return -ENOENT;
	for (size_t i = 0; i < nb_policies; i++)
		if (same_policy(&policies[i], p)) {
			policies[i] = *p;
			return 0;
		}
	if (nb_policies == POLICIES_MAX)
		return -ENOSPC;
	policies[nb_policies++] = *p;
	return 0;
}

static int
del_policy(const struct pk_sadb_policy *p)
{
	for (size_t i = 0; i < nb_policies; i++)
		if (same_policy(&policies[i], p)) {
			policies[i] = policies[--nb_policies];
			return 0;
		}
	return -ENOENT;
}

static int
request(const struct pk_sadb *m, struct pk_sadb_answer *answer, struct pk_diag *diag)
{
	struct sa *s;

	switch (m->h.type) {
	case PK_SADB_GET_SPI:
		s = make();
		if (s == NULL)
			return -ENOSPC;
		s->a.id = m->get_spi.id;
		s->a.direction = PK_SADB_IN;
		s->a.id.spi = answer->spi = next_spi++;
		return 0;
	case PK_SADB_ADD_SA:
		return add_sa(&m->add_sa, diag);
	case PK_SADB_UPDATE_SA:
		s = find(&m->update_sa.id);
		if (s == NULL)
			return -ENOENT;
		s->a.id.src = m->update_sa.src;
		s->a.id.dst = m->update_sa.dst;
		s->a.sport = m->update_sa.sport;
		s->a.dport = m->update_sa.dport;
		s->a.flags = (uint16_t)((s->a.flags & ~PK_SADB_ENCAP) |
		    (m->update_sa.encap ? PK_SADB_ENCAP : 0));
		for (size_t i = 0; i < nb_policies; i++)
			if (policies[i].spi == s->a.id.spi && s->a.direction == PK_SADB_OUT)
				policies[i].sa_dst = s->a.id.dst;
		return 0;
	case PK_SADB_DEL_SA:
		s = find(&m->sa.id);
		if (s == NULL)
			return -ENOENT;
		s->used = false;
		return 0;
	case PK_SADB_QUERY_SA:
		s = find(&m->sa.id);
		if (s == NULL)
			return -ENOENT;
		answer->packets = s->packets;
		answer->bytes = s->bytes;
		answer->seq = s->seq;
		answer->idle_ns = s->last_ns != 0 ? pk_clock_mono_ns() - s->last_ns : UINT64_MAX;
		return 0;
	case PK_SADB_ADD_POLICY:
		return add_policy(&m->policy);
	case PK_SADB_DEL_POLICY:
		return del_policy(&m->policy);
	case PK_SADB_FLUSH:
		if ((m->flush.what & PK_SADB_FLUSH_SAS) != 0)
			for (size_t i = 0; i < SAS_MAX; i++)
				sas[i].used = false;
		if ((m->flush.what & PK_SADB_FLUSH_POLICIES) != 0)
			nb_policies = 0;
		return 0;
	default:
		return -EPROTO;
	}
}

static void
greet(void)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "ike_plane");
	snprintf(m.hello.instance, sizeof(m.hello.instance), "test");
	m.hello.epoch = epoch;
	m.hello.nb_sas_max = SAS_MAX;
	tell(&m, NULL, 0);
	for (size_t i = 0; i < nb_locals; i++) {
		pk_sadb_init(&m, PK_SADB_LOCAL, 0);
		m.local.addr = locals[i];
		m.local.prefix_len = 24;
		m.local.mtu = 1500;
		tell(&m, NULL, 0);
	}
}

static void to_sockaddr(
    const struct pk_addr *a, uint16_t port, struct sockaddr_storage *ss, socklen_t *len);

static void
send_ike(const struct pk_sadb_ike *k, const uint8_t *data, size_t len)
{
	uint8_t packet[4 + PK_SADB_IKE_MAX] = { 0 };
	size_t marker = k->sport == 4500 && len > 1 ? 4 : 0; /* one byte is a keepalive */
	struct sockaddr_storage ss;
	socklen_t ss_len;

	memcpy(packet + marker, data, len);
	to_sockaddr(&k->dst, k->dport, &ss, &ss_len);
	for (size_t i = 0; i < nb_locals; i++)
		if (pk_addr_compare(&locals[i], &k->src) == 0)
			(void)!sendto(udp[i][k->sport == 4500], packet, marker + len, 0,
			    (struct sockaddr *)&ss, ss_len);
}

static void
from_client(void)
{
	struct {
		struct pk_sadb m;
		uint8_t more[PK_SADB_IKE_MAX];
	} in;
	ssize_t n = recv(client, &in, sizeof(in), 0);
	struct pk_sadb answer;
	struct pk_diag diag = { "" };
	int rc;

	if (n <= 0) {
		close(client);
		client = -1;
		return;
	}
	if (pk_sadb_check(&in.m, (size_t)n, &diag) < 0) {
		fprintf(stderr, "ike_plane: %s\n", diag.text);
		exit(1); /* picket-iked may not say such things */
	}
	if (in.m.h.type == PK_SADB_HELLO) {
		greet();
		return;
	}
	if (in.m.h.type == PK_SADB_IKE) {
		send_ike(&in.m.ike, in.more, (size_t)n - sizeof(in.m));
		return;
	}
	nb_requests++;
	pk_sadb_init(&answer, PK_SADB_ANSWER, in.m.h.seq);
	rc = request(&in.m, &answer.answer, &diag);
	answer.answer.error = rc;
	if (rc < 0)
		snprintf(answer.answer.text, sizeof(answer.answer.text), "%.255s",
		    diag.text[0] != '\0' ? diag.text : strerror(-rc));
	tell(&answer, NULL, 0);
	if (in.m.h.type != PK_SADB_QUERY_SA)
		dump();
}

/* ---- UDP ---------------------------------------------------------------------------------------- */

static void
to_sockaddr(const struct pk_addr *a, uint16_t port, struct sockaddr_storage *ss, socklen_t *len)
{
	memset(ss, 0, sizeof(*ss));
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, a->bytes, 4);
		*len = sizeof(*in);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, a->bytes, 16);
		*len = sizeof(*in6);
	}
}

static uint16_t
from_sockaddr(const struct sockaddr_storage *ss, struct pk_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		a->family = 4;
		memcpy(a->bytes, &in->sin_addr, 4);
		return ntohs(in->sin_port);
	}
	a->family = 6;
	memcpy(a->bytes, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
	return ntohs(((const struct sockaddr_in6 *)ss)->sin6_port);
}

static void
add_address(const char *text)
{
	static const uint16_t ports[] = { 500, 4500 };
	struct sockaddr_storage ss;
	struct pk_diag diag;
	socklen_t len;

	if (nb_locals == LOCALS_MAX || pk_addr_parse(&locals[nb_locals], text, &diag) < 0)
		die(text);
	for (size_t i = 0; i < 2; i++) {
		to_sockaddr(&locals[nb_locals], ports[i], &ss, &len);
		udp[nb_locals][i] = socket(ss.ss_family, SOCK_DGRAM, 0);
		if (udp[nb_locals][i] < 0 ||
		    bind(udp[nb_locals][i], (struct sockaddr *)&ss, len) != 0)
			die(text);
	}
	nb_locals++;
}

/* ---- ESP ---------------------------------------------------------------------------------------- */

static uint16_t
checksum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (len % 2 != 0)
		sum += (uint32_t)p[len - 1] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static bool
within(const struct pk_prefix *p, const uint8_t *addr)
{
	struct pk_addr a = { .family = p->addr.family };

	memcpy(a.bytes, addr, a.family == 4 ? 4 : 16);
	return pk_prefix_contains(p, &a) != 0;
}

/* Whether the tunnel has a policy of that direction for an inner packet; the policy, or NULL. */
static const struct pk_sadb_policy *
match(uint32_t reqid, unsigned int direction, const uint8_t *packet)
{
	unsigned int family = packet[0] >> 4, at = family == 4 ? 12 : 8,
	             size = family == 4 ? 4 : 16;

	for (size_t i = 0; i < nb_policies; i++)
		if (policies[i].reqid == reqid && policies[i].direction == direction &&
		    policies[i].src.addr.family == family &&
		    within(&policies[i].src, packet + at) &&
		    within(&policies[i].dst, packet + at + size))
			return &policies[i];
	return NULL;
}

/* RFC 4303 and RFC 3948: seal packet[0 .. len - 1] by `s`, and send it from where IKE comes from. */
static void
protect(struct sa *s, const uint8_t *packet, size_t len, uint8_t next_header)
{
	const struct ipsec_alg_info *info = ipsec_alg_info(s->alg);
	uint8_t out[4096], aad[4096], nonce[16] = { 0 };
	size_t pad, at = 8, body, align = PK_MAX(info->block, 4), aad_len;
	bool esn = (s->a.flags & PK_SADB_ESN) != 0;
	struct sockaddr_storage ss;
	struct ipsec_op op = { .key = s->key, .alg = (uint8_t)s->alg };
	socklen_t ss_len;
	uint32_t word;

	s->seq++;
	word = htonl(s->a.id.spi);
	memcpy(out, &word, 4);
	word = htonl((uint32_t)s->seq);
	memcpy(out + 4, &word, 4);
	for (size_t i = 0; i < info->iv_len; i++)
		out[at + i] = i < 8 && info->kind != IPSEC_KIND_MAC
		    ? (uint8_t)(s->seq >> (56 - 8 * i))
		    : (uint8_t)rand();
	at += info->iv_len;
	memcpy(out + at, packet, len);
	pad = (align - (len + 2) % align) % align;
	for (size_t i = 0; i < pad; i++)
		out[at + len + i] = (uint8_t)(i + 1);
	out[at + len + pad] = (uint8_t)pad;
	out[at + len + pad + 1] = next_header;
	body = len + pad + 2;
	/* What is authenticated: header, and with ESN the upper half of the number, in front (AEAD) or behind (MAC). */
	memcpy(aad, out, 4);
	aad_len = 4;
	if (esn && info->kind != IPSEC_KIND_MAC) {
		word = htonl((uint32_t)(s->seq >> 32));
		memcpy(aad + aad_len, &word, 4);
		aad_len += 4;
	}
	memcpy(aad + aad_len, out + 4, 4);
	aad_len += 4;
	op.data = out + at;
	op.len = (uint32_t)body;
	op.icv = out + at + body;
	if (info->kind == IPSEC_KIND_MAC) {
		op.aad = out;
		op.aad_len = (uint32_t)(at + body);
		op.iv = out + 8;
		if (esn) { /* the engine covers what it is given: the upper half behind the packet, then the ICV over it */
			memset(out + at + body, 0, 4);
			op.aad_len += 4;
			op.icv = out + at + body + 4;
		}
	} else {
		memcpy(nonce, s->a.encr_key + info->encr_len, info->salt_len);
		memcpy(nonce + info->salt_len, out + 8, info->iv_len);
		op.iv = nonce;
		if (info->kind == IPSEC_KIND_GMAC) {
			memcpy(aad + aad_len, out + 8, info->iv_len + body);
			aad_len += info->iv_len + body;
		}
		op.aad = aad;
		op.aad_len = (uint32_t)aad_len;
	}
	ipsec_seal(crypto, &op, 1);
	if (info->kind == IPSEC_KIND_MAC && esn)
		memmove(out + at + body, out + at + body + 4, info->icv_len);
	s->packets++;
	s->bytes += len;
	s->last_ns = pk_clock_mono_ns();
	to_sockaddr(&s->a.id.dst, s->a.dport, &ss, &ss_len);
	for (size_t i = 0; i < nb_locals; i++)
		if (pk_addr_compare(&locals[i], &s->a.id.src) == 0)
			(void)!sendto(udp[i][1], out, at + body + info->icv_len, 0,
			    (struct sockaddr *)&ss, ss_len);
}

/* A packet has come out of a tunnel: answer it if it is a ping. */
static void
deliver(struct sa *in, uint8_t *p, size_t len)
{
	const struct pk_sadb_policy *out;
	struct pk_sadb_id id;
	uint8_t swap[16];
	struct sa *s;
	size_t head, size, at;

	if (match(in->a.reqid, PK_SADB_POLICY_IN, p) == NULL) {
		bad_selector++;
		return;
	}
	if (p[0] >> 4 == 4) {
		head = (size_t)(p[0] & 15) * 4;
		at = 12;
		size = 4;
		if (len < head + 8 || p[9] != IPPROTO_ICMP || p[head] != 8)
			return;
		p[head] = 0;
		p[head + 2] = p[head + 3] = 0;
	} else {
		head = 40;
		at = 8;
		size = 16;
		if (len < head + 8 || p[6] != IPPROTO_ICMPV6 || p[head] != 128)
			return;
		p[head] = 129;
		p[head + 2] = p[head + 3] = 0;
	}
	memcpy(swap, p + at, size);
	memcpy(p + at, p + at + size, size);
	memcpy(p + at + size, swap, size);
	if (size == 4) {
		uint16_t sum = checksum(p + head, len - head, 0);

		p[head + 2] = (uint8_t)(sum >> 8);
		p[head + 3] = (uint8_t)sum;
	} else {
		uint16_t sum = checksum(p + 8, len - 8, (uint32_t)(len - head) + IPPROTO_ICMPV6);

		p[head + 2] = (uint8_t)(sum >> 8);
		p[head + 3] = (uint8_t)sum;
	}
	out = match(in->a.reqid, PK_SADB_POLICY_OUT, p);
	if (out == NULL || out->spi == 0) {
		no_policy++;
		return;
	}
	id = (struct pk_sadb_id){ .dst = out->sa_dst, .spi = out->spi };
	s = find(&id);
	if (s == NULL || !s->installed) {
		no_policy++;
		return;
	}
	protect(s, p, len, size == 4 ? IPPROTO_IPIP : IPPROTO_IPV6);
	pings++;
}

static void
expire(const struct sa *s, bool hard, unsigned int what)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_EXPIRE, 0);
	m.expire.id = s->a.id;
	m.expire.reqid = s->a.reqid;
	m.expire.direction = s->a.direction;
	m.expire.hard = hard;
	m.expire.what = (uint8_t)what;
	tell(&m, NULL, 0);
}

static void
check_life(struct sa *s)
{
	const struct pk_sadb_life *l = &s->a.life;

	if (!s->said_soft && l->soft_packets != 0 && s->packets >= l->soft_packets) {
		s->said_soft = true;
		expire(s, false, PK_SADB_EXPIRE_PACKETS);
	}
	if (!s->said_hard && l->hard_packets != 0 && s->packets >= l->hard_packets) {
		s->said_hard = true;
		expire(s, true, PK_SADB_EXPIRE_PACKETS);
	}
}

static void
from_esp(
    const struct pk_addr *local, const struct pk_addr *peer, uint16_t port, uint8_t *p, size_t len)
{
	uint8_t aad[4096], nonce[16] = { 0 }, tail[64];
	const struct ipsec_alg_info *info;
	struct pk_sadb_id id = { .dst = *local };
	struct ipsec_op op;
	size_t at, body, aad_len = 0;
	bool esn;
	struct sa *s;
	uint32_t word;

	memcpy(&word, p, 4);
	id.spi = ntohl(word);
	s = find(&id);
	if (s == NULL || !s->installed) {
		bad_spi++;
		return;
	}
	info = ipsec_alg_info(s->alg);
	esn = (s->a.flags & PK_SADB_ESN) != 0;
	at = 8u + info->iv_len;
	if (len < at + info->icv_len + 2)
		return;
	body = len - at - info->icv_len;
	memcpy(aad, p, 4);
	aad_len = 4;
	if (esn && info->kind != IPSEC_KIND_MAC) { /* the tests do not send 2^32 packets */
		memset(aad + aad_len, 0, 4);
		aad_len += 4;
	}
	memcpy(aad + aad_len, p + 4, 4);
	aad_len += 4;
	op = (struct ipsec_op){
		.key = s->key, .alg = (uint8_t)s->alg, .data = p + at, .len = (uint32_t)body
	};
	if (info->kind == IPSEC_KIND_MAC) {
		op.aad = p;
		op.aad_len = (uint32_t)(at + body);
		op.iv = p + 8;
		memcpy(tail, p + at + body, info->icv_len);
		if (esn) {
			memset(p + at + body, 0, 4);
			op.aad_len += 4;
		}
		op.icv = tail;
	} else {
		memcpy(nonce, s->a.encr_key + info->encr_len, info->salt_len);
		memcpy(nonce + info->salt_len, p + 8, info->iv_len);
		op.iv = nonce;
		op.icv = p + at + body;
		if (info->kind == IPSEC_KIND_GMAC) {
			memcpy(aad + aad_len, p + 8, info->iv_len + body);
			aad_len += info->iv_len + body;
		}
		op.aad = aad;
		op.aad_len = (uint32_t)aad_len;
	}
	ipsec_open(crypto, &op, 1);
	if (!op.ok) {
		bad_icv++;
		dump();
		return;
	}
	s->packets++;
	s->last_ns = pk_clock_mono_ns();
	memcpy(&word, p + 4, 4);
	s->seq = ntohl(word);
	if (pk_addr_compare(peer, &s->a.id.src) != 0 || port != s->a.sport) {
		struct pk_sadb m;

		pk_sadb_init(&m, PK_SADB_MAPPING, 0);
		m.mapping.id = s->a.id;
		m.mapping.reqid = s->a.reqid;
		m.mapping.src = *peer;
		m.mapping.sport = port;
		tell(&m, NULL, 0);
	}
	if (p[at + body - 2] + 2u <= body) {
		body -= 2u + p[at + body - 2];
		s->bytes += body;
		check_life(s);
		if (!s->said_hard && body >= 20)
			deliver(s, p + at, body);
		dump();
	}
}

static void
from_udp(size_t i, unsigned int natt)
{
	uint8_t p[PK_SADB_IKE_MAX + 4];
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	ssize_t n = recvfrom(udp[i][natt], p, sizeof(p), 0, (struct sockaddr *)&ss, &ss_len);
	static const uint8_t marker[4];
	struct pk_addr peer;
	struct pk_sadb m;
	uint16_t port;

	if (n <= 4)
		return; /* a keepalive */
	port = from_sockaddr(&ss, &peer);
	if (natt && memcmp(p, marker, 4) != 0) {
		from_esp(&locals[i], &peer, port, p, (size_t)n);
		return;
	}
	pk_sadb_init(&m, PK_SADB_IKE, 0);
	m.ike.src = peer;
	m.ike.dst = locals[i];
	m.ike.sport = port;
	m.ike.dport = natt ? 4500 : 500;
	tell(&m, p + 4 * natt, (size_t)n - 4 * natt);
	last_ike_len = (size_t)n - 4 * natt;
	memcpy(last_ike, p + 4 * natt, last_ike_len);
}

/* ---- what a data plane that has been taken over might say ------------------------------------------ */

static struct pk_addr
any_addr(void)
{
	struct pk_addr a = { .family = 4 };

	switch (rand() % 4) {
	case 0:
		return locals[(size_t)rand() % nb_locals];
	case 1:
		memcpy(a.bytes, (const uint8_t[]){ 192, 0, 2, 1 }, 4);
		return a;
	case 2:
		a.family = 6;
		for (unsigned int i = 0; i < 16; i++)
			a.bytes[i] = (uint8_t)rand();
		return a;
	default:
		for (unsigned int i = 0; i < 4; i++)
			a.bytes[i] = (uint8_t)rand();
		return a;
	}
}

static struct pk_sadb_id
any_id(void)
{
	struct pk_sadb_id id = { .src = any_addr(), .dst = any_addr(), .spi = (uint32_t)rand() };
	const struct sa *s = &sas[rand() % 16];

	return rand() % 2 != 0 && s->used ? s->a.id : id;
}

/* Messages that are well-formed and mean nothing, and IKE packets that are nearly those of the peer. */
static void
fuzz(unsigned int seed, unsigned int n)
{
	static const uint16_t types[] = { PK_SADB_ANSWER, PK_SADB_ACQUIRE, PK_SADB_EXPIRE,
		PK_SADB_MAPPING, PK_SADB_BAD_SPI, PK_SADB_IKE };
	uint8_t ike[PK_SADB_IKE_MAX];
	struct pk_diag diag;
	struct pk_sadb m;

	srand(seed);
	for (unsigned int i = 0; i < n; i++) {
		size_t len = 0;

		pk_sadb_init(&m, types[(size_t)rand() % PK_COUNT(types)], (uint32_t)rand() % 100);
		switch (m.h.type) {
		case PK_SADB_ANSWER:
			m.answer.error = -(rand() % 200);
			m.answer.spi = (uint32_t)rand();
			m.answer.idle_ns = (uint64_t)rand() << 33;
			break;
		case PK_SADB_ACQUIRE:
			m.h.seq = 0;
			m.acquire.reqid = (uint32_t)rand() % 4;
			m.acquire.proto = (uint8_t)rand();
			m.acquire.src = any_addr();
			m.acquire.dst = any_addr();
			m.acquire.sport = (uint16_t)rand();
			m.acquire.dport = (uint16_t)rand();
			break;
		case PK_SADB_EXPIRE:
			m.expire.id = any_id();
			m.expire.hard = rand() % 20 == 0;
			m.expire.what = (uint8_t)(rand() % 5);
			break;
		case PK_SADB_MAPPING:
			m.mapping.id = any_id();
			m.mapping.src = any_addr();
			m.mapping.sport = (uint16_t)rand();
			break;
		case PK_SADB_BAD_SPI:
			m.bad_spi.id = any_id();
			break;
		default:
			m.ike.src = any_addr();
			m.ike.dst = any_addr();
			m.ike.sport = rand() % 2 != 0 ? 4500 : (uint16_t)rand();
			m.ike.dport = rand() % 2 != 0 ? 4500 : 500;
			m.h.seq = 0;
			len = last_ike_len != 0 && rand() % 2 != 0 ? last_ike_len
			                                           : 1 + (size_t)rand() % 600;
			for (size_t k = 0; k < len; k++)
				ike[k] = len == last_ike_len ? last_ike[k] : (uint8_t)rand();
			for (unsigned int k = (unsigned int)rand() % 8; k > 0; k--)
				ike[(size_t)rand() % len] = (uint8_t)rand();
		}
		m.h.more = (uint32_t)len;
		if (pk_sadb_check(&m, sizeof(m) + len, &diag) == 0)
			tell(&m, ike, len);
	}
}

/* ---- the test's own words ----------------------------------------------------------------------- */

static void
command(char *line)
{
	char *word[5] = { NULL };
	struct pk_diag diag;
	struct pk_sadb m;

	for (unsigned int i = 0; i < PK_COUNT(word); i++)
		word[i] = strtok(i == 0 ? line : NULL, " \n");
	if (word[0] == NULL)
		return;
	if (strcmp(word[0], "expire") == 0 && word[2] != NULL) {
		uint32_t spi = (uint32_t)strtoul(word[2], NULL, 16);

		for (size_t i = 0; i < SAS_MAX; i++)
			if (sas[i].used && sas[i].installed && sas[i].a.id.spi == spi)
				expire(&sas[i], strcmp(word[1], "hard") == 0, PK_SADB_EXPIRE_BYTES);
	} else if (strcmp(word[0], "acquire") == 0 && word[3] != NULL) {
		pk_sadb_init(&m, PK_SADB_ACQUIRE, 0);
		m.acquire.reqid = (uint32_t)atoi(word[1]);
		m.acquire.proto = IPPROTO_ICMP;
		if (pk_addr_parse(&m.acquire.src, word[2], &diag) == 0 &&
		    pk_addr_parse(&m.acquire.dst, word[3], &diag) == 0)
			tell(&m, NULL, 0);
	} else if (strcmp(word[0], "address") == 0 && word[1] != NULL) {
		add_address(word[1]);
		pk_sadb_init(&m, PK_SADB_LOCAL, 0);
		m.local.addr = locals[nb_locals - 1];
		m.local.prefix_len = 24;
		m.local.mtu = 1500;
		tell(&m, NULL, 0);
	} else if (strcmp(word[0], "restart") == 0) {
		memset(sas, 0, sizeof(sas));
		nb_policies = 0;
		epoch++;
		next_spi += 0x1000;
		close(client);
		client = -1;
		dump();
	} else if (strcmp(word[0], "fuzz") == 0 && word[2] != NULL) {
		fuzz((unsigned int)atoi(word[1]), (unsigned int)atoi(word[2]));
	} else if (strcmp(word[0], "junk") == 0) {
		pk_sadb_init(&m, PK_SADB_EXPIRE, 0);
		memset(m.raw, 0xa5, sizeof(m.raw));
		tell(&m, NULL, 0);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct pollfd pfd[3 + 2 * LOCALS_MAX];
	struct pk_diag diag;
	char line[256];
	int listener;

	if (argc < 4 || strlen(argv[1]) >= sizeof(un.sun_path)) {
		fprintf(stderr, "usage: ike_plane SOCKET DUMP ADDRESS...\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() must know of every line */
	dump_path = argv[2];
	for (int i = 3; i < argc; i++)
		add_address(argv[i]);
	if (ipsec_crypto_create(&crypto, &diag) < 0) {
		fprintf(stderr, "ike_plane: %s\n", diag.text);
		return 1;
	}
	if (getrandom(&epoch, sizeof(epoch), 0) != sizeof(epoch))
		die("getrandom");
	memcpy(un.sun_path, argv[1], strlen(argv[1]));
	unlink(un.sun_path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&un, sizeof(un)) != 0 ||
	    listen(listener, 4) != 0)
		die(argv[1]);
	dump();
	for (;;) {
		nfds_t n = 3;

		pfd[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = client, .events = POLLIN };
		pfd[2] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
		for (size_t i = 0; i < nb_locals; i++)
			for (unsigned int natt = 0; natt < 2; natt++)
				pfd[n++] = (struct pollfd){ .fd = udp[i][natt], .events = POLLIN };
		if (poll(pfd, n, -1) < 0 && errno != EINTR)
			die("poll");
		if ((pfd[1].revents & (POLLIN | POLLHUP)) != 0)
			from_client();
		if ((pfd[0].revents & POLLIN) != 0) {
			if (client >= 0)
				close(client);
			client = accept(listener, NULL, NULL);
		}
		for (nfds_t i = 3; i < n; i++)
			if ((pfd[i].revents & POLLIN) != 0)
				from_udp((i - 3) / 2, (i - 3) % 2);
		if ((pfd[2].revents & (POLLIN | POLLHUP)) != 0) {
			if (fgets(line, sizeof(line), stdin) == NULL)
				return 0;
			command(line);
		}
	}
}
