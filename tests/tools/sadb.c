/*
 * A key maker by hand: requests of lib/sadb.h from lines on standard input, answers and events on standard output.
 *
 *   sadb SOCKET
 *
 *   add-sa dir=in|out mode=tunnel|transport spi=N reqid=N src=A dst=A encr=N bits=N integ=N key=HEX integ-key=HEX
 *          window=N flags=N sport=N dport=N wire=N vlan=N soft-packets=N hard-packets=N hard-ns=N tfc=N df=N
 *   get-spi src=A dst=A reqid=N
 *   del-sa | query-sa  spi=N src=A dst=A
 *   add-policy | del-policy  dir=in|out mode=... reqid=N src=P dst=P spi=N sa-dst=A proto=N
 *   flush
 *   wait MILLISECONDS         print events until then
 */
#include "lib/sadb.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"

static int fd;
static uint32_t seq;

static void
die(const char *what)
{
	fprintf(stderr, "sadb: %s\n", what);
	exit(1);
}

static const char *
value(const char *line, const char *name, char out[256])
{
	char want[32];
	const char *at;

	snprintf(want, sizeof(want), " %s=", name);
	at = strstr(line, want);
	out[0] = '\0';
	if (at != NULL)
		sscanf(at + strlen(want), "%255s", out);
	return at != NULL ? out : NULL;
}

static uint64_t
number(const char *line, const char *name)
{
	char text[256];

	return value(line, name, text) != NULL ? strtoull(text, NULL, 0) : 0;
}

static struct pk_addr
address(const char *line, const char *name)
{
	struct pk_addr a = { 0 };
	struct pk_diag diag;
	char text[256];

	if (value(line, name, text) != NULL && pk_addr_parse(&a, text, &diag) < 0)
		die(diag.text);
	return a;
}

static struct pk_prefix
prefix(const char *line, const char *name)
{
	struct pk_prefix p = { 0 };
	struct pk_diag diag;
	char text[256];

	if (value(line, name, text) == NULL || pk_prefix_parse(&p, text, &diag) < 0)
		die(name);
	return p;
}

static uint8_t
hex(const char *line, const char *name, uint8_t *out)
{
	char text[256];
	uint8_t n = 0;
	unsigned int byte;

	if (value(line, name, text) == NULL)
		return 0;
	for (; n < PK_SADB_KEY_MAX && sscanf(text + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

static bool
is(const char *line, const char *name, const char *what)
{
	char text[256];

	return value(line, name, text) != NULL && strcmp(text, what) == 0;
}

static void
print(const struct pk_sadb *m)
{
	char a[PK_ADDR_TEXT], b[PK_ADDR_TEXT];

	switch (m->h.type) {
	case PK_SADB_ANSWER:
		if (m->answer.error != 0)
			printf("refused %s: %s\n", strerror(-m->answer.error), m->answer.text);
		else
			printf("ok spi=0x%08x packets=%" PRIu64 " bytes=%" PRIu64 " seq=%" PRIu64
			       "\n",
			    m->answer.spi, m->answer.packets, m->answer.bytes, m->answer.seq);
		break;
	case PK_SADB_HELLO:
		printf("hello %s %s sas=%u\n", m->hello.program, m->hello.instance,
		    m->hello.nb_sas_max);
		break;
	case PK_SADB_LOCAL:
		printf("local %s/%u wire=%u\n", pk_addr_text(&m->local.addr, a),
		    m->local.prefix_len, m->local.wire);
		break;
	case PK_SADB_ACQUIRE:
		printf("acquire %s -> %s proto=%u dport=%u reqid=%u\n",
		    pk_addr_text(&m->acquire.src, a), pk_addr_text(&m->acquire.dst, b),
		    m->acquire.proto, m->acquire.dport, m->acquire.reqid);
		break;
	case PK_SADB_EXPIRE:
		printf("expire spi=0x%08x %s %s\n", m->expire.id.spi,
		    m->expire.hard ? "hard" : "soft", pk_sadb_expire_name(m->expire.what));
		break;
	case PK_SADB_IKE:
		printf("ike %s:%u -> %s:%u bytes=%u\n", pk_addr_text(&m->ike.src, a), m->ike.sport,
		    pk_addr_text(&m->ike.dst, b), m->ike.dport, m->h.more);
		break;
	default:
		printf("%s\n", pk_sadb_type_name(m->h.type));
	}
	fflush(stdout);
}

/* Until `type` has come, or `ms` have passed; everything is printed. */
static void
listen_for(unsigned int type, int ms)
{
	static struct {
		struct pk_sadb m;
		uint8_t more[PK_SADB_IKE_MAX];
	} in;
	uint64_t end = pk_clock_mono_ns() + (uint64_t)ms * PK_NS_PER_MS, now;
	struct pk_diag diag;

	while ((now = pk_clock_mono_ns()) < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, (int)((end - now) / PK_NS_PER_MS) + 1) <= 0)
			continue;
		n = recv(fd, &in, sizeof(in), 0);
		if (n <= 0)
			die("picketd has gone");
		if (pk_sadb_check(&in.m, (size_t)n, &diag) < 0)
			die(diag.text);
		print(&in.m);
		if (in.m.h.type == type)
			return;
	}
	if (type != 0)
		die("no answer");
}

static void
ask(struct pk_sadb *m)
{
	if (send(fd, m, sizeof(*m), 0) != (ssize_t)sizeof(*m))
		die("picketd does not listen");
	listen_for(PK_SADB_ANSWER, 5000);
}

static struct pk_sadb_id
id_of(const char *line)
{
	return (struct pk_sadb_id){ .src = address(line, "src"),
		.dst = address(line, "dst"),
		.spi = (uint32_t)number(line, "spi") };
}

static void
add_sa(const char *line)
{
	struct pk_sadb m;
	struct pk_sadb_add_sa *a = &m.add_sa;

	pk_sadb_init(&m, PK_SADB_ADD_SA, ++seq);
	a->id = id_of(line);
	a->reqid = (uint32_t)number(line, "reqid");
	a->direction = is(line, "dir", "in") ? PK_SADB_IN : PK_SADB_OUT;
	a->mode = is(line, "mode", "transport") ? PK_SADB_TRANSPORT : PK_SADB_TUNNEL;
	a->df = (uint8_t)number(line, "df");
	a->flags = (uint16_t)(number(line, "flags") | PK_SADB_MANUAL);
	a->encr = (uint16_t)number(line, "encr");
	a->encr_bits = (uint16_t)number(line, "bits");
	a->integ = (uint16_t)number(line, "integ");
	a->replay_window = (uint32_t)number(line, "window");
	a->sport = (uint16_t)number(line, "sport");
	a->dport = (uint16_t)number(line, "dport");
	a->tfc = (uint16_t)number(line, "tfc");
	a->wire = (uint16_t)number(line, "wire");
	a->vrf = (uint32_t)number(line, "vlan");
	a->encr_key_len = hex(line, "key", a->encr_key);
	a->integ_key_len = hex(line, "integ-key", a->integ_key);
	a->life.soft_packets = number(line, "soft-packets");
	a->life.hard_packets = number(line, "hard-packets");
	a->life.hard_ns = number(line, "hard-ns");
	ask(&m);
}

static void
policy(const char *line, enum pk_sadb_type type)
{
	struct pk_sadb m;
	struct pk_sadb_policy *p = &m.policy;

	pk_sadb_init(&m, type, ++seq);
	p->direction = is(line, "dir", "in") ? PK_SADB_POLICY_IN : PK_SADB_POLICY_OUT;
	p->mode = is(line, "mode", "transport") ? PK_SADB_TRANSPORT : PK_SADB_TUNNEL;
	p->reqid = (uint32_t)number(line, "reqid");
	p->proto = (uint8_t)number(line, "proto");
	p->src = prefix(line, "src");
	p->dst = prefix(line, "dst");
	p->sport_high = p->dport_high = UINT16_MAX;
	p->vrf = (uint32_t)number(line, "vlan");
	p->spi = (uint32_t)number(line, "spi");
	p->sa_dst = address(line, "sa-dst");
	ask(&m);
}

int
main(int argc, char **argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char line[4096], word[32];
	struct pk_sadb m;

	if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path))
		die("usage: sadb SOCKET");
	strcpy(addr.sun_path, argv[1]);
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(strerror(errno));
	pk_sadb_init(&m, PK_SADB_HELLO, 0);
	strcpy(m.hello.program, "sadb");
	if (send(fd, &m, sizeof(m), 0) < 0)
		die(strerror(errno));
	listen_for(PK_SADB_HELLO, 5000);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (sscanf(line, "%31s", word) != 1 || word[0] == '#')
			continue;
		if (strcmp(word, "add-sa") == 0) {
			add_sa(line);
		} else if (strcmp(word, "add-policy") == 0) {
			policy(line, PK_SADB_ADD_POLICY);
		} else if (strcmp(word, "del-policy") == 0) {
			policy(line, PK_SADB_DEL_POLICY);
		} else if (strcmp(word, "get-spi") == 0) {
			pk_sadb_init(&m, PK_SADB_GET_SPI, ++seq);
			m.get_spi.id = id_of(line);
			m.get_spi.reqid = (uint32_t)number(line, "reqid");
			ask(&m);
		} else if (strcmp(word, "del-sa") == 0 || strcmp(word, "query-sa") == 0) {
			pk_sadb_init(&m, word[0] == 'd' ? PK_SADB_DEL_SA : PK_SADB_QUERY_SA, ++seq);
			m.sa.id = id_of(line);
			ask(&m);
		} else if (strcmp(word, "flush") == 0) {
			pk_sadb_init(&m, PK_SADB_FLUSH, ++seq);
			m.flush.what = PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES;
			ask(&m);
		} else if (strcmp(word, "wait") == 0) {
			listen_for(0, atoi(line + 5));
		} else {
			die(word);
		}
	}
	return 0;
}
