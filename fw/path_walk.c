#include <string.h>

#include "fw/path_priv.h"

static bool
read_session(const struct fw_path *p, uint32_t i, uint64_t now_ns, struct fw_session_info *info)
{
	const struct fw_sessions *t = &p->sessions;
	struct fw_session_cold c;
	struct fw_session s;
	uint64_t idle;
	uint32_t v;

	v = atomic_load_explicit(&t->version[i], memory_order_acquire);
	if (v % 2 == 0)
		return false;
	memcpy(&s, &t->hot[i], sizeof(s));
	memcpy(&c, &t->cold[i], sizeof(c));
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&t->version[i], memory_order_relaxed) != v)
		return false;

	memset(info, 0, sizeof(*info));
	info->id = (uint64_t)v << 32 | i;
	info->vrf = s.key.vrf;
	info->wire = s.key.wire;
	info->proto = s.key.proto;
	info->direction = fw_session_origin(&s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	fw_session_names(&s, &c, &info->src, &info->dst, &info->sport, &info->dport);
	for (unsigned int d = 0; d < 2; d++) {
		info->packets[d] = c.packets[d] + s.packets[d];
		info->bytes[d] = c.bytes[d] + s.bytes[d];
	}
	/* The reader's clock may be a burst behind the lcore's. */
	idle = (uint64_t)(uint32_t)RTE_MAX((int32_t)(fw_units(now_ns) - s.seen), 0)
	    << FW_SEEN_SHIFT;
	info->idle_ns = idle;
	info->age_ns = now_ns > c.opened_ns ? now_ns - c.opened_ns : 0;
	if (s.state < FW_STATE_COUNT && (uint64_t)p->timeout[s.state] << FW_SEEN_SHIFT > idle)
		info->expires_in_ns = ((uint64_t)p->timeout[s.state] << FW_SEEN_SHIFT) - idle;
	info->rule_id = c.rule_id;
	info->generation = s.generation & FW_GENERATION_MASK;
	info->state = fw_session_state_name(s.state);
	return true;
}

void
fw_path_walk(const struct fw_path *p, uint64_t now_ns, uint32_t *cursor, unsigned int n,
    bool (*each)(void *arg, const struct fw_session_info *info), void *arg)
{
	uint32_t end = atomic_load_explicit(&p->sessions.fresh, memory_order_acquire);
	struct fw_session_info info;
	uint32_t i;

	for (i = *cursor; i < end && n > 0; i++) {
		if (!read_session(p, i, now_ns, &info))
			continue;
		n--;
		if (!each(arg, &info)) {
			i++;
			break;
		}
	}
	*cursor = i < end ? i : 0;
}
