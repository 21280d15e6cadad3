#include "ipsec/ike/events.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <bus/bus.h>
#include <threading/mutex.h>

#include "lib/clock.h"
#include "lib/log.h"

static _Atomic uint64_t counts[EVENT_COUNT];

static const char *const names[] = {
#define X(name, help) #name,
	EVENTS(X)
#undef X
};
static const char *const helps[] = {
#define X(name, help) help,
	EVENTS(X)
#undef X
};

/** what the network can provoke, all of it together */
static struct pk_log_limit limit = PK_LOG_LIMIT(10, 100);
static mutex_t *limit_mutex;

uint64_t events_read(event_t event)
{
	return atomic_load_explicit(&counts[event], memory_order_relaxed);
}

const char *events_name(event_t event)
{
	return names[event];
}

const char *events_help(event_t event)
{
	return helps[event];
}

/**
 * Count, and log unless too much was logged
 */
static void note(event_t event, enum pk_log_level level, ike_sa_t *ike_sa, const char *fmt, ...)
{
	char peer[256], text[512];
	uint32_t suppressed = 0;
	va_list args;
	int pass;

	atomic_fetch_add_explicit(&counts[event], 1, memory_order_relaxed);
	limit_mutex->lock(limit_mutex);
	pass = pk_log_limit(&limit, pk_clock_mono_ns(), &suppressed);
	limit_mutex->unlock(limit_mutex);
	if (!pass)
	{
		return;
	}
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (ike_sa)
	{
		snprintf(peer, sizeof(peer), "peer %s (%H): ",
				 ike_sa->get_peer_cfg(ike_sa) ? ike_sa->get_name(ike_sa) : "unknown",
				 ike_sa->get_other_host(ike_sa));
	}
	else
	{
		peer[0] = '\0';
	}
	if (suppressed)
	{
		pk_log(level, "%s%s (and %u lines like this left out before)", peer, text, suppressed);
	}
	else
	{
		pk_log(level, "%s%s", peer, text);
	}
}

/**
 * Proposals in one line, cut if there are many
 */
static void list_proposals(linked_list_t *proposals, char *buf, size_t len)
{
	enumerator_t *enumerator;
	proposal_t *proposal;
	size_t used = 0;

	buf[0] = '\0';
	enumerator = proposals->create_enumerator(proposals);
	while (used < len && enumerator->enumerate(enumerator, &proposal))
	{
		used += snprintf(buf + used, len - used, "%s%P", used ? ", " : "", proposal);
	}
	enumerator->destroy(enumerator);
}

METHOD(listener_t, alert, bool,
	listener_t *this, ike_sa_t *ike_sa, alert_t alert_, va_list args)
{
	certificate_t *cert;
	linked_list_t *list, *other;
	char offered[256];

	switch (alert_)
	{
		case ALERT_PEER_AUTH_FAILED:
			note(EVENT_auth_refused, PK_LOG_WARN, ike_sa, "authentication refused: not who it says, \"%Y\"",
				 ike_sa->get_other_id(ike_sa));
			break;
		case ALERT_LOCAL_AUTH_FAILED:
			note(EVENT_auth_refused_there, PK_LOG_WARN, ike_sa,
				 "authentication refused: it does not take us for \"%Y\"", ike_sa->get_my_id(ike_sa));
			break;
		case ALERT_PROPOSAL_MISMATCH_IKE:
		case ALERT_PROPOSAL_MISMATCH_CHILD:
			list = va_arg(args, linked_list_t*);
			list_proposals(list, offered, sizeof(offered));
			note(alert_ == ALERT_PROPOSAL_MISMATCH_IKE ? EVENT_proposal_refused_ike :
				 EVENT_proposal_refused_child, PK_LOG_WARN, ike_sa,
				 "proposal refused: nothing in common (offered %s)", offered);
			break;
		case ALERT_TS_MISMATCH:
			list = va_arg(args, linked_list_t*);
			other = va_arg(args, linked_list_t*);
			note(EVENT_selector_refused, PK_LOG_WARN, ike_sa,
				 "traffic selectors refused: nothing in common (offered %#R === %#R)", list, other);
			break;
		case ALERT_CERT_EXPIRED:
		case ALERT_CERT_REVOKED:
		case ALERT_CERT_VALIDATION_FAILED:
		case ALERT_CERT_NO_ISSUER:
		case ALERT_CERT_UNTRUSTED_ROOT:
		case ALERT_CERT_EXCEEDED_PATH_LEN:
		case ALERT_CERT_POLICY_VIOLATION:
			cert = va_arg(args, certificate_t*);
			note(EVENT_certificate_refused, PK_LOG_WARN, ike_sa, "certificate \"%Y\" refused: %s",
				 cert->get_subject(cert),
				 alert_ == ALERT_CERT_EXPIRED ? "it is not valid now" :
				 alert_ == ALERT_CERT_REVOKED ? "it has been revoked" :
				 alert_ == ALERT_CERT_NO_ISSUER ? "its issuer is not known" :
				 alert_ == ALERT_CERT_UNTRUSTED_ROOT ? "its root is not trusted" : "it may not be used so");
			break;
		case ALERT_INSTALL_CHILD_SA_FAILED:
		case ALERT_INSTALL_CHILD_POLICY_FAILED:
			note(EVENT_install_failed, PK_LOG_ERROR, ike_sa, "%s could not be given to picketd",
				 alert_ == ALERT_INSTALL_CHILD_SA_FAILED ? "an SA" : "a policy");
			break;
		case ALERT_RETRANSMIT_SEND_TIMEOUT:
			note(EVENT_unreachable, PK_LOG_WARN, ike_sa, "given up: no answer");
			break;
		case ALERT_HALF_OPEN_TIMEOUT:
			note(EVENT_half_open_timeout, PK_LOG_INFO, ike_sa, "given up: not established in time");
			break;
		case ALERT_PARSE_ERROR_HEADER:
		case ALERT_PARSE_ERROR_BODY:
			note(EVENT_malformed, PK_LOG_INFO, ike_sa, "malformed IKE message");
			break;
		default:
			break;
	}
	return TRUE;
}

METHOD(listener_t, ike_updown, bool,
	listener_t *this, ike_sa_t *ike_sa, bool up)
{
	if (up)
	{
		note(EVENT_ike_up, PK_LOG_NOTICE, ike_sa, "IKE SA %u established: \"%Y\" here, \"%Y\" there, %P%s",
			 ike_sa->get_unique_id(ike_sa), ike_sa->get_my_id(ike_sa), ike_sa->get_other_id(ike_sa),
			 ike_sa->get_proposal(ike_sa),
			 ike_sa->has_condition(ike_sa, COND_NAT_ANY) ? ", NAT between" : "");
	}
	else
	{
		note(EVENT_ike_down, PK_LOG_NOTICE, ike_sa, "IKE SA %u ended", ike_sa->get_unique_id(ike_sa));
	}
	return TRUE;
}

METHOD(listener_t, ike_rekey, bool,
	listener_t *this, ike_sa_t *old, ike_sa_t *new)
{
	note(EVENT_ike_rekeyed, PK_LOG_INFO, new, "IKE SA %u rekeyed as %u", old->get_unique_id(old),
		 new->get_unique_id(new));
	return TRUE;
}

METHOD(listener_t, ike_update, bool,
	listener_t *this, ike_sa_t *ike_sa, host_t *local, host_t *remote)
{
	if (ike_sa->get_state(ike_sa) == IKE_ESTABLISHED)
	{
		note(EVENT_ike_moved, PK_LOG_NOTICE, ike_sa, "IKE SA %u goes on between %#H and %#H",
			 ike_sa->get_unique_id(ike_sa), local, remote);
	}
	return TRUE;
}

METHOD(listener_t, child_updown, bool,
	listener_t *this, ike_sa_t *ike_sa, child_sa_t *child_sa, bool up)
{
	linked_list_t *local, *remote;

	if (!up)
	{
		note(EVENT_child_down, PK_LOG_NOTICE, ike_sa, "child %s %u ended", child_sa->get_name(child_sa),
			 child_sa->get_unique_id(child_sa));
		return TRUE;
	}
	local = linked_list_create_from_enumerator(child_sa->create_ts_enumerator(child_sa, TRUE));
	remote = linked_list_create_from_enumerator(child_sa->create_ts_enumerator(child_sa, FALSE));
	note(EVENT_child_up, PK_LOG_NOTICE, ike_sa,
		 "child %s %u established: SPI %08x in, %08x out, %#R === %#R, %P",
		 child_sa->get_name(child_sa), child_sa->get_unique_id(child_sa),
		 ntohl(child_sa->get_spi(child_sa, TRUE)), ntohl(child_sa->get_spi(child_sa, FALSE)), local,
		 remote, child_sa->get_proposal(child_sa));
	local->destroy(local);
	remote->destroy(remote);
	return TRUE;
}

METHOD(listener_t, child_rekey, bool,
	listener_t *this, ike_sa_t *ike_sa, child_sa_t *old, child_sa_t *new)
{
	note(EVENT_child_rekeyed, PK_LOG_INFO, ike_sa, "child %s %u rekeyed as %u, SPI %08x in, %08x out",
		 new->get_name(new), old->get_unique_id(old), new->get_unique_id(new),
		 ntohl(new->get_spi(new, TRUE)), ntohl(new->get_spi(new, FALSE)));
	return TRUE;
}

void events_register()
{
	static listener_t listener;

	limit_mutex = mutex_create(MUTEX_TYPE_DEFAULT);
	listener.alert = _alert;
	listener.ike_updown = _ike_updown;
	listener.ike_rekey = _ike_rekey;
	listener.ike_update = _ike_update;
	listener.child_updown = _child_updown;
	listener.child_rekey = _child_rekey;
	charon->bus->add_listener(charon->bus, &listener);
}
