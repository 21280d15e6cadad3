#include "policy/agent/evidence.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "attest/daemon/channel.h"
#include "lib/log.h"

#define EVIDENCE_MAX (8u << 20) /* what a stream's queue holds: a DPU has few files */
#define PATIENCE_NS  (10 * PK_NS_PER_S)

struct agent_evidence {
	struct event_base *base;
	char path[512], cert[4096], key[4096];
	agent_evidence_say *say;
	void *arg;
	bool up;
	int listen_fd;
	struct event *accept_event;
	SSL_CTX *tls;
	struct attest_channel *channel; /* NULL: nobody is there */
};

static void
say(struct agent_evidence *e, Picket__V1__Evidence *body)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;

	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_EVIDENCE;
	m.evidence = body;
	e->say(e->arg, &m);
}

static void
hang_up(struct agent_evidence *e, bool tell)
{
	Picket__V1__Evidence m = PICKET__V1__EVIDENCE__INIT;

	if (e->channel == NULL)
		return;
	attest_channel_destroy(e->channel);
	e->channel = NULL;
	m.gone = true;
	if (tell)
		say(e, &m);
}

static void
on_ready(struct attest_channel *c, void *arg)
{
	Picket__V1__Evidence m = PICKET__V1__EVIDENCE__INIT;
	struct attest_binding b = { 0 };
	struct agent_evidence *e = arg;

	if (attest_channel_bind(c, &b) < 0) {
		hang_up(e, false);
		return;
	}
	attest_channel_limit(c, EVIDENCE_MAX);
	m.exporter.data = b.exporter;
	m.exporter.len = sizeof(b.exporter);
	m.dpu_key.data = b.dpu_key;
	m.dpu_key.len = sizeof(b.dpu_key);
	pk_info("own TPM: connected");
	say(e, &m);
}

static void
on_message(struct attest_channel *c, const struct attest_message *in, void *arg)
{
	Picket__V1__Evidence m = PICKET__V1__EVIDENCE__INIT;
	struct agent_evidence *e = arg;
	struct pk_diag diag;
	uint8_t *bytes;
	size_t len;

	(void)c;
	if (attest_message_pack(&bytes, &len, in, &diag) < 0)
		return;
	m.message.data = bytes;
	m.message.len = len;
	say(e, &m);
	free(bytes);
}

static void
on_closed(struct attest_channel *c, const char *why, void *arg)
{
	(void)c;
	pk_info("own TPM: connection ended: %s", why);
	hang_up(arg, true);
}

static const struct attest_channel_ops ops = { on_ready, on_message, on_closed };

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct agent_evidence *e = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct pk_diag diag;

	(void)what;
	if (client < 0)
		return;
	if (!e->up) {
		close(client); /* it tries again */
		return;
	}
	hang_up(e, true);
	SSL_CTX_free(e->tls);
	e->tls = attest_channel_server_tls(e->cert, e->key, &diag);
	if (e->tls == NULL) {
		pk_error("own TPM: %s", diag.text);
		close(client);
		return;
	}
	if (attest_channel_create(
	        &e->channel, e->base, e->tls, client, NULL, PATIENCE_NS, &ops, e) < 0)
		e->channel = NULL;
}

void
agent_evidence_connected(struct agent_evidence *e, bool up)
{
	e->up = up;
	if (!up)
		hang_up(e, false);
}

void
agent_evidence_challenge(struct agent_evidence *e, const Picket__V1__Challenge *m)
{
	struct attest_message out;
	struct pk_diag diag;
	size_t len;

	if (e->channel == NULL)
		return;
	if (m->end) {
		hang_up(e, false);
		return;
	}
	if (m->message.len < ATTEST_MESSAGE_HEADER ||
	    attest_message_length(m->message.data, ATTEST_CHANNEL_SMALL, &len, &diag) < 0 ||
	    len != m->message.len || attest_message_parse(&out, m->message.data, len, &diag) < 0 ||
	    attest_channel_send(e->channel, &out) < 0) {
		pk_warn("own TPM: what the server says cannot be passed on");
		hang_up(e, true);
	}
}

int
agent_evidence_create(struct agent_evidence **out, struct event_base *base, const char *path,
    const char *cert, const char *key, agent_evidence_say *tell, void *arg, struct pk_diag *diag)
{
	struct agent_evidence *e = calloc(1, sizeof(*e));
	char address[600];

	if (e == NULL) {
		pk_diag_set(diag, "no memory to start with");
		return -ENOMEM;
	}
	e->base = base;
	e->say = tell;
	e->arg = arg;
	snprintf(e->path, sizeof(e->path), "%s", path);
	snprintf(e->cert, sizeof(e->cert), "%s", cert);
	snprintf(e->key, sizeof(e->key), "%s", key);
	snprintf(address, sizeof(address), "unix:%s", e->path);
	unlink(e->path);
	e->listen_fd = attest_address_listen(address, diag);
	if (e->listen_fd >= 0)
		e->accept_event = event_new(base, e->listen_fd, EV_READ | EV_PERSIST, on_accept, e);
	if (e->listen_fd < 0 || e->accept_event == NULL || event_add(e->accept_event, NULL) != 0) {
		agent_evidence_destroy(e);
		return -EIO;
	}
	*out = e;
	return 0;
}

void
agent_evidence_destroy(struct agent_evidence *e)
{
	if (e == NULL)
		return;
	attest_channel_destroy(e->channel);
	if (e->accept_event != NULL)
		event_free(e->accept_event);
	if (e->listen_fd >= 0) {
		close(e->listen_fd);
		unlink(e->path);
	}
	SSL_CTX_free(e->tls);
	free(e);
}
