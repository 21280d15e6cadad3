#include <errno.h>

#include "fw/path_priv.h"

/* Shift the times of session i by what the new clock is ahead of the old one, and mistrust what is left. */
static void
set_times(struct fw_path *p, uint32_t i, uint64_t now_ns, int64_t ahead_ns)
{
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];

	if (ahead_ns != 0) {
		s->seen += (uint32_t)(ahead_ns >> FW_SEEN_SHIFT);
		c->opened_ns += (uint64_t)ahead_ns;
	}
	if ((int32_t)(fw_units(now_ns) - s->seen) < 0)
		s->seen = fw_units(now_ns);
	if (c->opened_ns > now_ns)
		c->opened_ns = now_ns;
}

uint32_t
fw_path_restore(struct fw_path *p, uint64_t now_ns, int64_t ahead_ns, uint32_t *refused)
{
	struct fw_sessions *t = &p->sessions;
	uint32_t fresh = fw_sessions_restore_begin(t, now_ns);

	*refused = 0;
	fw_ethers_restore_begin(&p->ethers);
	for (uint32_t i = 0; i < fresh; i++) {
		struct fw_session *s = &t->hot[i];
		int rc = fw_sessions_restore(t, i);
		uint32_t idle;

		if (rc < 0) {
			*refused += rc != -ENOENT;
			continue;
		}
		if (!fw_ethers_restore(&p->ethers, t->ether[i]))
			t->ether[i] = 0;
		/* No generation: whatever is in force next is asked about it before it passes a packet. */
		s->generation = 0;
		set_times(p, i, now_ns, ahead_ns);
		/* What there was of it besides (fw/extra.h, fw/inspect.h) is gone. */
		if (!fw_session_portable(s, &t->cold[i]) ||
		    ((t->cold[i].care & FW_CARE_ESP) != 0 && p->conf.esp == NULL) ||
		    ((t->cold[i].care & FW_CARE_TLS) != 0 && p->conf.tls == NULL) ||
		    !fw_session_hold(p, i, FW_TENANT_UNKNOWN)) {
			/* It is not yet as others are, so what it holds is taken back by hand. */
			if (t->ether[i] != 0)
				p->ethers.ether[t->ether[i]].refs--;
			fw_sessions_remove(t, i);
			(*refused)++;
			continue;
		}
		if ((t->cold[i].care & FW_CARE_HELPED) != 0) {
			t->cold[i].care &= (uint8_t)~FW_CARE_HELPED;
			fw_helper_begin(p, i);
		}
		t->cold[i].care &= (uint8_t)~FW_CARE_WATCH; /* policy will ask for it again */
		if ((t->cold[i].care & FW_CARE_ESP) != 0)
			fw_protect_set(p, i, FW_TUNNEL_ANY);
		if ((t->cold[i].care & FW_CARE_TLS) != 0)
			fw_protect_set(p, i, FW_TUNNEL_TLS);
		if (t->cold[i].care == 0)
			s->flags &= (uint8_t)~FW_SESSION_EXTRA;
		idle = fw_units(now_ns) - s->seen;
		fw_timer_file(&t->timer, i,
		    now_ns +
		        ((uint64_t)(p->timeout[s->state] - PK_MIN(idle, p->timeout[s->state]))
		            << FW_SEEN_SHIFT));
	}
	fw_ethers_restore_end(&p->ethers);
	/* Begun elsewhere, but an account has to begin somewhere. */
	pk_counter_add(&p->stats.sessions_created, t->nb);
	return t->nb;
}
