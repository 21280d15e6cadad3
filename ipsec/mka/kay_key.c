#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/mka/kay_priv.h"
#include "lib/secret.h"

/*
 * Keys: who makes them, who gets them, and when one takes the place of another.  IEEE 802.1X-2020, 9.5, 9.8 to 9.10 and 12.4.
 *
 * A roll-over loses nothing because of its order: everybody receives with the new key before anybody transmits with
 * it, and everybody receives with the old one for MKA's SAK Retire Time after it transmits with the new.
 */

/* A missing entry (CP_STATE_COUNT) is an event that means nothing there. */
#define NONE CP_STATE_COUNT
static const uint8_t next[CP_STATE_COUNT][CP_EVENT_COUNT] = {
	/*                 ALONE       PEERS       NEW_KEY     ALL_READY    RETIRE_OLD */
	[CP_CHANGE] = { NONE, CP_SECURED, NONE, NONE, NONE },
	[CP_SECURED] = { CP_CHANGE, NONE, CP_RECEIVE, NONE, NONE },
	[CP_RECEIVE] = { CP_CHANGE, NONE, CP_RECEIVE, CP_TRANSMIT, NONE },
	[CP_TRANSMIT] = { CP_CHANGE, NONE, CP_RECEIVE, NONE, CP_RETIRE },
	[CP_RETIRE] = { CP_CHANGE, NONE, CP_RECEIVE, NONE, NONE },
};

const char *
kay_state_name(enum cp_state s)
{
	static const char *const names[CP_STATE_COUNT] = { "change", "secured", "receive",
		"transmit", "retire" };

	return s < CP_STATE_COUNT ? names[s] : "unknown";
}

/* ---- associations ---------------------------------------------------------------------------------- */

/* 802.1AE-2018, 10.7.8: the MI of the key server, and the KN in its upper 32 bits, its halves exchanged. */
static void
make_salt(const struct mka_ki *ki, uint8_t salt[MACSEC_SALT])
{
	memcpy(salt, ki->mi, MACSEC_SALT);
	salt[0] ^= (uint8_t)(ki->kn >> 8);
	salt[1] ^= (uint8_t)ki->kn;
	salt[2] ^= (uint8_t)(ki->kn >> 24);
	salt[3] ^= (uint8_t)(ki->kn >> 16);
}

static uint32_t
ssci_of(const struct key *key, uint64_t sci)
{
	for (unsigned int i = 0; i < key->nb_sci; i++)
		if (key->sci[i] == sci)
			return i + 1;
	return 0;
}

static bool
receives_from(const struct key *key, uint64_t sci)
{
	for (unsigned int i = 0; i < key->nb_from; i++)
		if (key->from[i] == sci)
			return true;
	return false;
}

/* With whom there is none yet, but with everybody only once: a second time would let in again what has been. */
static void
add_sa(struct mka_kay *k, struct key *key, bool receive, uint64_t sci)
{
	struct mka_sa sa = { .receive = receive,
		.sci = sci,
		.an = key->an,
		.suite = key->suite,
		.confidentiality = key->confidentiality,
		.ssci = ssci_of(key, sci),
		.pn = 1,
		.key = key->sak,
		.ki = key->ki };

	if (macsec_suite_xpn(key->suite) && sa.ssci == 0)
		return; /* not one it was made for */
	if (receive) {
		if (receives_from(key, sci) || key->nb_from == MKA_PEERS_MAX)
			return;
		key->from[key->nb_from++] = sci;
	}
	make_salt(&key->ki, sa.salt);
	if (receive)
		k->ops->rx_sc_add(k->arg, sci);
	k->ops->sa_add(k->arg, &sa);
}

static void
delete_sas(struct mka_kay *k, struct key *key)
{
	if (key->ki.kn == 0)
		return;
	k->ops->sa_delete(k->arg, false, k->conf.sci, key->an);
	while (key->nb_from > 0)
		k->ops->sa_delete(k->arg, true, key->from[--key->nb_from], key->an);
}

/* Its channel has gone, and the SAs with it. */
static void
receive_no_more(struct key *key, uint64_t sci)
{
	for (unsigned int i = 0; i < key->nb_from; i++)
		if (key->from[i] == sci)
			key->from[i--] = key->from[--key->nb_from];
}

static void
forget(struct key *key)
{
	pk_wipe(key, sizeof(*key));
}

/* The latest key is the only one from now on; figure 12-2 calls it the old one then. */
static void
retire(struct mka_kay *k)
{
	if (k->old.ki.kn != 0)
		kay_event(k, MKA_RETIRED, "AN %u, key %u", k->old.an, k->old.ki.kn);
	delete_sas(k, &k->old);
	forget(&k->old);
	k->old = k->latest;
	forget(&k->latest);
}

/* ---- states ---------------------------------------------------------------------------------------- */

static void
enable(struct mka_kay *k, bool on)
{
	if (k->enabled == on)
		return;
	k->enabled = on;
	k->ops->enable(k->arg, on);
	kay_event(
	    k, on ? MKA_UP : MKA_DOWN, "%s", on ? "the link is secured" : "no key with anybody");
}

void
kay_step(struct mka_kay *k, enum cp_event event, uint64_t now_ns)
{
	enum cp_state to = (enum cp_state)next[k->state][event];

	if (to == NONE)
		return;
	k->state = to;
	k->state_ns = now_ns;
	if (k->principal != NULL)
		k->principal->news = true;
	switch (to) {
	case CP_CHANGE:
		enable(k, false);
		delete_sas(k, &k->latest);
		delete_sas(k, &k->old);
		forget(&k->latest);
		forget(&k->old);
		break;
	case CP_TRANSMIT:
		k->ops->sa_use(k->arg, k->latest.an);
		k->latest.tx = true;
		kay_event(k, MKA_TRANSMIT, "AN %u, key %u", k->latest.an, k->latest.ki.kn);
		enable(k, true);
		break;
	case CP_RETIRE:
		retire(k);
		break;
	default:
		break;
	}
}

/* Begin to receive with *key, which is taken. */
static void
install(struct mka_kay *k, struct key *key, uint64_t now_ns)
{
	char text[MACSEC_SCI_TEXT];

	if (k->state == CP_RECEIVE) {
		/* Figure 12-2, ABANDON: nobody transmits with it yet, or whoever does has this one now. */
		delete_sas(k, &k->latest);
		forget(&k->latest);
	} else if (k->state == CP_TRANSMIT) {
		retire(k);
	}
	if (k->old.ki.kn != 0 && k->old.an == key->an) {
		delete_sas(k, &k->old);
		forget(&k->old);
	}
	k->latest = *key;
	forget(key);
	k->next_an = (k->latest.an + 1) & 3;
	k->made_ns = now_ns;
	k->keys++;
	for (unsigned int i = 0; i < k->principal->nb_peers; i++)
		if (k->principal->peer[i].live)
			add_sa(k, &k->latest, true, k->principal->peer[i].sci);
	add_sa(k, &k->latest, false, k->conf.sci);
	k->latest.rx = true;
	k->latest.tx_pn = k->latest.told_pn = 1;
	kay_event(k, MKA_KEY, "%s %s, AN %u, key %u of %s", k->latest.ours ? "made" : "received",
	    macsec_suite_name(k->latest.suite), k->latest.an, k->latest.ki.kn,
	    macsec_sci_text(k->server_sci, text));
	kay_step(k, CP_NEW_KEY, now_ns);
}

/* ---- the key server ---------------------------------------------------------------------------------- */

static void
sort_scis(struct key *key)
{
	for (unsigned int i = 1; i < key->nb_sci; i++)
		for (unsigned int j = i; j > 0 && key->sci[j - 1] < key->sci[j]; j--) {
			uint64_t t = key->sci[j];

			key->sci[j] = key->sci[j - 1];
			key->sci[j - 1] = t;
		}
}

/* 9.8.1: from the CAK, a nonce, who takes part, and a number. */
static int
make_sak(struct mka_kay *k, struct key *key)
{
	struct participant *p = k->principal;
	uint8_t context[MKA_KEY_MAX + MKA_MI * (MKA_PEERS_MAX + 1) + 4];
	size_t len = macsec_suite_key_len(k->conf.suite), n = len;
	int rc;

	*key = (struct key){ .ki.kn = p->kn + 1,
		.an = k->next_an,
		.suite = k->conf.suite,
		.confidentiality = k->conf.confidentiality,
		.ours = true };
	memcpy(key->ki.mi, p->self.mi, MKA_MI);
	rc = k->ops->random(k->arg, context, len);
	if (rc < 0)
		return rc;
	memcpy(context + n, p->self.mi, MKA_MI);
	n += MKA_MI;
	key->sci[key->nb_sci++] = k->conf.sci;
	for (unsigned int i = 0; i < p->nb_peers; i++) {
		if (!p->peer[i].live)
			continue;
		memcpy(context + n, p->peer[i].id.mi, MKA_MI);
		n += MKA_MI;
		key->sci[key->nb_sci++] = p->peer[i].sci;
	}
	sort_scis(key);
	for (unsigned int i = 0; i < 4; i++)
		context[n++] = (uint8_t)(key->ki.kn >> (24 - 8 * i));
	rc = mka_kdf(p->cak, p->cak_len, "IEEE8021 SAK", context, n, key->sak, len);
	pk_wipe(context, sizeof(context));
	if (rc == 0)
		p->kn = key->ki.kn;
	return rc;
}

static uint64_t
pn_limit(const struct mka_kay *k, const struct key *key)
{
	if (k->conf.pn_limit != 0)
		return k->conf.pn_limit;
	return macsec_suite_xpn(key->suite) ? UINT64_C(0xc000000000000000) : UINT32_C(0xc0000000);
}

/* Which of its two keys the peer says this is, or NULL. */
static const struct mka_use *
use_of(const struct peer *peer, const struct mka_ki *ki)
{
	if (ki->kn != 0 && mka_ki_equal(&peer->latest.ki, ki))
		return &peer->latest;
	if (ki->kn != 0 && mka_ki_equal(&peer->old.ki, ki))
		return &peer->old;
	return NULL;
}

static const struct key *
current(const struct mka_kay *k)
{
	return k->latest.ki.kn != 0 ? &k->latest : &k->old;
}

/* 9.8: numbers are running out, here or with somebody else. */
static bool
worn_out(const struct mka_kay *k)
{
	const struct key *key = current(k);
	uint64_t limit = pn_limit(k, key);

	if (key->ki.kn == 0)
		return false;
	if (key->tx_pn == 0 || key->tx_pn >= limit)
		return true;
	for (unsigned int i = 0; i < k->principal->nb_peers; i++) {
		const struct peer *peer = &k->principal->peer[i];
		const struct mka_use *use = use_of(peer, &key->ki);

		if (peer->live && use != NULL && use->lpn >= limit)
			return true;
	}
	return false;
}

/* Whether all live peers receive (or transmit) with the latest key. */
static bool
all_use(const struct mka_kay *k, const struct key *key, bool tx)
{
	for (unsigned int i = 0; i < k->principal->nb_peers; i++) {
		const struct peer *peer = &k->principal->peer[i];
		const struct mka_use *use = use_of(peer, &key->ki);

		if (peer->live && (use == NULL || !(tx ? use->tx : use->rx)))
			return false;
	}
	return true;
}

/*
 * Whether somebody who is live transmits with a key that is not this one: it had lost us for a while, took another key
 * meanwhile, and has found us again, which we cannot see in its being live.
 */
static bool
strays(const struct mka_kay *k, const struct key *key)
{
	for (unsigned int i = 0; i < k->principal->nb_peers; i++) {
		const struct peer *peer = &k->principal->peer[i];

		if (peer->live && use_of(peer, &key->ki) == NULL &&
		    (peer->latest.tx || peer->old.tx))
			return true;
	}
	return false;
}

/* Whether this key was made for exactly those who are here now. */
static bool
fits(const struct mka_kay *k, const struct key *key)
{
	unsigned int nb = 1;

	for (unsigned int i = 0; i < k->principal->nb_peers; i++) {
		if (!k->principal->peer[i].live)
			continue;
		nb++;
		if (ssci_of(key, k->principal->peer[i].sci) == 0)
			return false;
	}
	return nb == key->nb_sci;
}

static bool
better(uint8_t priority, uint64_t sci, uint8_t best_priority, uint64_t best_sci)
{
	return priority < best_priority || (priority == best_priority && sci < best_sci);
}

void
kay_elect(struct mka_kay *k, uint64_t now_ns)
{
	struct participant *principal = NULL;
	uint8_t best = k->conf.priority;
	uint64_t server = best != MKA_PRIORITY_NEVER ? k->conf.sci : 0;
	char text[MACSEC_SCI_TEXT];

	for (unsigned int i = 0; i < k->nb; i++) {
		struct participant *p = k->participant[i];

		if (kay_nb_live(p) > 0 &&
		    (principal == NULL || p->ckn_len > principal->ckn_len ||
		        (p->ckn_len == principal->ckn_len &&
		            memcmp(p->ckn, principal->ckn, p->ckn_len) > 0)))
			principal = p;
	}
	if (principal == NULL) {
		k->server_sci = 0;
		kay_step(k, CP_ALONE, now_ns);
		k->principal = NULL;
		return;
	}
	/* 9.5: the lowest priority wins, among equals the lowest SCI. */
	for (unsigned int i = 0; i < principal->nb_peers; i++) {
		const struct peer *peer = &principal->peer[i];

		if (!peer->live || peer->priority == MKA_PRIORITY_NEVER)
			continue;
		if (server == 0 || better(peer->priority, peer->sci, best, server)) {
			best = peer->priority;
			server = peer->sci;
		}
	}
	if (principal != k->principal || server != k->server_sci) {
		k->principal = principal;
		k->server_sci = server;
		kay_event(k, MKA_SERVER, "%s%s",
		    server != 0 ? macsec_sci_text(server, text) : "nobody may be it",
		    server == k->conf.sci ? ", this port" : "");
		principal->news = true;
	}
	/* A key that is not of this server is used until there is one that is. */
	if (kay_is_server(k) && memcmp(current(k)->ki.mi, principal->self.mi, MKA_MI) != 0)
		k->fresh_wanted = true;
	kay_step(k, CP_PEERS, now_ns);
}

void
kay_peer_live(struct mka_kay *k, struct participant *p, const struct peer *peer, bool replaced,
    uint64_t now_ns)
{
	struct key *keys[] = { &k->latest, &k->old };

	kay_elect(k, now_ns);
	if (p != k->principal)
		return;
	k->fresh_wanted = true;
	/*
	 * The server may have found it before we have, so that there is a key that was made for it as well; and makes no
	 * other for our sake.  Not for one that has begun anew: what it had then is not what it has now.
	 */
	for (unsigned int i = 0; i < PK_COUNT(keys) && !replaced; i++)
		if (keys[i]->ki.kn != 0 && (i == 0 || use_of(peer, &keys[i]->ki) != NULL))
			add_sa(k, keys[i], true, peer->sci);
}

void
kay_peer_gone(struct mka_kay *k, struct participant *p, const struct peer *peer, uint64_t now_ns)
{
	bool elsewhere = false;

	for (unsigned int i = 0;
	     k->principal != NULL && k->principal != p && i < k->principal->nb_peers; i++)
		elsewhere |= k->principal->peer[i].live && k->principal->peer[i].sci == peer->sci;
	if (!elsewhere) {
		k->ops->rx_sc_delete(k->arg, peer->sci);
		receive_no_more(&k->latest, peer->sci);
		receive_no_more(&k->old, peer->sci);
	}
	kay_elect(k, now_ns);
}

/* ---- a member -------------------------------------------------------------------------------------------- */

/* Whom the server made it for: itself and its live peers.  False: one of them is unknown to us as yet. */
static bool
read_scis(struct mka_kay *k, struct participant *p, const struct peer *from, const struct mkpdu *m,
    struct key *key)
{
	bool all = m->nb_live <= MKA_PEERS_MAX;

	key->sci[key->nb_sci++] = from->sci;
	for (unsigned int i = 0; i < m->nb_live && i < MKA_PEERS_MAX; i++) {
		uint64_t sci = 0;

		if (memcmp(m->live[i].mi, p->self.mi, MKA_MI) == 0)
			sci = k->conf.sci;
		for (unsigned int j = 0; j < p->nb_peers; j++)
			if (memcmp(p->peer[j].id.mi, m->live[i].mi, MKA_MI) == 0)
				sci = p->peer[j].sci;
		if (sci == 0)
			all = false;
		else
			key->sci[key->nb_sci++] = sci;
	}
	sort_scis(key);
	return all && ssci_of(key, k->conf.sci) != 0;
}

void
kay_take_sak(struct mka_kay *k, struct participant *p, struct peer *from, const struct mkpdu *m,
    uint64_t now_ns)
{
	struct key key = { .ki.kn = m->kn, .an = m->sak_an, .confidentiality = m->confidentiality };
	const char *why = NULL;
	char text[MACSEC_SCI_TEXT];
	bool known;

	memcpy(key.ki.mi, from->id.mi, MKA_MI);
	if (p != k->principal || from->sci != k->server_sci) {
		/* Not yet agreed who is server: it will say it again. */
		return;
	}
	if (mka_ki_equal(&key.ki, &k->latest.ki) || mka_ki_equal(&key.ki, &k->old.ki))
		return;
	key.suite = (uint8_t)macsec_suite_of_id(m->suite);
	known = read_scis(k, p, from, m, &key);
	if (m->kn == 0)
		why = "the key server wants no MACsec, and we do";
	else if (key.suite == MACSEC_SUITE_NONE)
		why = "a SAK of a cipher suite that is not supported";
	else if (m->wrapped_len != macsec_suite_key_len(key.suite) + 8)
		why = "a SAK of another length than its cipher suite's";
	else if (key.confidentiality == MACSEC_INTEGRITY_ONLY &&
	    k->conf.confidentiality != MACSEC_INTEGRITY_ONLY)
		why = "a SAK for integrity alone, and we want confidentiality";
	else if (macsec_suite_xpn(key.suite) && !known)
		why = "a SAK for stations that are not known yet";
	else if (mka_unwrap(p->kek, p->cak_len, m->wrapped, m->wrapped_len, key.sak) < 0)
		why = "a SAK that cannot be unwrapped";
	if (why != NULL) {
		k->refused++;
		kay_event(k, MKA_REFUSED, "%s: %s", macsec_sci_text(from->sci, text), why);
		forget(&key);
		return;
	}
	k->fresh_wanted = false;
	install(k, &key, now_ns);
}

/* ---- time ------------------------------------------------------------------------------------------------ */

static void
bound_delay(struct mka_kay *k)
{
	const struct peer *server = kay_server(k);
	const struct key *key = current(k);

	if (!(server != NULL ? server->delay_protect : k->conf.delay_protect))
		return;
	for (unsigned int i = 0; i < k->principal->nb_peers; i++) {
		struct peer *peer = &k->principal->peer[i];
		const struct mka_use *use = use_of(peer, &key->ki);

		if (!peer->live || use == NULL || !use->tx)
			continue;
		if (mka_ki_equal(&peer->floor_ki, &key->ki) && use->lpn <= peer->floor)
			continue;
		peer->floor_ki = key->ki;
		peer->floor = use->lpn;
		k->ops->sa_floor(k->arg, peer->sci, key->an, use->lpn);
	}
}

void
kay_keys_tick(struct mka_kay *k, uint64_t now_ns)
{
	const struct peer *server;
	const struct mka_use *use;
	uint64_t waited = now_ns - k->state_ns;
	struct key key;

	if (k->principal == NULL)
		return;
	server = kay_server(k);
	if (k->state == CP_RECEIVE) {
		use = server != NULL ? use_of(server, &k->latest.ki) : NULL;
		if (waited >= k->conf.life_ns ||
		    (kay_is_server(k) ? all_use(k, &k->latest, false) : use != NULL && use->tx))
			kay_step(k, CP_ALL_READY, now_ns);
	} else if (k->state == CP_TRANSMIT) {
		if (waited >= k->conf.life_ns ||
		    (waited >= k->conf.retire_ns && all_use(k, &k->latest, true)))
			kay_step(k, CP_RETIRE_OLD, now_ns);
	}
	bound_delay(k);
	/* 9.18: nobody who is away could take a new key. */
	if (!kay_is_server(k) || now_ns < k->suspended_ns || now_ns < k->suspend_until_ns)
		return;
	if (worn_out(k) ||
	    (k->conf.rekey_ns != 0 && current(k)->ki.kn != 0 &&
	        now_ns - k->made_ns >= k->conf.rekey_ns))
		k->fresh_wanted = true;
	if (k->state == CP_RETIRE && waited >= 2 * k->conf.hello_ns && strays(k, current(k)))
		k->fresh_wanted = true;
	/* One that is on its way is let go only for one that more can use. */
	if (!k->fresh_wanted ||
	    (k->state != CP_SECURED && k->state != CP_RETIRE &&
	        !(k->state == CP_RECEIVE && !fits(k, &k->latest))))
		return;
	if (make_sak(k, &key) < 0)
		return;
	k->fresh_wanted = false;
	install(k, &key, now_ns);
}

uint64_t
kay_keys_due(const struct mka_kay *k, uint64_t now_ns)
{
	uint64_t due = UINT64_MAX, t;

	if (k->principal == NULL)
		return due;
	t = k->state_ns + (k->state == CP_TRANSMIT ? k->conf.retire_ns : k->conf.life_ns);
	if ((k->state == CP_RECEIVE || k->state == CP_TRANSMIT) && t > now_ns)
		due = t;
	t = k->state_ns + k->conf.life_ns;
	if (k->state == CP_TRANSMIT && t > now_ns)
		due = PK_MIN(due, t);
	t = k->made_ns + k->conf.rekey_ns;
	if (k->conf.rekey_ns != 0 && t > now_ns)
		due = PK_MIN(due, t);
	return due;
}

void
mka_kay_pn(struct mka_kay *k, uint8_t an, const struct mka_ki *ki, uint64_t next_pn)
{
	struct key *keys[] = { &k->latest, &k->old };

	for (unsigned int i = 0; i < PK_COUNT(keys); i++)
		if (keys[i]->ki.kn != 0 && keys[i]->an == an && mka_ki_equal(&keys[i]->ki, ki))
			keys[i]->tx_pn = next_pn;
}

int
mka_kay_rekey(struct mka_kay *k, uint64_t now_ns)
{
	if (!kay_is_server(k))
		return -EPERM;
	k->fresh_wanted = true;
	kay_keys_tick(k, now_ns);
	return 0;
}

/* ---- what is said of it ---------------------------------------------------------------------------------- */

static void
say_use(struct key *key, struct mka_use *use)
{
	if (key->ki.kn == 0)
		return;
	use->ki = key->ki;
	use->an = key->an;
	use->rx = key->rx;
	use->tx = key->tx;
	/* 9.10.1: where it stood a hello ago; with none left, at the end. */
	use->lpn = key->told_pn;
	key->told_pn = key->tx_pn != 0     ? key->tx_pn
	    : macsec_suite_xpn(key->suite) ? UINT64_MAX
	                                   : UINT32_MAX;
}

void
kay_say_keys(
    struct mka_kay *k, struct participant *p, struct mkpdu *m, uint8_t wrapped[MKA_KEY_MAX + 8])
{
	const struct key *key = current(k);
	size_t len = macsec_suite_key_len(key->suite);

	if (k->latest.ki.kn == 0 && k->old.ki.kn == 0)
		return;
	m->has_use = true;
	m->delay_protect = k->conf.delay_protect;
	say_use(&k->latest, &m->latest);
	say_use(&k->old, &m->old);
	m->has_xpn = macsec_suite_xpn(key->suite);
	/* A member reads from the peer list beside a SAK whom it is for, so it goes only with that list. */
	if (!kay_is_server(k) || !key->ours || all_use(k, key, false) || !fits(k, key) ||
	    mka_wrap(p->kek, p->cak_len, key->sak, len, wrapped) < 0)
		return;
	m->has_sak = true;
	m->sak_an = key->an;
	m->confidentiality = key->confidentiality;
	m->kn = key->ki.kn;
	m->suite = macsec_suite_id(key->suite);
	m->wrapped = wrapped;
	m->wrapped_len = (uint8_t)(len + 8);
}
