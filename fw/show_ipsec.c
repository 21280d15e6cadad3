#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/esp.h"
#include "fw/show_priv.h"

#define ROWS 256 /* in a turn */

struct listing {
	const struct fw_show *show;
	bool tunnels;
	uint32_t cursor, reqid; /* 0: all */
	struct pk_prefix peer;  /* family 0: all */
};

static const char *
state_name(uint32_t state)
{
	static const char *const names[] = { "free", "larval", "alive", "dead" };

	return names[state < PK_COUNT(names) ? state : 0];
}

/* ",\"NAME\":N" or null: a limit that is not there is null. */
static const char *
limit(char buf[48], const char *name, uint64_t value)
{
	if (value == 0)
		snprintf(buf, 48, "\"%s\":null", name);
	else
		snprintf(buf, 48, "\"%s\":%" PRIu64, name, value);
	return buf;
}

static void
sa_row(struct pk_control_request *r, const struct esp_sa_info *i)
{
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], idle[32], ports[48] = "", t[48], b[48], p[48];

	if (i->idle_ns == UINT64_MAX)
		snprintf(idle, sizeof(idle), "null");
	else
		snprintf(idle, sizeof(idle), "%" PRIu64, i->idle_ns / PK_NS_PER_MS);
	if (i->encap)
		snprintf(ports, sizeof(ports), ",\"sport\":%u,\"dport\":%u", i->sport, i->dport);
	pk_control_rowf(r,
	    "{\"spi\":\"0x%08x\",\"direction\":\"%s\",\"src\":\"%s\",\"dst\":\"%s\"%s,\"state\":\"%s\",\"current\":%s,"
	    "\"reqid\":%u,\"mode\":\"%s\",\"alg\":\"%s\",\"esn\":%s,\"encap\":%s,\"window\":%u,\"mtu\":%u,\"wire\":%u,"
	    "\"vlan\":%u,\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"refused\":%" PRIu64
	    ",\"seq\":%" PRIu64 ",\"age_s\":%" PRIu64 ",\"idle_ms\":%s,%s,%s,%s}",
	    i->id.spi, i->direction == PK_SADB_IN ? "in" : "out", pk_addr_text(&i->id.src, src),
	    pk_addr_text(&i->id.dst, dst), ports, state_name(i->state),
	    i->current ? "true" : "false", i->reqid, pk_sadb_mode_name(i->mode),
	    ipsec_alg_name(i->alg), i->esn ? "true" : "false", i->encap ? "true" : "false",
	    i->replay_window, i->mtu, i->wire, i->vrf, i->packets, i->bytes, i->refused, i->seq,
	    i->age_ns / PK_NS_PER_S, idle, limit(t, "life_s", i->life.hard_ns / PK_NS_PER_S),
	    limit(b, "life_bytes", i->life.hard_bytes),
	    limit(p, "life_packets", i->life.hard_packets));
}

static void
tunnel_row(
    struct pk_control_request *r, const struct fw_show *show, const struct esp_tunnel_info *t)
{
	const struct esp_sad *sad = show->conf.esp->sad;
	const char *mesh = fw_mesh_link_peer(show->conf.mesh, t->reqid);
	char name[192];
	char src[PK_PREFIX_TEXT], dst[PK_PREFIX_TEXT], peer[PK_ADDR_TEXT] = "",
	                                               us[PK_ADDR_TEXT] = "";
	struct esp_sa_info sa = { .reqid = 0 };
	uint32_t at = t->out;

	if (t->out != ESP_SA_NONE &&
	    (esp_sad_next(sad, &at, fw_workers_now_ns(), &sa) < 0 || sa.index != t->out))
		sa.reqid = 0;
	if (sa.reqid != 0) {
		pk_addr_text(&sa.id.dst, peer);
		pk_addr_text(&sa.id.src, us);
	}
	pk_control_rowf(r,
	    "{\"reqid\":%u,\"state\":\"%s\",\"us\":\"%s\",\"peer\":\"%s\",\"out_spi\":\"0x%08x\",\"inbound_sas\":%u,"
	    "\"selectors\":%u,\"src\":\"%s\",\"dst\":\"%s\",\"alg\":\"%s\",\"packets_out\":%" PRIu64
	    ",\"bytes_out\":%" PRIu64 ",\"mesh\":%s}",
	    t->reqid,
	    sa.reqid != 0      ? "up"
	        : mesh != NULL ? "inbound"
	                       : "trap",
	    us, peer, sa.reqid != 0 ? sa.id.spi : 0, t->nb_in, t->nb_selectors,
	    t->first.reqid != 0 ? pk_prefix_text(&t->first.src, src) : "",
	    t->first.reqid != 0 ? pk_prefix_text(&t->first.dst, dst) : "",
	    sa.reqid != 0 ? ipsec_alg_name(sa.alg) : "none", sa.packets, sa.bytes,
	    mesh != NULL ? pk_json_string(mesh, name, sizeof(name)) : "null");
}

static void
more(struct pk_control_request *r, void *state)
{
	struct listing *l = state;
	const struct esp_sad *sad = l->show->conf.esp->sad;
	struct esp_tunnel_info tunnel;
	struct esp_sa_info sa;

	for (unsigned int k = 0; k < ROWS; k++) {
		if (l->tunnels) {
			if (esp_sad_next_tunnel(sad, &l->cursor, &tunnel) < 0)
				goto done;
			if (l->reqid == 0 || l->reqid == tunnel.reqid)
				tunnel_row(r, l->show, &tunnel);
			continue;
		}
		if (esp_sad_next(sad, &l->cursor, fw_workers_now_ns(), &sa) < 0)
			goto done;
		if ((l->reqid == 0 || l->reqid == sa.reqid) &&
		    (l->peer.addr.family == 0 || pk_prefix_contains(&l->peer, &sa.id.src) ||
		        pk_prefix_contains(&l->peer, &sa.id.dst)))
			sa_row(r, &sa);
	}
	return;
done:
	pk_control_done(r);
}

static void
list(struct pk_control_request *r, int argc, char **argv, const struct fw_show *s, bool tunnels)
{
	struct listing *l;
	struct pk_diag diag;
	char *end;

	if (s->conf.esp == NULL) {
		pk_control_refuse(r, "there is no IPsec here: see ipsec-sas");
		return;
	}
	l = calloc(1, sizeof(*l));
	PK_ASSERT(l != NULL);
	l->show = s;
	l->tunnels = tunnels;
	for (int i = 0; i < argc; i += 2) {
		if (i + 1 < argc && strcmp(argv[i], "reqid") == 0) {
			l->reqid = (uint32_t)strtoul(argv[i + 1], &end, 10);
			if (*end == '\0' && l->reqid != 0)
				continue;
		} else if (i + 1 < argc && !tunnels && strcmp(argv[i], "peer") == 0 &&
		    pk_prefix_parse(&l->peer, argv[i + 1], &diag) == 0) {
			continue;
		}
		free(l);
		pk_control_refuse(
		    r, "want %s", tunnels ? "[reqid N]" : "[reqid N] [peer ADDRESS|PREFIX]");
		return;
	}
	pk_control_stream(r, more, free, l);
	more(r, l);
}

void
fw_show_sa(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	list(r, argc, argv, arg, false);
}

void
fw_show_tunnels(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	list(r, argc, argv, arg, true);
}

void
fw_show_ipsec(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	const struct fw_show *s = arg;
	struct fw_mesh_status mesh = { 0 };
	struct fw_sadb_status st;
	char program[80];

	(void)argv;
	if (argc > 0 || s->conf.esp == NULL) {
		pk_control_refuse(r,
		    argc > 0 ? "show ipsec takes no words"
		             : "there is no IPsec here: see ipsec-sas");
		return;
	}
	fw_sadb_link_status(s->conf.sadb, &st);
	if (s->conf.mesh != NULL)
		fw_mesh_link_status(s->conf.mesh, &mesh);
	pk_control_rowf(r,
	    "{\"sas\":%u,\"sas_max\":%u,\"bytes\":%zu,\"key_maker\":%s,\"requests\":%" PRIu64
	    ",\"refused\":%" PRIu64 ",\"acquires\":%" PRIu64 ",\"expires\":%" PRIu64
	    ",\"ike_in\":%" PRIu64 ",\"ike_out\":%" PRIu64 ",\"events_lost\":%" PRIu64
	    ",\"mesh\":{\"connected\":%s,\"peers\":%u,\"sets\":%" PRIu64 ",\"installed\":%" PRIu64
	    ",\"ended\":%" PRIu64 "}}",
	    esp_sad_count(s->conf.esp->sad), esp_sad_capacity(s->conf.esp->sad),
	    esp_sad_bytes(s->conf.esp->sad),
	    st.connected ? pk_json_string(st.program, program, sizeof(program)) : "null",
	    st.requests, st.refused, st.acquires, st.expires, st.ike_in, st.ike_out, st.events_lost,
	    mesh.connected ? "true" : "false", mesh.nb_peers, mesh.sets, mesh.installed,
	    mesh.ended);
	pk_control_done(r);
}
