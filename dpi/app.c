#include "dpi/app.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/proto.h"

#define WORDS          (DPI_PROTO_MAX / 64)
#define RESTARTS_MAX   6 /* of a session whose beginning was not seen */
#define RESTARTS_UDP   3
#define PAST_PER_BLOCK (DPI_BLOCK / DPI_PAST_ROOM)

struct dpi {
	struct dpi_limits limits;
	struct dpi_pool pool;
	struct dpi_crypt *crypt;
	const struct dpi_proto *proto[DPI_PROTO_MAX];
	unsigned int nb_protos;
	/* Who may begin with this byte: [transport][client or server][byte]. */
	uint64_t may[2][2][256][WORDS];
	uint8_t room[3][DPI_STREAM_MAX]; /* both directions, and a parser's */
	struct dpi_past past[DPI_PAST];
};

static const uint8_t nothing[1];

int
dpi_create(struct dpi **out, void *blocks, size_t len, const struct dpi_limits *limits)
{
	static const struct dpi_family *const families[] = {
#define ROW(name) &dpi_family_##name,
		DPI_FAMILIES(ROW)
#undef ROW
	};
	struct dpi *d;
	int rc;

	if (limits->bytes > DPI_STREAM_MAX || limits->bytes == 0 || limits->packets == 0)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return -ENOMEM;
	d->limits = *limits;
	rc = dpi_pool_init(&d->pool, blocks, len);
	if (rc == 0)
		rc = dpi_crypt_create(&d->crypt);
	if (rc < 0) {
		free(d);
		return rc;
	}
	for (size_t f = 0; f < PK_COUNT(families); f++)
		for (unsigned int i = 0; i < families[f]->nb; i++) {
			PK_ASSERT(d->nb_protos < DPI_PROTO_MAX);
			d->proto[d->nb_protos++] = &families[f]->proto[i];
		}
	for (unsigned int i = 0; i < d->nb_protos; i++) {
		const struct dpi_proto *p = d->proto[i];

		for (int role = 0; role < 2; role++) {
			const char *r = p->first[role].ranges;

			for (int n = 0; n < p->first[role].nb; n += 2)
				for (int b = (uint8_t)r[n]; b <= (uint8_t)r[n + 1]; b++)
					d->may[p->transport][role][b][i / 64] |= 1ULL << i % 64;
			if (p->first[role].nb == 0)
				for (int b = 0; b < 256; b++)
					d->may[p->transport][role][b][i / 64] |= 1ULL << i % 64;
		}
	}
	*out = d;
	return 0;
}

void
dpi_destroy(struct dpi *d)
{
	if (d == NULL)
		return;
	dpi_crypt_destroy(d->crypt);
	free(d);
}

size_t
dpi_bytes_used(const struct dpi *d)
{
	return (size_t)(d->pool.nb - 1 - d->pool.nb_free) * DPI_BLOCK;
}

/* ---- what a parser may ask for ---- */

uint8_t *
dpi_room(struct dpi_view *v)
{
	return v->d->room[2];
}

struct dpi_crypt *
dpi_crypt_of(struct dpi_view *v)
{
	return v->d->crypt;
}

struct dpi_pool *
dpi_pool_of(struct dpi_view *v)
{
	return &v->d->pool;
}

bool
dpi_said(const struct dpi_view *v, enum dpi_field field)
{
	return (v->f->emitted >> field & 1) != 0;
}

void
dpi_say(struct dpi_view *v, enum dpi_field field, int side, const void *bytes, size_t len)
{
	const struct dpi_bytes *b = side >= 0 ? &v->side[side] : NULL;
	unsigned int dir = v->dir;

	if (dpi_said(v, field) || (field != DPI_FIELD_DNS_ANSWER && (v->emitted >> field & 1) != 0))
		return;
	v->emitted |= 1U << field;
	if (v->sink == NULL)
		return;
	if (v->f->transport == DPI_TCP && side == 1)
		dir = !dir;
	v->sink->field(v->sink->arg, field, dir,
	    b != NULL ? (uint32_t)((const uint8_t *)bytes - b->at) : UINT32_MAX, bytes,
	    (uint32_t)len);
}

/* ---- a session ---- */

static void
all_live(const struct dpi *d, struct dpi_flow *f)
{
	memset(f->live, 0, sizeof(f->live));
	for (unsigned int i = 0; i < d->nb_protos; i++)
		if (d->proto[i]->transport == f->transport) {
			f->live[0][i / 64] |= 1ULL << i % 64;
			if (f->transport == DPI_TCP && !f->roles_known)
				f->live[1][i / 64] |= 1ULL << i % 64;
		}
}

static bool
any_live(const struct dpi_flow *f)
{
	uint64_t any = 0;

	for (int w = 0; w < WORDS; w++)
		any |= f->live[0][w] | f->live[1][w];
	return any != 0;
}

void
dpi_flow_init(struct dpi_flow *f, enum dpi_transport transport, const uint16_t port[2])
{
	memset(f, 0, sizeof(*f));
	f->transport = (uint8_t)transport;
	f->port[0] = port[0];
	f->port[1] = port[1];
}

void
dpi_flow_fini(struct dpi *d, struct dpi_flow *f)
{
	if (f->transport == DPI_TCP) {
		for (int i = 0; i < 2; i++) {
			bool started = f->stream[i].started;
			uint32_t base = f->stream[i].base;

			dpi_stream_fini(&f->stream[i], &d->pool);
			f->stream[i].started = started;
			f->stream[i].base = base;
		}
		return;
	}
	dpi_stream_fini(&f->udp.crypto, &d->pool);
	/* The list of datagrams borrows its blocks the way a stream does. */
	for (unsigned int i = 0; i < f->udp.past_blocks; i++) {
		memcpy(d->pool.memory + (size_t)f->udp.past[i] * DPI_BLOCK, &d->pool.head,
		    sizeof(uint32_t));
		d->pool.head = f->udp.past[i];
		d->pool.nb_free++;
	}
	f->udp.past_blocks = f->udp.nb_past = 0;
}

static void
decide(struct dpi *d, struct dpi_flow *f, enum dpi_verdict verdict)
{
	f->verdict = (uint8_t)verdict;
	if (verdict == DPI_IDENTIFIED || verdict == DPI_UNKNOWN)
		dpi_flow_fini(d, f);
}

/* Client and server as orientation `o` has them. */
static void
orient(struct dpi_view *v, const struct dpi_view *plain, int o)
{
	*v = *plain;
	if (o == 0)
		return;
	v->side[0] = plain->side[1];
	v->side[1] = plain->side[0];
	v->end[0] = plain->end[1];
	v->end[1] = plain->end[0];
	v->port[0] = plain->port[1];
	v->port[1] = plain->port[0];
	v->dir = 1;
}

static void
describe(struct dpi *d, struct dpi_flow *f, struct dpi_view *v, const struct dpi_sink *sink)
{
	const struct dpi_proto *p = d->proto[f->proto];
	bool all = true;

	v->app = f->app;
	v->sink = sink;
	v->emitted = 0;
	if (p->describe != NULL)
		all = p->describe(v);
	f->emitted |= v->emitted;
	decide(d, f, all || v->last ? DPI_IDENTIFIED : DPI_DESCRIBING);
}

/* Put the view before every candidate. */
static void
judge(struct dpi *d, struct dpi_flow *f, const struct dpi_view *plain, const struct dpi_sink *sink)
{
	struct {
		int proto, o;
		uint8_t app;
	} best = { -1, 0, 0 };
	enum dpi_match how = DPI_NO;
	struct dpi_view v;

	if (f->verdict == DPI_DESCRIBING) {
		orient(&v, plain, f->swapped);
		describe(d, f, &v, sink);
		return;
	}
	for (int o = 0; o < 2 && how != DPI_MATCH; o++) {
		orient(&v, plain, o);
		for (int w = 0; w < WORDS && how != DPI_MATCH; w++) {
			uint64_t bits = f->live[o][w];

			if (v.side[0].len > 0)
				bits &= d->may[f->transport][0][v.side[0].at[0]][w];
			if (v.side[1].len > 0)
				bits &= d->may[f->transport][1][v.side[1].at[0]][w];
			f->live[o][w] = bits;
			for (; bits != 0; bits &= bits - 1) {
				int bit = __builtin_ctzll(bits), i = w * 64 + bit;
				enum dpi_match m;

				v.app = (uint8_t)d->proto[i]->app;
				m = d->proto[i]->parse(&v);
				if (m == DPI_NO)
					f->live[o][w] &= ~(1ULL << bit);
				if (m < DPI_LIKELY || m <= how)
					continue;
				how = m;
				best.proto = i;
				best.o = o;
				best.app = v.app;
				if (m == DPI_MATCH)
					break;
			}
		}
	}
	if (how == DPI_MATCH || (how == DPI_LIKELY && plain->last)) {
		f->app = best.app;
		f->confidence = how == DPI_MATCH ? DPI_CERTAIN : DPI_LIKELY_SURE;
		f->proto = (uint8_t)best.proto;
		f->swapped = (uint8_t)best.o;
		f->needed = f->packets;
		orient(&v, plain, best.o);
		describe(d, f, &v, sink);
	} else if (plain->last) {
		decide(d, f, DPI_UNKNOWN);
	} else {
		f->likely = best.app;
		f->proto = (uint8_t)PK_MAX(best.proto, 0);
	}
}

/* Every candidate is out.  Of a session that was joined in the middle, the next packet may begin a
 * message; else the session is none of ours. */
static void
none_left(struct dpi *d, struct dpi_flow *f)
{
	bool tcp = f->transport == DPI_TCP;

	if (f->restarts >= (tcp ? RESTARTS_MAX : RESTARTS_UDP) || (tcp && f->roles_known)) {
		decide(d, f, DPI_UNKNOWN);
		return;
	}
	f->restarts++;
	dpi_flow_fini(d, f);
	if (tcp)
		for (int i = 0; i < 2; i++) {
			dpi_stream_init(&f->stream[i], d->limits.bytes);
			f->stream[i].started = false;
		}
	else
		dpi_stream_init(&f->udp.crypto, d->limits.bytes);
	all_live(d, f);
}

static void
begin(struct dpi *d, struct dpi_flow *f, bool roles_known)
{
	f->roles_known = roles_known;
	all_live(d, f);
	if (f->transport == DPI_UDP) {
		dpi_stream_init(&f->udp.crypto, d->limits.bytes);
		return;
	}
	dpi_stream_init(&f->stream[0], d->limits.bytes);
	dpi_stream_init(&f->stream[1], d->limits.bytes);
}

static void
tcp_view(struct dpi *d, struct dpi_flow *f, struct dpi_view *v)
{
	*v = (struct dpi_view){ .d = d, .f = f, .midstream = !f->roles_known };
	for (int i = 0; i < 2; i++) {
		const struct dpi_stream *s = &f->stream[i];

		v->side[i].at = dpi_stream_bytes(s, &d->pool, d->room[i]);
		v->side[i].len = s->len;
		v->end[i] = (f->ended >> i & 1) != 0 || s->len >= d->limits.bytes;
		v->port[i] = f->port[i];
	}
	v->last = v->end[0] && v->end[1];
}

static enum dpi_verdict
feed_tcp(struct dpi *d, struct dpi_flow *f, const struct dpi_packet *p, const struct dpi_sink *sink)
{
	struct dpi_stream *s = &f->stream[p->dir];
	uint32_t seq = p->seq + p->syn;
	struct dpi_view v;
	unsigned int fate;
	bool whole;

	if (p->syn && !f->roles_known && f->packets == 0)
		begin(d, f, true);
	if (!s->started) {
		if (!p->syn && p->len == 0)
			return f->verdict;
		dpi_stream_start(s, seq);
	}
	if (p->len == 0) {
		if (p->fin && seq == s->base + s->len)
			f->ended |= (uint8_t)(1 << p->dir);
		return f->verdict;
	}
	f->packets += f->packets < UINT16_MAX;
	/* The first segment is read where it lies; most sessions are known by it. */
	whole = s->len == 0 && s->nb_ranges == 0 && seq == s->base && p->len <= s->limit;
	if (!whole) {
		fate = dpi_stream_add(s, &d->pool, seq, p->bytes, p->len);
		if ((fate & DPI_SEG_CONFLICT) != 0)
			return DPI_CONFLICT;
		if ((fate & DPI_SEG_FULL) != 0) {
			decide(d, f, f->verdict == DPI_DESCRIBING ? DPI_IDENTIFIED : DPI_UNKNOWN);
			return f->verdict;
		}
	}
	if (p->fin && p->seq + p->syn + p->len == s->base + s->len + (whole ? p->len : 0))
		f->ended |= (uint8_t)(1 << p->dir);
	tcp_view(d, f, &v);
	if (whole)
		v.side[p->dir] = (struct dpi_bytes){ p->bytes, p->len };
	v.last = v.last || f->packets >= d->limits.packets;
	judge(d, f, &v, sink);
	if (f->verdict != DPI_PENDING && f->verdict != DPI_DESCRIBING)
		return f->verdict;
	if (f->verdict == DPI_PENDING && !any_live(f)) {
		none_left(d, f);
		return f->verdict;
	}
	if (whole && (dpi_stream_add(s, &d->pool, seq, p->bytes, p->len) & DPI_SEG_FULL) != 0)
		decide(d, f, f->verdict == DPI_DESCRIBING ? DPI_IDENTIFIED : DPI_UNKNOWN);
	return f->verdict;
}

/* Write the head of a datagram down; with no block left, or no room, it is forgotten. */
static void
remember(struct dpi *d, struct dpi_flow *f, const struct dpi_packet *p)
{
	unsigned int n = f->udp.nb_past, b = n / PAST_PER_BLOCK;
	struct dpi_past *past;

	if (n == DPI_PAST)
		return;
	if (b == f->udp.past_blocks) {
		uint32_t i = d->pool.head;

		if (i == 0) {
			d->pool.refused++;
			return;
		}
		memcpy(&d->pool.head, d->pool.memory + (size_t)i * DPI_BLOCK, sizeof(uint32_t));
		d->pool.nb_free--;
		f->udp.past[f->udp.past_blocks++] = i;
	}
	past = (struct dpi_past *)(d->pool.memory + (size_t)f->udp.past[b] * DPI_BLOCK) +
	    n % PAST_PER_BLOCK;
	past->len = p->len;
	past->dir = p->dir;
	past->kept = (uint8_t)PK_MIN(p->len, DPI_PAST_HEAD);
	memcpy(past->head, p->bytes, past->kept);
	f->udp.nb_past++;
}

static enum dpi_verdict
feed_udp(struct dpi *d, struct dpi_flow *f, const struct dpi_packet *p, const struct dpi_sink *sink)
{
	struct dpi_view v = { .d = d, .f = f, .side = { { p->bytes, p->len }, { nothing, 0 } } };

	if (p->len == 0)
		return f->verdict;
	f->packets += f->packets < UINT16_MAX;
	for (unsigned int i = 0; i < f->udp.nb_past; i++)
		d->past[i] = ((const struct dpi_past *)(d->pool.memory +
		    (size_t)f->udp.past[i / PAST_PER_BLOCK] * DPI_BLOCK))[i % PAST_PER_BLOCK];
	v.past = d->past;
	v.nb_past = f->udp.nb_past;
	v.dir = p->dir;
	v.port[0] = f->port[p->dir];
	v.port[1] = f->port[!p->dir];
	v.last = f->packets >= d->limits.datagrams;
	judge(d, f, &v, sink);
	if (f->verdict == DPI_PENDING && !any_live(f))
		none_left(d, f);
	else if (f->verdict == DPI_PENDING)
		remember(d, f, p);
	return f->verdict;
}

enum dpi_verdict
dpi_flow_feed(
    struct dpi *d, struct dpi_flow *f, const struct dpi_packet *p, const struct dpi_sink *sink)
{
	if (f->verdict == DPI_IDENTIFIED || f->verdict == DPI_UNKNOWN)
		return f->verdict;
	if (f->packets == 0 && !any_live(f))
		begin(d, f, false);
	return f->transport == DPI_TCP ? feed_tcp(d, f, p, sink) : feed_udp(d, f, p, sink);
}

enum dpi_verdict
dpi_flow_finish(struct dpi *d, struct dpi_flow *f, const struct dpi_sink *sink)
{
	struct dpi_view v;

	if (f->verdict == DPI_IDENTIFIED || f->verdict == DPI_UNKNOWN)
		return f->verdict;
	if (f->packets == 0 || f->verdict == DPI_DESCRIBING) {
		decide(d, f, f->packets == 0 ? DPI_UNKNOWN : DPI_IDENTIFIED);
		return f->verdict;
	}
	if (f->transport == DPI_TCP) {
		tcp_view(d, f, &v);
	} else {
		/* The last datagram is gone; what was said of it then stands. */
		f->app = f->likely;
		f->confidence = DPI_LIKELY_SURE;
		f->needed = f->packets;
		decide(d, f, f->likely != DPI_APP_UNKNOWN ? DPI_IDENTIFIED : DPI_UNKNOWN);
		return f->verdict;
	}
	v.end[0] = v.end[1] = v.last = true;
	judge(d, f, &v, sink);
	return f->verdict;
}

/* ---- names ---- */

const char *
dpi_app_name(enum dpi_app app)
{
	static const char *const names[DPI_NB_APPS] = { [DPI_APP_UNKNOWN] = "unknown",
#define NAME(id, slug) [DPI_APP_##id] = slug,
		DPI_APPS(NAME)
#undef NAME
	};

	return (unsigned int)app < DPI_NB_APPS ? names[app] : names[DPI_APP_UNKNOWN];
}

enum dpi_app
dpi_app_find(const char *name)
{
	for (unsigned int i = 1; i < DPI_NB_APPS; i++)
		if (strcmp(name, dpi_app_name((enum dpi_app)i)) == 0)
			return (enum dpi_app)i;
	return DPI_APP_UNKNOWN;
}

const char *
dpi_field_name(enum dpi_field field)
{
	static const char *const names[DPI_NB_FIELDS] = { "sni", "alpn", "ja3", "ja4",
		"tls_version", "cert_subject", "http_method", "http_path", "http_host",
		"http_user_agent", "http_status", "dns_query", "dns_type", "dns_answer", "software",
		"service", "tunnel" };

	return (unsigned int)field < DPI_NB_FIELDS ? names[field] : "";
}
