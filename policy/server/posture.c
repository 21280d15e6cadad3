#include "policy/server/posture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/log.h"
#include "lib/spiffe.h"

#define GATHER_MS 20 /* what changes within this time changes at once */

struct entry {
	struct server_postures *all;
	char dpu[PK_SPIFFE_NAME_MAX];
	struct server_posture s;
	struct event *grace;
};

struct server_postures {
	struct event_base *base;
	char path[4096];
	struct timeval grace;
	void (*changed)(void *arg);
	void (*lost)(void *arg, const char *dpu, const struct server_posture *s);
	void *arg;
	struct event *gather;
	struct entry **entry; /* by name */
	size_t nb, room;
};

static size_t
place_of(const struct server_postures *p, const char *dpu, bool *found)
{
	size_t lo = 0, hi = p->nb;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(p->entry[mid]->dpu, dpu);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void
set_attested(struct entry *e, bool attested)
{
	static const struct timeval soon = { .tv_usec = GATHER_MS * 1000 };

	if (e->s.attested == attested)
		return;
	e->s.attested = attested;
	if (!attested)
		e->all->lost(e->all->arg, e->dpu, &e->s);
	if (!evtimer_pending(e->all->gather, NULL))
		evtimer_add(e->all->gather, &soon);
}

static void
on_grace(evutil_socket_t fd, short what, void *arg)
{
	struct entry *e = arg;

	(void)fd;
	(void)what;
	if (e->s.attested)
		pk_warn("dpu %s: away for too long: its host is not attested to others any more",
		    e->dpu);
	e->s.fresh = false;
	set_attested(e, false);
}

static struct entry *
get(struct server_postures *p, const char *dpu)
{
	bool found;
	size_t at = place_of(p, dpu, &found);
	struct entry *e;

	if (found)
		return p->entry[at];
	if (p->nb == p->room) {
		size_t room = p->room != 0 ? p->room * 2 : 64;
		struct entry **wider = realloc(p->entry, room * sizeof(p->entry[0]));

		if (wider == NULL)
			return NULL;
		p->entry = wider;
		p->room = room;
	}
	e = calloc(1, sizeof(*e));
	if (e == NULL || strlen(dpu) >= sizeof(e->dpu) ||
	    (e->grace = evtimer_new(p->base, on_grace, e)) == NULL) {
		free(e);
		return NULL;
	}
	e->all = p;
	strcpy(e->dpu, dpu);
	memmove(&p->entry[at + 1], &p->entry[at], (p->nb - at) * sizeof(p->entry[0]));
	p->entry[at] = e;
	p->nb++;
	return e;
}

/* A lost file costs a grace period's attestation after a restart, no more. */
static void
save(const struct server_postures *p)
{
	char beside[4096 + 8];
	FILE *f;
	int ok;

	snprintf(beside, sizeof(beside), "%s.new", p->path);
	f = fopen(beside, "we");
	if (f == NULL) {
		pk_warn("%s: %s", beside, strerror(errno));
		return;
	}
	for (size_t i = 0; i < p->nb; i++)
		if (p->entry[i]->s.attested)
			fprintf(f, "%s\n", p->entry[i]->dpu);
	ok = fflush(f) == 0 && fsync(fileno(f)) == 0;
	if (fclose(f) != 0 || !ok || rename(beside, p->path) < 0)
		pk_warn("%s: %s", p->path, strerror(errno));
}

static void
on_gather(evutil_socket_t fd, short what, void *arg)
{
	struct server_postures *p = arg;

	(void)fd;
	(void)what;
	p->changed(p->arg);
	save(p);
}

static void
load(struct server_postures *p)
{
	char line[256];
	FILE *f = fopen(p->path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		struct entry *e;

		line[strcspn(line, "\n")] = '\0';
		if (!pk_spiffe_name_ok(line) || (e = get(p, line)) == NULL)
			continue;
		e->s.attested = true;
		snprintf(e->s.text, sizeof(e->s.text), "as before the server's restart");
		evtimer_add(e->grace, &p->grace);
	}
	if (f != NULL)
		fclose(f);
}

int
server_postures_create(struct server_postures **out, struct event_base *base, const char *path,
    uint64_t grace_ns, void (*changed)(void *arg),
    void (*lost)(void *arg, const char *dpu, const struct server_posture *s), void *arg,
    struct pk_diag *diag)
{
	struct server_postures *p = calloc(1, sizeof(*p));

	if (p == NULL || (p->gather = evtimer_new(base, on_gather, p)) == NULL) {
		free(p);
		pk_diag_set(diag, "no memory to start with");
		return -ENOMEM;
	}
	p->base = base;
	p->changed = changed;
	p->lost = lost;
	p->arg = arg;
	p->grace.tv_sec = (time_t)(grace_ns / PK_NS_PER_S);
	p->grace.tv_usec = (suseconds_t)(grace_ns % PK_NS_PER_S / 1000);
	snprintf(p->path, sizeof(p->path), "%s", path);
	load(p);
	*out = p;
	return 0;
}

void
server_postures_destroy(struct server_postures *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->nb; i++) {
		event_free(p->entry[i]->grace);
		free(p->entry[i]);
	}
	event_free(p->gather);
	free(p->entry);
	free(p);
}

void
server_postures_say(struct server_postures *p, const char *dpu, const struct server_posture *s)
{
	struct entry *e = get(p, dpu);
	bool was;

	if (e == NULL) {
		pk_error("dpu %s: posture not kept: no memory", dpu);
		return;
	}
	evtimer_del(e->grace);
	if (e->s.attested != s->attested || e->s.epoch != s->epoch)
		pk_log(s->attested ? PK_LOG_NOTICE : PK_LOG_WARN,
		    "dpu %s: host %s: %s (epoch %llu)%s%s", dpu, s->host,
		    s->attested ? "attested" : "not attested", (unsigned long long)s->epoch,
		    s->text[0] != '\0' ? ": " : "", s->text);
	was = e->s.attested;
	e->s = *s;
	e->s.attested = was;
	set_attested(e, s->attested);
}

void
server_postures_gone(struct server_postures *p, const char *dpu)
{
	bool found;
	size_t at = place_of(p, dpu, &found);

	if (found)
		evtimer_add(p->entry[at]->grace, &p->grace);
}

const struct server_posture *
server_postures_find(const struct server_postures *p, const char *dpu)
{
	bool found;
	size_t at = place_of(p, dpu, &found);

	return found ? &p->entry[at]->s : NULL;
}

struct server_attested *
server_postures_attested(const struct server_postures *p)
{
	struct server_attested *a = calloc(1, sizeof(*a) + p->nb * sizeof(a->name[0]));

	for (size_t i = 0; a != NULL && i < p->nb; i++) {
		if (!p->entry[i]->s.attested)
			continue;
		a->name[a->nb] = strdup(p->entry[i]->dpu);
		if (a->name[a->nb] == NULL) {
			server_attested_free(a);
			return NULL;
		}
		a->nb++;
	}
	return a;
}

void
server_attested_free(struct server_attested *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->nb; i++)
		free(a->name[i]);
	free(a);
}

int
server_is_attested(void *arg, const char *dpu)
{
	const struct server_attested *a = arg;
	size_t lo = 0, hi = a != NULL ? a->nb : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(a->name[mid], dpu);

		if (c == 0)
			return 1;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return 0;
}
