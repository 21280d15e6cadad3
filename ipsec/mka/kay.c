#include "ipsec/mka/kay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/mka/kay_priv.h"
#include "lib/secret.h"

#define ANSWER_NS   (20 * PK_NS_PER_MS) /* between two MKPDUs that answer something */
#define MN_LAST     (UINT32_MAX - 1024) /* a new MI before numbers run out */
#define RESUME_STEP 1024

static const char *const event_names[MKA_EVENT_COUNT] = {
	[MKA_PEER_NEW] = "peer-new",
	[MKA_PEER_LIVE] = "peer-live",
	[MKA_PEER_LOST] = "peer-lost",
	[MKA_SERVER] = "key-server",
	[MKA_KEY] = "key",
	[MKA_TRANSMIT] = "transmit",
	[MKA_RETIRED] = "retired",
	[MKA_UP] = "up",
	[MKA_DOWN] = "down",
	[MKA_REFUSED] = "refused",
};

const char *
mka_event_name(unsigned int event)
{
	return event < MKA_EVENT_COUNT ? event_names[event] : "unknown";
}

void
kay_event(struct mka_kay *k, enum mka_event event, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->ops->event(k->arg, event, text);
}

void
mka_kay_conf_init(struct mka_kay_conf *conf)
{
	*conf = (struct mka_kay_conf){
		.priority = 16,
		.suite = MACSEC_GCM_AES_128,
		.confidentiality = MACSEC_CONFIDENTIAL,
		.hello_ns = MKA_HELLO_NS,
		.life_ns = MKA_LIFE_NS,
		.retire_ns = MKA_RETIRE_NS,
	};
}

/* ---- participants -------------------------------------------------------------------------------- */

int
mka_kay_create(struct mka_kay **out, const struct mka_kay_conf *conf, const struct mka_kay_ops *ops,
    void *arg, struct pk_diag *diag)
{
	struct mka_kay *k;

	if (macsec_suite_key_len(conf->suite) == 0 ||
	    conf->confidentiality >= MACSEC_CONFIDENTIALITY_COUNT || conf->hello_ns == 0 ||
	    conf->life_ns <= conf->hello_ns) {
		pk_diag_set(diag,
		    "a port wants a cipher suite, a confidentiality offset, and a life time longer than its hello time");
		return -EINVAL;
	}
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return -ENOMEM;
	k->conf = *conf;
	k->ops = ops;
	k->arg = arg;
	*out = k;
	return 0;
}

static void
participant_destroy(struct participant *p)
{
	pk_wipe(p, sizeof(*p));
	free(p);
}

void
mka_kay_destroy(struct mka_kay *k)
{
	if (k == NULL)
		return;
	for (unsigned int i = 0; i < k->nb; i++)
		participant_destroy(k->participant[i]);
	pk_wipe(k, sizeof(*k));
	free(k);
}

/* 9.4.2: a random MI, and numbers from 1. */
static int
new_mi(struct participant *p)
{
	if (p->kay->ops->random(p->kay->arg, p->self.mi, sizeof(p->self.mi)) < 0)
		return -EIO;
	p->self.mn = 0;
	p->kn = 0;
	p->nb_sent = 0;
	return 0;
}

static struct participant *
find(struct mka_kay *k, const uint8_t *ckn, size_t ckn_len)
{
	for (unsigned int i = 0; i < k->nb; i++)
		if (k->participant[i]->ckn_len == ckn_len &&
		    memcmp(k->participant[i]->ckn, ckn, ckn_len) == 0)
			return k->participant[i];
	return NULL;
}

int
mka_kay_add(struct mka_kay *k, const uint8_t *cak, size_t cak_len, const uint8_t *ckn,
    size_t ckn_len, uint64_t now_ns, struct pk_diag *diag)
{
	struct participant *p;
	int rc;

	if ((cak_len != 16 && cak_len != 32) || ckn_len == 0 || ckn_len > MKA_CKN_MAX) {
		pk_diag_set(diag,
		    "a CAK has 16 or 32 octets and its CKN 1 to %d; these have %zu and %zu",
		    MKA_CKN_MAX, cak_len, ckn_len);
		return -EINVAL;
	}
	if (find(k, ckn, ckn_len) != NULL) {
		pk_diag_set(diag, "this CKN is there already");
		return -EEXIST;
	}
	if (k->nb == MKA_PARTICIPANTS_MAX) {
		pk_diag_set(diag, "a port has at most %d CAKs", MKA_PARTICIPANTS_MAX);
		return -ENOSPC;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->kay = k;
	p->cak_len = (uint8_t)cak_len;
	p->ckn_len = (uint8_t)ckn_len;
	memcpy(p->cak, cak, cak_len);
	memcpy(p->ckn, ckn, ckn_len);
	p->hello_ns = now_ns;
	rc = mka_derive(cak, cak_len, ckn, ckn_len, "IEEE8021 ICK", p->ick);
	if (rc == 0)
		rc = mka_derive(cak, cak_len, ckn, ckn_len, "IEEE8021 KEK", p->kek);
	if (rc == 0)
		rc = new_mi(p);
	if (rc < 0) {
		pk_diag_set(diag, "the keys of a CAK could not be derived");
		participant_destroy(p);
		return rc;
	}
	k->participant[k->nb++] = p;
	return 0;
}

int
mka_kay_remove(struct mka_kay *k, const uint8_t *ckn, size_t ckn_len, uint64_t now_ns)
{
	struct participant *p = find(k, ckn, ckn_len);
	unsigned int at = 0;

	if (p == NULL)
		return -ENOENT;
	while (k->participant[at] != p)
		at++;
	k->participant[at] = k->participant[--k->nb];
	if (k->principal == p) {
		k->principal = NULL;
		kay_elect(k, now_ns);
		/* Who holds this CAK alone is to be heard no more. */
		for (unsigned int i = 0; i < p->nb_peers; i++)
			if (p->peer[i].live)
				kay_peer_gone(k, p, &p->peer[i], now_ns);
	}
	participant_destroy(p);
	return 0;
}

unsigned int
kay_nb_live(const struct participant *p)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < p->nb_peers; i++)
		n += p->peer[i].live;
	return n;
}

bool
kay_is_server(const struct mka_kay *k)
{
	return k->principal != NULL && k->server_sci == k->conf.sci;
}

struct peer *
kay_server(struct mka_kay *k)
{
	for (unsigned int i = 0; k->principal != NULL && i < k->principal->nb_peers; i++)
		if (k->principal->peer[i].live && k->principal->peer[i].sci == k->server_sci)
			return &k->principal->peer[i];
	return NULL;
}

/* ---- peers --------------------------------------------------------------------------------------- */

static void
remove_peer(
    struct mka_kay *k, struct participant *p, struct peer *peer, const char *why, uint64_t now_ns)
{
	char text[MACSEC_SCI_TEXT];
	struct peer gone = *peer;

	*peer = p->peer[--p->nb_peers];
	kay_event(k, MKA_PEER_LOST, "%s: %s", macsec_sci_text(gone.sci, text), why);
	if (gone.live)
		kay_peer_gone(k, p, &gone, now_ns);
	p->news = true;
}

static struct peer *
peer_of(struct participant *p, const uint8_t mi[MKA_MI])
{
	for (unsigned int i = 0; i < p->nb_peers; i++)
		if (memcmp(p->peer[i].id.mi, mi, MKA_MI) == 0)
			return &p->peer[i];
	return NULL;
}

/*
 * A potential peer.  It may be a station that is known under another MI and has begun anew; but any old MKPDU of its
 * looks the same, so that one stays until this one has shown that it hears us.
 */
static struct peer *
new_peer(struct mka_kay *k, struct participant *p, const struct mkpdu *m, uint64_t now_ns)
{
	char text[MACSEC_SCI_TEXT];
	struct peer *peer = NULL;

	if (p->nb_peers < MKA_PEERS_MAX) {
		peer = &p->peer[p->nb_peers++];
	} else {
		for (unsigned int i = 0; i < p->nb_peers; i++)
			if (!p->peer[i].live &&
			    (peer == NULL || p->peer[i].until_ns < peer->until_ns))
				peer = &p->peer[i];
	}
	if (peer == NULL) {
		kay_event(k, MKA_REFUSED, "%s: there are %d peers already",
		    macsec_sci_text(m->sci, text), MKA_PEERS_MAX);
		return NULL;
	}
	*peer = (struct peer){ .sci = m->sci, .until_ns = now_ns + k->conf.life_ns };
	kay_event(k, MKA_PEER_NEW, "%s", macsec_sci_text(m->sci, text));
	p->news = true;
	return peer;
}

/* It is live, so whom its station was before is no more.  Its channel and keys stay until there is a new key. */
static bool
replace_peer(struct participant *p, uint64_t sci, const uint8_t mi[MKA_MI])
{
	bool replaced = false;

	for (unsigned int i = p->nb_peers; i-- > 0;) {
		if (p->peer[i].sci != sci || memcmp(p->peer[i].id.mi, mi, MKA_MI) == 0)
			continue;
		replaced |= p->peer[i].live;
		p->peer[i] = p->peer[--p->nb_peers];
	}
	return replaced;
}

/* 9.4.3: whether we sent a MKPDU with this number within MKA Life Time. */
static bool
recent(const struct participant *p, uint32_t mn, uint64_t now_ns)
{
	if (mn == 0 || mn > p->self.mn)
		return false;
	for (unsigned int i = 0; i < PK_MIN(p->nb_sent, (unsigned int)SENT_RING); i++)
		if (p->sent[i].mn == mn)
			return now_ns - p->sent[i].at_ns <= p->kay->conf.life_ns;
	return false;
}

static bool
knows_us(const struct participant *p, const struct mkpdu *m, uint64_t now_ns)
{
	for (unsigned int i = 0; i < m->nb_live + m->nb_potential; i++) {
		const struct mka_peer_id *id = i < m->nb_live ? &m->live[i]
		                                              : &m->potential[i - m->nb_live];

		if (memcmp(id->mi, p->self.mi, MKA_MI) == 0 && recent(p, id->mn, now_ns))
			return true;
	}
	return false;
}

/* ---- frames that come in --------------------------------------------------------------------------- */

static void
refuse(struct mka_kay *k, const char *why, uint64_t sci)
{
	char text[MACSEC_SCI_TEXT];

	k->refused++;
	kay_event(k, MKA_REFUSED, "%s%s%s", sci != 0 ? macsec_sci_text(sci, text) : "",
	    sci != 0 ? ": " : "", why);
}

/* 9.18: the server's word, or, to the server, a wish that it grants to all. */
static void
take_suspension(
    struct mka_kay *k, struct participant *p, struct peer *peer, uint8_t seconds, uint64_t now_ns)
{
	uint64_t until = now_ns + PK_MIN(seconds, (uint8_t)MKA_SUSPEND_MAX_S) * PK_NS_PER_S;

	if (p != k->principal || (!kay_is_server(k) && peer->sci != k->server_sci))
		return;
	if (seconds == 0) {
		/* It is back. */
		if (peer->suspending)
			k->suspended_ns = k->suspend_until_ns = 0;
		peer->suspending = false;
		return;
	}
	peer->suspending = true;
	if (until > k->suspended_ns) {
		k->suspended_ns = until;
		if (kay_is_server(k)) {
			k->suspend_s = seconds;
			k->suspend_until_ns = until;
			p->news = true;
		}
	}
	for (unsigned int i = 0; i < p->nb_peers; i++)
		if (p->peer[i].live)
			p->peer[i].until_ns =
			    PK_MAX(p->peer[i].until_ns, k->suspended_ns + k->conf.life_ns);
}

static void
take(struct mka_kay *k, struct participant *p, const struct mkpdu *m, uint64_t now_ns)
{
	struct peer *peer = peer_of(p, m->actor.mi);
	char text[MACSEC_SCI_TEXT];
	bool known;

	if (memcmp(m->actor.mi, p->self.mi, MKA_MI) == 0) {
		/* Our own, come back; or a stranger who drew the same number: then it is we who draw again. */
		if (m->sci != k->conf.sci && new_mi(p) == 0)
			p->news = true;
		refuse(k, "our own member identifier", m->sci);
		return;
	}
	if (m->sci == k->conf.sci) {
		refuse(k, "our own SCI", m->sci);
		return;
	}
	if (peer != NULL && (m->actor.mn <= peer->id.mn || m->sci != peer->sci)) {
		refuse(k, "message number seen already", m->sci);
		return;
	}
	if (peer == NULL) {
		peer = new_peer(k, p, m, now_ns);
		if (peer == NULL)
			return;
	}
	k->rx++;
	peer->id = m->actor;
	peer->priority = m->priority;
	peer->capability = m->capability;
	peer->desired = m->desired;
	if (m->has_use) {
		peer->latest = m->latest;
		peer->old = m->old;
		peer->delay_protect = m->delay_protect;
	}
	known = knows_us(p, m, now_ns);
	/* Only who is told a recent number of its own goes on to believe in us, and after a restart there is not much time. */
	if (peer->resumed || (!known && peer->live))
		p->news = true;
	peer->resumed = false;
	if (known || !peer->live)
		peer->until_ns = PK_MAX(peer->until_ns, now_ns + k->conf.life_ns);
	if (known && !peer->live) {
		bool replaced = replace_peer(p, m->sci, m->actor.mi);

		peer = peer_of(p, m->actor.mi);
		peer->live = true;
		p->news = true;
		kay_event(k, MKA_PEER_LIVE, "%s, priority %u%s", macsec_sci_text(peer->sci, text),
		    peer->priority, replaced ? ", begun anew" : "");
		kay_peer_live(k, p, peer, replaced, now_ns);
	}
	if (peer->live) {
		/* The priority may have changed. */
		kay_elect(k, now_ns);
		take_suspension(k, p, peer, m->suspend_s, now_ns);
		if (m->has_sak)
			kay_take_sak(k, p, peer, m, now_ns);
	}
	kay_keys_tick(k, now_ns);
}

void
mka_kay_receive(struct mka_kay *k, const uint8_t *frame, size_t len, uint64_t now_ns)
{
	struct participant *p;
	const uint8_t *ckn;
	struct mkpdu m;
	size_t body_len;
	const char *why;
	uint8_t ckn_len = 0, icv[MKA_ICV], diff = 0;

	/* 11.11.2: individual addresses are not for MKPDUs; ours come back only from a mirror. */
	if (len < 18 || (frame[0] & 1) == 0 || memcmp(frame + 6, k->conf.mac, 6) == 0)
		return;
	ckn = mkpdu_ckn(frame, len, &ckn_len);
	if (ckn == NULL) {
		refuse(k, "a frame that is not a MKPDU", 0);
		return;
	}
	p = find(k, ckn, ckn_len);
	if (p == NULL) {
		refuse(k, "a CKN that is not ours", 0);
		return;
	}
	/* Nothing but its form has been looked at before this. */
	why = mkpdu_decode(&m, frame, len, &body_len);
	if (why != NULL) {
		refuse(k, why, 0);
		return;
	}
	if (m.algorithm != MKA_ALGORITHM) {
		refuse(k, "another algorithm agility", m.sci);
		return;
	}
	if (mka_cmac(p->ick, p->cak_len, frame, body_len, icv) < 0)
		return;
	for (unsigned int i = 0; i < MKA_ICV; i++)
		diff |= (uint8_t)(icv[i] ^ frame[body_len + i]);
	if (diff != 0) {
		refuse(k, "a wrong ICV: the CAK is another", m.sci);
		return;
	}
	take(k, p, &m, now_ns);
}

/* ---- frames that go out ---------------------------------------------------------------------------- */

static void
say(struct mka_kay *k, struct participant *p, uint64_t now_ns)
{
	uint8_t frame[MKA_FRAME_MAX], wrapped[MKA_KEY_MAX + 8];
	struct mkpdu m = {
		.version = MKA_VERSION,
		.priority = k->conf.priority,
		.desired = true,
		.capability = 3,
		.sci = k->conf.sci,
		.algorithm = MKA_ALGORITHM,
		.ckn = p->ckn,
		.ckn_len = p->ckn_len,
	};
	size_t len;

	if (p->self.mn >= MN_LAST && new_mi(p) < 0)
		return;
	p->self.mn++;
	p->sent[p->nb_sent % SENT_RING].at_ns = now_ns;
	p->sent[p->nb_sent % SENT_RING].mn = p->self.mn;
	p->nb_sent = p->nb_sent + 1 < 2 * SENT_RING ? p->nb_sent + 1 : SENT_RING;
	m.actor = p->self;
	for (unsigned int i = 0; i < p->nb_peers; i++) {
		if (p->peer[i].live)
			m.live[m.nb_live++] = p->peer[i].id;
		else
			m.potential[m.nb_potential++] = p->peer[i].id;
	}
	/* 9.5: who has no live peers says that it would be. */
	m.key_server = k->conf.priority != MKA_PRIORITY_NEVER &&
	    (p == k->principal ? kay_is_server(k) : m.nb_live == 0);
	if (p == k->principal)
		kay_say_keys(k, p, &m, wrapped);
	if (now_ns < k->suspend_until_ns) {
		m.has_xpn = true;
		m.suspend_s = k->suspend_s;
	}
	len = mkpdu_encode(&m, k->conf.mac, frame);
	pk_wipe(wrapped, sizeof(wrapped));
	if (mka_cmac(p->ick, p->cak_len, frame, len, frame + len) < 0)
		return;
	k->tx++;
	p->news = false;
	p->last_ns = now_ns;
	p->not_before = now_ns + ANSWER_NS;
	/* 9.10.1: a delay can be bounded only by who speaks often enough. */
	p->hello_ns = now_ns +
	    (k->conf.delay_protect ? PK_MIN(k->conf.hello_ns, MKA_BOUNDED_HELLO_NS)
	                           : k->conf.hello_ns);
	k->ops->send(k->arg, frame, len + MKA_ICV);
}

uint64_t
mka_kay_tick(struct mka_kay *k, uint64_t now_ns)
{
	uint64_t due = now_ns + k->conf.hello_ns;

	for (unsigned int i = 0; i < k->nb; i++) {
		struct participant *p = k->participant[i];

		for (unsigned int j = p->nb_peers; j-- > 0;)
			if (now_ns >= p->peer[j].until_ns)
				remove_peer(k, p, &p->peer[j], "silent for too long", now_ns);
	}
	kay_keys_tick(k, now_ns);
	for (unsigned int i = 0; i < k->nb; i++) {
		struct participant *p = k->participant[i];

		if (now_ns >= p->hello_ns || (p->news && now_ns >= p->not_before))
			say(k, p, now_ns);
		due = PK_MIN(due, p->news ? PK_MIN(p->hello_ns, p->not_before) : p->hello_ns);
		for (unsigned int j = 0; j < p->nb_peers; j++)
			due = PK_MIN(due, p->peer[j].until_ns);
	}
	return PK_MIN(due, kay_keys_due(k, now_ns));
}

int
mka_kay_suspend(struct mka_kay *k, unsigned int seconds, uint64_t now_ns)
{
	if (seconds == 0 || seconds > MKA_SUSPEND_MAX_S)
		return -EINVAL;
	if (k->principal == NULL)
		return -ENOTCONN;
	k->suspend_s = (uint8_t)seconds;
	k->suspend_until_ns = now_ns + seconds * PK_NS_PER_S;
	say(k, k->principal, now_ns);
	return 0;
}

/* ---- a restart --------------------------------------------------------------------------------------- */

bool
mka_kay_save(const struct mka_kay *k, struct mka_saved *out)
{
	const struct participant *p = k->principal;

	if (p == NULL || k->state != CP_RETIRE || k->old.ki.kn == 0)
		return false;
	memset(out, 0, sizeof(*out));
	out->version = MKA_SAVED_VERSION;
	memcpy(out->ckn, p->ckn, p->ckn_len);
	out->ckn_len = p->ckn_len;
	out->server_self = kay_is_server(k);
	out->server_sci = k->server_sci;
	memcpy(out->mi, p->self.mi, MKA_MI);
	/* Whatever may yet be said before the next time this is written. */
	out->mn = p->self.mn + RESUME_STEP;
	out->ki = k->old.ki;
	out->an = k->old.an;
	out->suite = k->old.suite;
	out->confidentiality = k->old.confidentiality;
	for (unsigned int i = 0; i < p->nb_peers; i++) {
		struct mka_saved_peer *s = &out->peer[out->nb_peers];

		if (!p->peer[i].live)
			continue;
		s->sci = p->peer[i].sci;
		memcpy(s->mi, p->peer[i].id.mi, MKA_MI);
		s->mn = p->peer[i].id.mn;
		s->priority = p->peer[i].priority;
		out->nb_peers++;
	}
	return true;
}

int
mka_kay_resume(struct mka_kay *k, const struct mka_saved *s, uint64_t now_ns)
{
	struct participant *p;

	if (s->version != MKA_SAVED_VERSION || s->nb_peers == 0 || s->nb_peers > MKA_PEERS_MAX ||
	    s->ckn_len > MKA_CKN_MAX || s->an >= MACSEC_ANS || s->ki.kn == 0 || s->mn >= MN_LAST ||
	    macsec_suite_key_len(s->suite) == 0 ||
	    s->confidentiality >= MACSEC_CONFIDENTIALITY_COUNT)
		return -EINVAL;
	p = find(k, s->ckn, s->ckn_len);
	if (p == NULL)
		return -ENOENT;
	memcpy(p->self.mi, s->mi, MKA_MI);
	p->self.mn = s->mn;
	if (memcmp(s->ki.mi, s->mi, MKA_MI) == 0)
		p->kn = s->ki.kn;
	for (unsigned int i = 0; i < s->nb_peers; i++) {
		struct peer *peer = &p->peer[p->nb_peers++];

		*peer = (struct peer){ .sci = s->peer[i].sci,
			.priority = s->peer[i].priority,
			.live = true,
			.resumed = true,
			.until_ns = now_ns + k->conf.life_ns };
		memcpy(peer->id.mi, s->peer[i].mi, MKA_MI);
		peer->id.mn = s->peer[i].mn;
	}
	k->principal = p;
	k->server_sci = s->server_sci;
	k->old = (struct key){ .ki = s->ki,
		.an = s->an,
		.suite = s->suite,
		.confidentiality = s->confidentiality,
		.rx = true,
		.tx = true,
		.tx_pn = 1,
		.told_pn = 1 };
	for (unsigned int i = 0; i < s->nb_peers; i++)
		k->old.from[k->old.nb_from++] = s->peer[i].sci;
	k->next_an = (s->an + 1) & 3;
	k->state = CP_RETIRE;
	k->state_ns = k->made_ns = now_ns;
	k->enabled = true;
	k->ops->enable(k->arg, true);
	p->hello_ns = now_ns;
	kay_event(k, MKA_UP, "resumed under the key there is, AN %u", s->an);
	kay_elect(k, now_ns);
	return 0;
}

/* ---- questions --------------------------------------------------------------------------------------- */

void
mka_kay_info(const struct mka_kay *k, struct mka_kay_info *out)
{
	const struct key *key = k->latest.tx || k->old.ki.kn == 0 ? &k->latest : &k->old;

	*out = (struct mka_kay_info){
		.state = kay_state_name(k->state),
		.up = k->enabled,
		.server_self = kay_is_server(k),
		.server_sci = k->server_sci,
		.latest = k->latest.ki,
		.old = k->old.ki,
		.an = key->an,
		.suite = key->suite,
		.confidentiality = key->confidentiality,
		.nb_participants = k->nb,
		.rx = k->rx,
		.tx = k->tx,
		.refused = k->refused,
		.keys = k->keys,
	};
	for (unsigned int i = 0; i < k->nb; i++) {
		unsigned int live = kay_nb_live(k->participant[i]);

		out->nb_live += live;
		out->nb_potential += k->participant[i]->nb_peers - live;
	}
}

bool
mka_peer_info(const struct mka_kay *k, unsigned int i, uint64_t now_ns, struct mka_peer_info *out)
{
	const struct mka_ki *ki = k->latest.ki.kn != 0 ? &k->latest.ki : &k->old.ki;

	for (unsigned int j = 0; j < k->nb; j++) {
		const struct participant *p = k->participant[j];
		const struct peer *peer;

		if (i >= p->nb_peers) {
			i -= p->nb_peers;
			continue;
		}
		peer = &p->peer[i];
		*out = (struct mka_peer_info){
			.sci = peer->sci,
			.mn = peer->id.mn,
			.priority = peer->priority,
			.live = peer->live,
			.server = p == k->principal && peer->sci == k->server_sci,
			.ckn_len = p->ckn_len,
			.expires_in_ns = peer->until_ns > now_ns ? peer->until_ns - now_ns : 0,
		};
		for (unsigned int u = 0; u < 2; u++) {
			const struct mka_use *use = u == 0 ? &peer->latest : &peer->old;

			if (ki->kn != 0 && mka_ki_equal(&use->ki, ki)) {
				out->receives |= use->rx;
				out->transmits |= use->tx;
			}
		}
		memcpy(out->mi, peer->id.mi, MKA_MI);
		memcpy(out->ckn, p->ckn, p->ckn_len);
		return true;
	}
	return false;
}
