#include "dpi/sig_set.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/sig_prefilter.h"

struct source {
	char *name, *text;
	size_t len;
};

struct dpi_set {
	struct dpi_parse_env env;
	struct dpi_sig **sig;
	uint32_t nb, room, nb_refused;
	struct source *source;
	uint32_t nb_sources;
	struct dpi_prefilter filter[DPI_NB_GROUPS][DPI_NB_DIRS];
	struct dpi_rules packet, tx[DPI_NB_LAYERS];
	struct dpi_bufs wanted;
};

int
dpi_set_create(struct dpi_set **out, struct dpi_vars *vars)
{
	struct dpi_set *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		dpi_vars_destroy(vars);
		return -ENOMEM;
	}
	s->env.vars = vars;
	*out = s;
	return 0;
}

void
dpi_set_destroy(struct dpi_set *s)
{
	if (s == NULL)
		return;
	for (unsigned int g = 0; g < DPI_NB_GROUPS; g++)
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++)
			dpi_prefilter_fini(&s->filter[g][d]);
	for (unsigned int l = 0; l < DPI_NB_LAYERS; l++)
		free(s->tx[l].at);
	free(s->packet.at);
	for (uint32_t i = 0; i < s->nb; i++)
		dpi_sig_destroy(s->sig[i]);
	for (uint32_t i = 0; i < s->nb_sources; i++) {
		free(s->source[i].name);
		free(s->source[i].text);
	}
	free(s->source);
	free(s->sig);
	dpi_names_fini(&s->env.bits);
	dpi_names_fini(&s->env.ints);
	dpi_vars_destroy(s->env.vars);
	free(s);
}

uint32_t
dpi_set_nb(const struct dpi_set *s)
{
	return s->nb;
}

uint32_t
dpi_set_nb_refused(const struct dpi_set *s)
{
	return s->nb_refused;
}

const struct dpi_sig *
dpi_set_sig(const struct dpi_set *s, uint32_t index)
{
	return s->sig[index];
}

const struct dpi_rules *
dpi_set_packet_rules(const struct dpi_set *s)
{
	return &s->packet;
}

const struct dpi_rules *
dpi_set_tx_rules(const struct dpi_set *s, enum dpi_layer layer)
{
	return &s->tx[layer];
}

/* ---- reading ---- */

static struct source *
keep_source(struct dpi_set *s, const char *name, const char *text, size_t len)
{
	struct source *more = realloc(s->source, (s->nb_sources + 1) * sizeof(*more));

	if (more == NULL)
		return NULL;
	s->source = more;
	more += s->nb_sources;
	more->name = strdup(name);
	more->text = malloc(len + 1);
	if (more->name == NULL || more->text == NULL) {
		free(more->name);
		free(more->text);
		return NULL;
	}
	memcpy(more->text, text, len);
	more->text[len] = '\0';
	more->len = len;
	s->nb_sources++;
	return more;
}

static int
add_rule(struct dpi_set *s, const char *name, uint32_t line, const char *text, size_t len,
    const struct dpi_set_listener *l, struct pk_diag *diag)
{
	struct pk_diag why = { "" };
	char keyword[DPI_KEYWORD_MAX] = "";
	struct dpi_sig *sig, **more;
	int rc = dpi_sig_parse(&sig, &s->env, text, len, name, line, keyword, &why);

	if (rc == -EINVAL) {
		s->nb_refused++;
		if (l != NULL)
			l->refused(l->arg, keyword, why.text);
		return 0;
	}
	if (rc == DPI_PARSE_SKIP)
		return 0;
	if (rc < 0) {
		pk_diag_at(diag, name, line, 0, "%s", strerror(-rc));
		return rc;
	}
	if (s->nb == s->room) {
		uint32_t room = s->room != 0 ? s->room * 2 : 256;

		more = realloc(s->sig, room * sizeof(struct dpi_sig *));
		if (more == NULL) {
			dpi_sig_destroy(sig);
			return -ENOMEM;
		}
		s->sig = more;
		s->room = room;
	}
	sig->index = s->nb;
	s->sig[s->nb++] = sig;
	return 1;
}

int
dpi_set_add(struct dpi_set *s, const char *name, const char *text, size_t len,
    const struct dpi_set_listener *l, struct pk_diag *diag)
{
	const struct source *source = keep_source(s, name, text, len);
	char *joined;
	uint32_t line = 1;
	int added = 0, rc = 0;

	if (source == NULL)
		return -ENOMEM;
	joined = malloc(len + 1);
	if (joined == NULL)
		return -ENOMEM;
	for (size_t at = 0; at < len && rc >= 0;) {
		uint32_t began = line;
		size_t n = 0, front;
		bool more = true;

		while (more && at < len) {
			const char *end = memchr(text + at, '\n', len - at);
			size_t piece = end != NULL ? (size_t)(end - text) - at : len - at,
			       keep = piece;

			while (keep > 0 &&
			    (text[at + keep - 1] == '\r' || text[at + keep - 1] == ' ' ||
			        text[at + keep - 1] == '\t'))
				keep--;
			more = keep > 0 && text[at + keep - 1] == '\\';
			memcpy(joined + n, text + at, keep - more);
			n += keep - more;
			at += piece + (end != NULL);
			line++;
		}
		for (front = 0; front < n && isspace((unsigned char)joined[front]); front++)
			;
		if (front == n || joined[front] == '#')
			continue;
		rc = add_rule(s, source->name, began, joined + front, n - front, l, diag);
		added += rc > 0;
	}
	free(joined);
	return rc < 0 ? rc : added;
}

int
dpi_set_load(
    struct dpi_set *s, const char *path, const struct dpi_set_listener *l, struct pk_diag *diag)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t len = 0, room = 0;
	int rc = 0;

	if (f == NULL) {
		rc = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return rc;
	}
	while (!feof(f) && !ferror(f)) {
		if (room - len < 65536) {
			char *more = realloc(text, room + (room >> 1) + 262144);

			if (more == NULL) {
				rc = -ENOMEM;
				break;
			}
			text = more;
			room += (room >> 1) + 262144;
		}
		len += fread(text + len, 1, room - len, f);
	}
	if (rc == 0 && ferror(f)) {
		rc = -EIO;
		pk_diag_set(diag, "%s: cannot be read", path);
	}
	fclose(f);
	if (rc == 0)
		rc = dpi_set_add(s, path, text, len, l, diag);
	free(text);
	return rc;
}

/* ---- order ---- */

/* Whoever sets a bit is judged before whoever asks for it: 0 sets only, 1 does both, 2 asks only, 3 none. */
static unsigned int
bits_rank(const struct dpi_sig *s, bool flow)
{
	bool sets = false, asks = false;

	for (unsigned int i = 0; i < s->nb_bits; i++) {
		if ((s->bits[i].of == DPI_BITS_FLOW) != flow)
			continue;
		if (s->bits[i].op >= DPI_BITS_ISSET)
			asks = true;
		else
			sets = true;
	}
	return sets ? (asks ? 1 : 0) : (asks ? 2 : 3);
}

static unsigned int
ints_rank(const struct dpi_sig *s)
{
	bool sets = false, asks = false;

	for (unsigned int i = 0; i < s->nb_flowints; i++) {
		if (strchr("+-=", s->flowint[i].op) != NULL)
			sets = true;
		else
			asks = true;
	}
	return sets ? (asks ? 1 : 0) : (asks ? 2 : 3);
}

static int
by_order(const void *a, const void *b)
{
	static const uint8_t action_rank[] = {
		[DPI_ACT_PASS] = 0, [DPI_ACT_DROP] = 1, [DPI_ACT_REJECT] = 2, [DPI_ACT_ALERT] = 3
	};
	const struct dpi_sig *p = *(struct dpi_sig *const *)a, *q = *(struct dpi_sig *const *)b;
	int d = (int)action_rank[p->action] - action_rank[q->action];

	if (d == 0)
		d = (int)bits_rank(p, true) - (int)bits_rank(q, true);
	if (d == 0)
		d = (int)ints_rank(p) - (int)ints_rank(q);
	if (d == 0)
		d = (int)bits_rank(p, false) - (int)bits_rank(q, false);
	if (d == 0)
		d = (int)p->priority - q->priority;
	if (d == 0)
		d = p->index < q->index ? -1 : 1;
	return d;
}

/* A rule that comes again, in a newer revision or not: the later one stands. */
static void
drop_doubles(struct dpi_set *s)
{
	uint32_t size = 16, n = 0, *table;

	while (size < s->nb * 2)
		size *= 2;
	table = calloc(size, sizeof(*table));
	if (table == NULL)
		return;
	for (uint32_t i = s->nb; i-- > 0;) {
		struct dpi_sig *sig = s->sig[i];
		uint32_t h = (sig->sid * 2654435761u ^ sig->gid * 40503u) & (size - 1);
		bool there = false;

		for (; table[h] != 0 && !there; h = (h + 1) & (size - 1))
			there = s->sig[table[h] - 1]->sid == sig->sid &&
			    s->sig[table[h] - 1]->gid == sig->gid;
		if (there) {
			dpi_sig_destroy(sig);
			s->sig[i] = NULL;
		} else {
			table[h] = i + 1;
		}
	}
	for (uint32_t i = 0; i < s->nb; i++)
		if (s->sig[i] != NULL)
			s->sig[n++] = s->sig[i];
	s->nb = n;
	free(table);
}

/* ---- groups ---- */

static int
rules_add(struct dpi_rules *r, uint32_t rule)
{
	if (r->nb > 0 && r->at[r->nb - 1] == rule)
		return 0;
	if ((r->nb & (r->nb + 1)) == 0) {
		uint32_t *more = realloc(r->at, (2 * r->nb + 2) * sizeof(*more));

		if (more == NULL)
			return -ENOMEM;
		r->at = more;
	}
	r->at[r->nb++] = rule;
	return 0;
}

struct building {
	struct dpi_pattern *pattern;
	uint32_t nb, room;
	struct dpi_rules every;
};

static int
building_add(struct building *b, const struct dpi_pattern *p)
{
	if (b->nb == b->room) {
		uint32_t room = b->room != 0 ? b->room * 2 : 64;
		struct dpi_pattern *more = realloc(b->pattern, room * sizeof(*more));

		if (more == NULL)
			return -ENOMEM;
		b->pattern = more;
		b->room = room;
	}
	b->pattern[b->nb++] = *p;
	return rules_add(&b->every, p->rule);
}

unsigned int
dpi_set_dirs_of(const struct dpi_sig *s)
{
	unsigned int dirs = s->fast_list >= 0 ? dpi_buf_info[s->list[s->fast_list].buf].dirs
	                                      : DPI_BOTH;

	if (s->flow & DPI_FLOW_TO_SERVER)
		dirs &= DPI_TO_SERVER;
	if (s->flow & DPI_FLOW_TO_CLIENT)
		dirs &= DPI_TO_CLIENT;
	return dirs;
}

static bool
pattern_of(const struct dpi_sig *sig, struct dpi_pattern *p)
{
	const struct dpi_list *l = sig->fast_list >= 0 ? &sig->list[sig->fast_list] : NULL;

	return l != NULL && !(dpi_buf_info[l->buf].flags & DPI_BUF_PACKET) &&
	    /* A rule about transactions with its pattern in the raw bytes would have to wait for both. */
	    !(l->buf == DPI_RAW && sig->flags & DPI_SIG_TX) &&
	    dpi_pattern_of(p, &l->item[sig->fast_item].content, l->nb_transforms != 0);
}

unsigned int
dpi_set_groups_of(const struct dpi_sig *sig, unsigned int group[DPI_GROUPS_OF_MAX])
{
	struct dpi_pattern p;
	unsigned int nb = 0;

	if (!pattern_of(sig, &p))
		return 0;
	if (sig->list[sig->fast_list].buf != DPI_RAW) {
		group[nb++] = sig->list[sig->fast_list].buf;
		return nb;
	}
	if (sig->protos & 1)
		group[nb++] = sig->flags & DPI_SIG_STREAM ? DPI_GROUP_STREAM : DPI_GROUP_TCP;
	if (sig->protos & 2)
		group[nb++] = DPI_GROUP_UDP;
	if (sig->protos & ~3)
		group[nb++] = DPI_GROUP_OTHER;
	return nb;
}

static int
always(struct dpi_set *s, const struct dpi_sig *sig)
{
	int rc = 0;

	if (!(sig->flags & DPI_SIG_TX))
		return rules_add(&s->packet, sig->index);
	for (unsigned int layer = 1; layer < DPI_NB_LAYERS && rc == 0; layer++) {
		if ((sig->layer != DPI_LAYER_NONE && sig->layer != layer &&
		        !(sig->layer == DPI_LAYER_DCERPC && layer == DPI_LAYER_SMB)) ||
		    (sig->layers != 0 && !(sig->layers >> layer & 1)))
			continue;
		rc = rules_add(&s->tx[layer], sig->index);
	}
	return rc;
}

static int
place(struct dpi_set *s, struct building building[DPI_NB_GROUPS][DPI_NB_DIRS],
    const struct dpi_sig *sig)
{
	unsigned int group[DPI_GROUPS_OF_MAX], nb = dpi_set_groups_of(sig, group),
	                                       dirs = dpi_set_dirs_of(sig);
	struct dpi_pattern p;
	int rc = 0;

	if (nb == 0)
		return always(s, sig);
	pattern_of(sig, &p);
	p.rule = sig->index;
	for (unsigned int g = 0; g < nb; g++)
		for (unsigned int d = 0; d < DPI_NB_DIRS && rc == 0; d++)
			if (dirs >> d & 1)
				rc = building_add(&building[group[g]][d], &p);
	return rc;
}

int
dpi_set_finish(struct dpi_set *s, struct pk_diag *diag)
{
	return dpi_set_finish_with(s, NULL, NULL, NULL, diag);
}

int
dpi_set_finish_with(struct dpi_set *s, const hs_platform_info_t *platform,
    int (*fetch)(void *arg, unsigned int group, unsigned int dir, hs_database_t **out), void *arg,
    struct pk_diag *diag)
{
	struct building(*building)[DPI_NB_DIRS] = calloc(DPI_NB_GROUPS, sizeof(*building));
	hs_scratch_t *scratch = NULL;
	int rc = building == NULL ? -ENOMEM : 0;

	drop_doubles(s);
	if (s->nb > 0)
		qsort(s->sig, s->nb, sizeof(struct dpi_sig *), by_order);
	for (uint32_t i = 0; i < s->nb; i++)
		s->sig[i]->index = i;
	for (uint32_t i = 0; i < s->nb && rc == 0; i++) {
		rc = place(s, building, s->sig[i]);
		for (unsigned int l = 0; l < s->sig[i]->nb_lists; l++)
			dpi_bufs_add(&s->wanted, s->sig[i]->list[l].buf);
	}
	for (unsigned int g = 0; g < DPI_NB_GROUPS && rc == 0; g++) {
		for (unsigned int d = 0; d < DPI_NB_DIRS && rc == 0; d++) {
			struct building *b = &building[g][d];
			struct dpi_prefilter *f = &s->filter[g][d];

			hs_database_t *db = NULL;

			if (b->nb == 0)
				continue;
			if (fetch != NULL) {
				rc = fetch(arg, g, d, &db);
				if (rc < 0) {
					pk_diag_set(diag,
					    "a database is missing, or cannot be used on this CPU");
					break;
				}
			}
			rc = dpi_prefilter_init(f, b->pattern, b->nb, db, platform, diag);
			f->every = b->every;
			b->pattern = NULL;
			b->every.at = NULL;
			if (platform != NULL)
				continue;
			if (rc == 0 && hs_alloc_scratch(f->db, &scratch) != HS_SUCCESS) {
				pk_diag_set(diag, "a database cannot be used on this CPU");
				rc = -EILSEQ;
			}
			if (rc == 0)
				rc = dpi_prefilter_check(f, scratch, diag);
		}
	}
	for (unsigned int g = 0; building != NULL && g < DPI_NB_GROUPS; g++) {
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++) {
			free(building[g][d].pattern);
			free(building[g][d].every.at);
		}
	}
	hs_free_scratch(scratch);
	free(building);
	return rc;
}

const struct dpi_bufs *
dpi_set_wanted(const struct dpi_set *s)
{
	return &s->wanted;
}

const hs_database_t *
dpi_set_database(const struct dpi_set *s, unsigned int group, unsigned int dir)
{
	return s->filter[group][dir].db;
}

void
dpi_set_variables(const struct dpi_set *s,
    void (*each)(void *arg, const char *name, const char *value), void *arg)
{
	dpi_vars_each(s->env.vars, each, arg);
}

void
dpi_set_sources(const struct dpi_set *s,
    void (*each)(void *arg, const char *name, const char *text, size_t len), void *arg)
{
	for (uint32_t i = 0; i < s->nb_sources; i++)
		each(arg, s->source[i].name, s->source[i].text, s->source[i].len);
}

size_t
dpi_set_database_bytes(const struct dpi_set *s)
{
	size_t sum = 0, n;

	for (unsigned int g = 0; g < DPI_NB_GROUPS; g++)
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++)
			if (s->filter[g][d].db != NULL &&
			    hs_database_size(s->filter[g][d].db, &n) == HS_SUCCESS)
				sum += n;
	return sum;
}

size_t
dpi_set_nb_databases(const struct dpi_set *s)
{
	size_t n = 0;

	for (unsigned int g = 0; g < DPI_NB_GROUPS; g++)
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++)
			n += s->filter[g][d].db != NULL;
	return n;
}

/* ---- scanning ---- */

struct dpi_scan_room {
	hs_scratch_t *scratch;
};

int
dpi_scan_room_create(struct dpi_scan_room **out, const struct dpi_set *s)
{
	struct dpi_scan_room *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	for (unsigned int g = 0; g < DPI_NB_GROUPS; g++) {
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++) {
			if (s->filter[g][d].db != NULL &&
			    hs_alloc_scratch(s->filter[g][d].db, &r->scratch) != HS_SUCCESS) {
				dpi_scan_room_destroy(r);
				return -ENOMEM;
			}
		}
	}
	*out = r;
	return 0;
}

void
dpi_scan_room_destroy(struct dpi_scan_room *r)
{
	if (r == NULL)
		return;
	hs_free_scratch(r->scratch);
	free(r);
}

struct scan {
	const struct dpi_prefilter *f;
	void (*hit)(void *arg, uint32_t rule);
	void *arg;
};

static int
on_match(
    unsigned int id, unsigned long long from, unsigned long long to, unsigned int flags, void *arg)
{
	const struct scan *s = arg;

	(void)from;
	(void)to;
	(void)flags;
	for (uint32_t i = s->f->first[id]; i < s->f->first[id + 1]; i++)
		s->hit(s->arg, s->f->rule_at[i]);
	return 0;
}

bool
dpi_set_scan(const struct dpi_set *s, struct dpi_scan_room *r, unsigned int group, unsigned int dir,
    const uint8_t *bytes, uint32_t len, void (*hit)(void *arg, uint32_t rule), void *arg)
{
	const struct dpi_prefilter *f = &s->filter[group][dir];
	struct scan scan = { f, hit, arg };

	if (f->db == NULL || len == 0)
		return true;
	if (hs_scan(f->db, (const char *)bytes, len, 0, r->scratch, on_match, &scan) == HS_SUCCESS)
		return true;
	for (uint32_t i = 0; i < f->every.nb; i++)
		hit(arg, f->every.at[i]);
	return false;
}

uint32_t
dpi_set_longest(const struct dpi_set *s, unsigned int group, unsigned int dir)
{
	return s->filter[group][dir].longest;
}
