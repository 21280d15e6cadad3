#include "ipsec/ike/swan.h"

#include "ipsec/ike/show.h"

#include <stdarg.h>
#include <stdio.h>

#include <collections/array.h>
#include <control/controller.h>

#include "ipsec/ike/events.h"
#include "ipsec/ike/plane.h"

static struct pk_helper *helper;

/**
 * One command at work.  The request is the control thread's, and may be over when the helper is done.
 */
typedef struct {
	struct pk_job job;
	struct pk_control_request *request;
	bool over;
	char peer[PK_CONTROL_LINE_MAX], child[PK_CONTROL_LINE_MAX];
	bool reauth;
	array_t *rows;			/* char*, JSON */
	int nb;				/* SAs that matched */
	char *next;			/* row to be sent */
} command_t;

static void add_row(command_t *this, const char *fmt, ...)
{
	va_list args;
	char *row;

	va_start(args, fmt);
	if (vasprintf(&row, fmt, args) >= 0)
	{
		array_insert(this->rows, ARRAY_TAIL, row);
	}
	va_end(args);
}

/**
 * A text as JSON, with its quotes
 */
static const char *quote(char *buf, size_t len, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return pk_json_string(text, buf, len);
}

static void ike_row(command_t *this, ike_sa_t *ike_sa)
{
	char peer[256], local[128], remote[128], mine[1024], theirs[1024], proposal[512];
	time_t now = time_monotonic(NULL), established, rekey, reauth;
	proposal_t *p = ike_sa->get_proposal(ike_sa);

	established = ike_sa->get_statistic(ike_sa, STAT_ESTABLISHED);
	rekey = ike_sa->get_statistic(ike_sa, STAT_REKEY);
	reauth = ike_sa->get_statistic(ike_sa, STAT_REAUTH);
	quote(proposal, sizeof(proposal), p ? "%P" : "", p);
	add_row(this, "{\"peer\":%s,\"id\":%u,\"state\":\"%s\",\"initiator\":%s,\"local\":%s,\"remote\":%s,"
		"\"local_id\":%s,\"remote_id\":%s,\"spi_i\":\"%016jx\",\"spi_r\":\"%016jx\",\"proposal\":%s,"
		"\"nat_local\":%s,\"nat_remote\":%s,\"mobike\":%s,\"fragmentation\":%s,\"children\":%d,\"age_s\":%ld,"
		"\"rekey_s\":%ld,\"reauth_s\":%ld}",
		quote(peer, sizeof(peer), "%s", ike_sa->get_name(ike_sa)), ike_sa->get_unique_id(ike_sa),
		enum_to_name(ike_sa_state_names, ike_sa->get_state(ike_sa)) ?: "?",
		ike_sa->get_id(ike_sa)->is_initiator(ike_sa->get_id(ike_sa)) ? "true" : "false",
		quote(local, sizeof(local), "%#H", ike_sa->get_my_host(ike_sa)),
		quote(remote, sizeof(remote), "%#H", ike_sa->get_other_host(ike_sa)),
		quote(mine, sizeof(mine), "%Y", ike_sa->get_my_id(ike_sa)),
		quote(theirs, sizeof(theirs), "%Y", ike_sa->get_other_id(ike_sa)),
		(uintmax_t)be64toh(ike_sa->get_id(ike_sa)->get_initiator_spi(ike_sa->get_id(ike_sa))),
		(uintmax_t)be64toh(ike_sa->get_id(ike_sa)->get_responder_spi(ike_sa->get_id(ike_sa))), proposal,
		ike_sa->has_condition(ike_sa, COND_NAT_HERE) ? "true" : "false",
		ike_sa->has_condition(ike_sa, COND_NAT_THERE) ? "true" : "false",
		ike_sa->supports_extension(ike_sa, EXT_MOBIKE) ? "true" : "false",
		ike_sa->supports_extension(ike_sa, EXT_IKE_FRAGMENTATION) ? "true" : "false",
		ike_sa->get_child_count(ike_sa), established ? (long)(now - established) : -1L,
		rekey ? (long)(rekey - now) : -1L, reauth ? (long)(reauth - now) : -1L);
}

static void child_row(command_t *this, ike_sa_t *ike_sa, child_sa_t *child)
{
	char peer[256], name[256], proposal[512], local[1024], remote[1024];
	time_t now = time_monotonic(NULL), rekey = child->get_lifetime(child, FALSE), used_in, used_out;
	uint64_t bytes_in, bytes_out, packets_in, packets_out;
	proposal_t *p = child->get_proposal(child);
	linked_list_t *mine, *theirs;

	mine = linked_list_create_from_enumerator(child->create_ts_enumerator(child, TRUE));
	theirs = linked_list_create_from_enumerator(child->create_ts_enumerator(child, FALSE));
	child->get_usestats(child, TRUE, &used_in, &bytes_in, &packets_in);
	child->get_usestats(child, FALSE, &used_out, &bytes_out, &packets_out);
	quote(proposal, sizeof(proposal), p ? "%P" : "", p);
	add_row(this, "{\"peer\":%s,\"ike\":%u,\"child\":%s,\"id\":%u,\"reqid\":%u,\"state\":\"%s\","
		"\"mode\":\"%s\",\"spi_in\":\"%08x\",\"spi_out\":\"%08x\",\"proposal\":%s,\"udp\":%s,\"local\":%s,"
		"\"remote\":%s,\"packets_in\":%ju,\"bytes_in\":%ju,\"packets_out\":%ju,\"bytes_out\":%ju,\"age_s\":%ld,"
		"\"rekey_s\":%ld}",
		quote(peer, sizeof(peer), "%s", ike_sa->get_name(ike_sa)), ike_sa->get_unique_id(ike_sa),
		quote(name, sizeof(name), "%s", child->get_name(child)), child->get_unique_id(child),
		child->get_reqid(child), enum_to_name(child_sa_state_names, child->get_state(child)) ?: "?",
		child->get_mode(child) == MODE_TRANSPORT ? "transport" : "tunnel",
		ntohl(child->get_spi(child, TRUE)), ntohl(child->get_spi(child, FALSE)), proposal,
		child->has_encap(child) ? "true" : "false", quote(local, sizeof(local), "%#R", mine),
		quote(remote, sizeof(remote), "%#R", theirs), (uintmax_t)packets_in, (uintmax_t)bytes_in,
		(uintmax_t)packets_out, (uintmax_t)bytes_out, (long)(now - child->get_installtime(child)),
		rekey ? (long)(rekey - now) : -1L);
	mine->destroy(mine);
	theirs->destroy(theirs);
}

/**
 * Whether an IKE SA is one that was asked for: by its peer's name or its number; all without either
 */
static bool matches(command_t *this, ike_sa_t *ike_sa)
{
	char id[16];

	snprintf(id, sizeof(id), "%u", ike_sa->get_unique_id(ike_sa));
	return !this->peer[0] || streq(this->peer, ike_sa->get_name(ike_sa)) || streq(this->peer, id);
}

static bool child_matches(command_t *this, child_sa_t *child)
{
	char id[16];

	snprintf(id, sizeof(id), "%u", child->get_unique_id(child));
	return !this->child[0] || streq(this->child, child->get_name(child)) || streq(this->child, id);
}

/* ---- the helper's side --------------------------------------------------------------------------------- */

static void work_ike(struct pk_job *job)
{
	command_t *this = (command_t*)job;
	enumerator_t *enumerator;
	ike_sa_t *ike_sa;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		if (matches(this, ike_sa))
		{
			ike_row(this, ike_sa);
		}
	}
	enumerator->destroy(enumerator);
	this->nb = 1;
}

static void work_children(struct pk_job *job)
{
	command_t *this = (command_t*)job;
	enumerator_t *enumerator, *children;
	child_sa_t *child;
	ike_sa_t *ike_sa;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		children = ike_sa->create_child_sa_enumerator(ike_sa);
		while (matches(this, ike_sa) && children->enumerate(children, &child))
		{
			if (child_matches(this, child))
			{
				child_row(this, ike_sa, child);
			}
		}
		children->destroy(children);
	}
	enumerator->destroy(enumerator);
	this->nb = 1;
}

/**
 * Numbers of what matches: of IKE SAs, or with a child given, pairs of IKE SA and inbound SPI
 */
typedef struct {
	uint32_t ike, child, spi;
} target_t;

static array_t *find_targets(command_t *this)
{
	array_t *targets = array_create(sizeof(target_t), 0);
	enumerator_t *enumerator, *children;
	child_sa_t *child;
	ike_sa_t *ike_sa;
	target_t target;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		if (!matches(this, ike_sa))
		{
			continue;
		}
		target = (target_t){ .ike = ike_sa->get_unique_id(ike_sa) };
		if (!this->child[0])
		{
			array_insert(targets, ARRAY_TAIL, &target);
			continue;
		}
		children = ike_sa->create_child_sa_enumerator(ike_sa);
		while (children->enumerate(children, &child))
		{
			if (child_matches(this, child) && child->get_state(child) == CHILD_INSTALLED)
			{
				target.child = child->get_unique_id(child);
				target.spi = child->get_spi(child, TRUE);
				array_insert(targets, ARRAY_TAIL, &target);
			}
		}
		children->destroy(children);
	}
	enumerator->destroy(enumerator);
	return targets;
}

static void work_rekey(struct pk_job *job)
{
	command_t *this = (command_t*)job;
	array_t *targets = find_targets(this);
	ike_sa_t *ike_sa;
	target_t target;
	bool done;

	while (array_remove(targets, ARRAY_HEAD, &target))
	{
		ike_sa = charon->ike_sa_manager->checkout_by_id(charon->ike_sa_manager, target.ike);
		if (!ike_sa)
		{
			continue;
		}
		if (target.child)
		{
			done = ike_sa->rekey_child_sa(ike_sa, PROTO_ESP, target.spi) != DESTROY_ME;
		}
		else
		{
			done = (this->reauth ? ike_sa->reauth(ike_sa) : ike_sa->rekey(ike_sa)) != DESTROY_ME;
		}
		this->nb++;
		if (done)
		{
			charon->ike_sa_manager->checkin(charon->ike_sa_manager, ike_sa);
		}
		else
		{
			charon->ike_sa_manager->checkin_and_destroy(charon->ike_sa_manager, ike_sa);
		}
	}
	array_destroy(targets);
}

static void work_down(struct pk_job *job)
{
	command_t *this = (command_t*)job;
	array_t *targets = find_targets(this);
	target_t target;

	while (array_remove(targets, ARRAY_HEAD, &target))
	{
		if (target.child)
		{
			charon->controller->terminate_child(charon->controller, target.child, NULL, NULL, 0);
		}
		else
		{
			charon->controller->terminate_ike(charon->controller, target.ike, FALSE, NULL, NULL, 0);
		}
		this->nb++;
	}
	array_destroy(targets);
}

/* ---- the control thread's side ------------------------------------------------------------------------- */

static void free_row(void *data, int idx, void *user)
{
	free(data);
}

static void destroy_command(command_t *this)
{
	array_destroy_function(this->rows, free_row, NULL);
	free(this);
}

/**
 * Rows for as long as the client takes them
 */
static void send_rows(struct pk_control_request *r, void *state)
{
	command_t *this = state;
	char *row;
	int i;

	for (i = 0; i < 64; i++)
	{
		if (!array_remove(this->rows, ARRAY_HEAD, &row))
		{
			pk_control_done(r);
			return;
		}
		pk_control_row(r, row);
		free(row);
	}
}

/**
 * The client has hung up, or has got it all
 */
static void request_gone(void *state)
{
	command_t *this = state;

	if (this->request)
	{	/* the helper is still at it, and done() frees */
		this->over = TRUE;
		return;
	}
	destroy_command(this);
}

static void no_rows_yet(struct pk_control_request *r, void *state)
{
	command_t *this = state;

	if (!this->request)
	{
		send_rows(r, state);
	}
}

static void done(struct pk_job *job)
{
	command_t *this = (command_t*)job;
	struct pk_control_request *r = this->request;

	this->request = NULL;
	if (this->over)
	{
		destroy_command(this);
	}
	else if (!this->nb)
	{
		pk_control_refuse(r, "there is no SA of \"%.128s\"%s%.128s%s", this->peer,
						  this->child[0] ? " for child \"" : "", this->child, this->child[0] ? "\"" : "");
	}
	else
	{
		pk_control_resume(r);
	}
}

/**
 * Hand a command to the helper: [PEER [CHILD]]
 */
static void give(struct pk_control_request *r, int argc, char **argv, int at_least,
				 void (*work)(struct pk_job *job))
{
	bool reauth = argc > 0 && streq(argv[argc - 1], "reauth");
	command_t *this;

	if (reauth)
	{
		argc--;
	}
	if (argc < at_least || argc > 2)
	{
		pk_control_refuse(r, "want %s", at_least ? "PEER [CHILD]" : "[PEER [CHILD]]");
		return;
	}
	if (reauth && (work != work_rekey || argc == 2))
	{
		pk_control_refuse(r, "\"reauth\" is for IKE SAs, and for rekey");
		return;
	}
	INIT(this,
		.job = {
			.work = work,
			.done = done,
		},
		.request = r,
		.reauth = reauth,
		.rows = array_create(0, 0),
	);
	snprintf(this->peer, sizeof(this->peer), "%s", argc > 0 ? argv[0] : "");
	snprintf(this->child, sizeof(this->child), "%s", argc > 1 ? argv[1] : "");
	pk_control_stream(r, no_rows_yet, request_gone, this);
	pk_helper_give(helper, &this->job);
}

void show_ike(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	give(r, argc, argv, 0, work_ike);
}

void show_children(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	give(r, argc, argv, 0, work_children);
}

void show_rekey(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	give(r, argc, argv, 1, work_rekey);
}

void show_down(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	give(r, argc, argv, 1, work_down);
}

void show_counters(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	plane_stats_t s;
	int i;

	picket_plane->get_stats(picket_plane, &s);
	for (i = 0; i < EVENT_COUNT; i++)
	{
		pk_control_rowf(r, "{\"name\":\"%s\",\"value\":%ju,\"help\":\"%s\"}", events_name(i),
						(uintmax_t)events_read(i), events_help(i));
	}
#define ROW(name, value, help) \
	pk_control_rowf(r, "{\"name\":\"%s\",\"value\":%ju,\"help\":\"%s\"}", name, (uintmax_t)(value), help)
	ROW("ike_packets_in", s.ike_in, "IKE packets from picketd");
	ROW("ike_packets_out", s.ike_out, "IKE packets to picketd");
	ROW("ike_packets_dropped", s.ike_dropped, "IKE packets without room, or without picketd");
	ROW("requests", s.requests, "requests of picketd about SAs and policies");
	ROW("requests_refused", s.refused, "of them, refused");
	ROW("messages_malformed", s.malformed, "messages of picketd that are none");
	ROW("connections", s.connections, "connections made to picketd");
#undef ROW
	pk_control_done(r);
}

int show_init(struct event_base *base, struct pk_diag *diag)
{
	return pk_helper_create(&helper, base, "show", diag);
}

void show_fini(void)
{
	pk_helper_destroy(helper);
}
