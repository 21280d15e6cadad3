#include "attest/daemon/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "attest/daemon/channel.h"
#include "attest/daemon/logs.h"
#include "attest/daemon/tpm.h"
#include "attest/state.h"
#include "attest/tpm.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/spiffe.h"

struct attest_host {
	struct event_base *base;
	const struct attestd_conf *conf;
	struct attest_tpm_conf tpm_conf;
	struct attest_tpm *tpm;
	SSL_CTX *tls;
	struct attest_channel *channel; /* NULL: not connected */
	struct event *redial, *watch;
	struct attest_binding binding;
	struct attest_ima_file ima;
	uint8_t *chain;
	size_t chain_len;
	uint32_t sent; /* entries of the list in the last evidence */
	bool nudged;   /* the DPU knows that there is more */
	bool quiet;    /* the log has told that the DPU is away */
	enum attest_state state;
	uint64_t epoch;
};

static void
later(struct event *e, uint64_t ns)
{
	struct timeval tv = { .tv_sec = (time_t)(ns / PK_NS_PER_S),
		.tv_usec = (suseconds_t)(ns % PK_NS_PER_S / 1000) };

	event_add(e, &tv);
}

static void
hang_up(struct attest_host *h)
{
	attest_channel_destroy(h->channel);
	h->channel = NULL;
	event_del(h->watch);
	later(h->redial, h->conf->reconnect_ns);
}

/* The TPM may have gone with its machine, as a virtual one does; then it is looked for again. */
static void
tpm_failed(struct attest_host *h, int err, const struct pk_diag *diag)
{
	pk_error("%s", diag->text);
	if (err == -EIO || err == -EACCES) {
		attest_tpm_destroy(h->tpm);
		h->tpm = NULL;
	}
	hang_up(h);
}

static void
send_or_end(struct attest_host *h, const struct attest_message *m)
{
	int err = attest_channel_send(h->channel, m);

	if (err < 0) {
		pk_warn("dpu: %s not sent: %s", attest_message_name(m->type), strerror(-err));
		hang_up(h);
	}
}

static void
on_ready(struct attest_channel *c, void *arg)
{
	struct attest_host *h = arg;
	struct attest_message m = { .type = ATTEST_MESSAGE_HELLO };
	struct attest_bytes cert = attest_tpm_ek_cert(h->tpm);
	struct attest_public ak;

	attest_channel_limit(c, ATTEST_CHANNEL_SMALL);
	m.field[ATTEST_FIELD_HOST] =
	    (struct attest_bytes){ (const uint8_t *)h->binding.host, strlen(h->binding.host) };
	m.field[ATTEST_FIELD_EK_PUBLIC] = attest_tpm_ek_public(h->tpm);
	m.field[ATTEST_FIELD_AK_PUBLIC] = attest_tpm_ak_public(h->tpm);
	if (cert.len > 0)
		m.field[ATTEST_FIELD_EK_CERT] = cert;
	if (h->chain_len > 0)
		m.field[ATTEST_FIELD_EK_CHAIN] = (struct attest_bytes){ h->chain, h->chain_len };
	if (attest_channel_bind(c, &h->binding) < 0 ||
	    attest_public_parse(&ak, m.field[ATTEST_FIELD_AK_PUBLIC].at,
	        m.field[ATTEST_FIELD_AK_PUBLIC].len, NULL) < 0 ||
	    (h->binding.ak_name_len = attest_public_name(&ak, h->binding.ak_name)) == 0) {
		pk_error("dpu: the connection cannot be bound to our key");
		hang_up(h);
		return;
	}
	h->quiet = false;
	h->sent = 0;
	h->nudged = true; /* it asks without being told, at first */
	pk_notice("dpu %s: connected", h->binding.dpu);
	send_or_end(h, &m);
	later(h->watch, h->conf->watch_ns);
}

static void
answer_activate(struct attest_host *h, const struct attest_message *in)
{
	struct attest_message m = { .type = ATTEST_MESSAGE_ACTIVATED };
	struct pk_secret secret = { 0 };
	struct pk_diag diag;
	int err = attest_tpm_activate(h->tpm, in->field[ATTEST_FIELD_ID_OBJECT],
	    in->field[ATTEST_FIELD_ENCRYPTED], &secret, &diag);

	if (err < 0) {
		tpm_failed(h, err, &diag);
		return;
	}
	m.field[ATTEST_FIELD_SECRET] = (struct attest_bytes){ secret.bytes, secret.len };
	send_or_end(h, &m);
	pk_secret_fini(&secret);
}

static void
answer_challenge(struct attest_host *h, const struct attest_message *in)
{
	uint32_t from = (uint32_t)attest_message_number(in, ATTEST_FIELD_IMA_FROM);
	struct attest_message m = { .type = ATTEST_MESSAGE_EVIDENCE };
	struct attest_quoted quoted = { 0 };
	uint8_t qualifying[32], store[8], *log = NULL;
	size_t log_len = 0;
	struct pk_diag diag;
	struct attest_selection selection;
	int err = attest_qualifying_data(&h->binding, in->field[ATTEST_FIELD_NONCE].at, qualifying);

	attest_message_selection(in, &selection);
	if (err == 0)
		err = attest_tpm_quote(h->tpm, &selection, qualifying, &quoted, &diag);
	if (err < 0) {
		tpm_failed(h, err, &diag);
		return;
	}
	/* The list after the quote: it may know more than was quoted, but never less. */
	err = attest_ima_file_read(&h->ima, h->conf->ima, &diag);
	if (err < 0 && err != -ENOENT)
		pk_warn("%s", diag.text);
	if (attest_message_number(in, ATTEST_FIELD_WANT_LOG) != 0 &&
	    attest_file_read(h->conf->eventlog, ATTEST_LOG_MAX, &log, &log_len, &diag) < 0)
		pk_info("%s", diag.text);
	attest_message_set_number(&m, ATTEST_FIELD_IMA_FROM, from, store);
	m.field[ATTEST_FIELD_QUOTE] = (struct attest_bytes){ quoted.message, quoted.message_len };
	m.field[ATTEST_FIELD_SIGNATURE] =
	    (struct attest_bytes){ quoted.signature, quoted.signature_len };
	m.field[ATTEST_FIELD_PCR_VALUES] =
	    (struct attest_bytes){ (const uint8_t *)quoted.values, strlen(quoted.values) };
	if (log != NULL && log_len > 0)
		m.field[ATTEST_FIELD_EVENTLOG] = (struct attest_bytes){ log, log_len };
	if (err == 0)
		m.field[ATTEST_FIELD_IMA] = attest_ima_file_from(&h->ima, from);
	h->sent = h->ima.entries;
	h->nudged = false;
	send_or_end(h, &m);
	attest_quoted_fini(&quoted);
	free(log);
}

static void
note_verdict(struct attest_host *h, const struct attest_message *m)
{
	enum attest_state state = (enum attest_state)attest_message_number(m, ATTEST_FIELD_STATE);
	uint64_t epoch = attest_message_number(m, ATTEST_FIELD_EPOCH);
	struct attest_bytes text = m->field[ATTEST_FIELD_TEXT];

	if (state == h->state && epoch == h->epoch)
		return;
	h->state = state;
	h->epoch = epoch;
	pk_notice("dpu %s: this host is %s (epoch %llu)%s%.*s", h->binding.dpu,
	    attest_state_name(state), (unsigned long long)epoch, text.len > 0 ? ": " : "",
	    (int)text.len, text.at != NULL ? (const char *)text.at : "");
}

static void
on_message(struct attest_channel *c, const struct attest_message *m, void *arg)
{
	struct attest_host *h = arg;

	(void)c;
	switch (m->type) {
	case ATTEST_MESSAGE_ACTIVATE:
		answer_activate(h, m);
		break;
	case ATTEST_MESSAGE_CHALLENGE:
		answer_challenge(h, m);
		break;
	case ATTEST_MESSAGE_VERDICT:
		note_verdict(h, m);
		break;
	default:
		pk_warn("dpu: it says %s, which only a host may", attest_message_name(m->type));
		hang_up(h);
	}
}

static void
on_closed(struct attest_channel *c, const char *why, void *arg)
{
	struct attest_host *h = arg;

	(void)c;
	if (!h->quiet)
		pk_warn("dpu %s: %s", h->conf->dpu_address, why);
	h->quiet = true;
	hang_up(h);
}

static const struct attest_channel_ops ops = { on_ready, on_message, on_closed };

/* More files have run since the last evidence: the DPU need not wait for its next turn to hear of it. */
static void
on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct attest_host *h = arg;
	struct attest_message m = { .type = ATTEST_MESSAGE_NUDGE };

	(void)fd;
	(void)what;
	later(h->watch, h->conf->watch_ns);
	if (h->nudged || attest_ima_file_read(&h->ima, h->conf->ima, NULL) < 0 ||
	    h->ima.entries <= h->sent)
		return;
	h->nudged = true;
	send_or_end(h, &m);
}

static void
on_redial(evutil_socket_t fd, short what, void *arg)
{
	struct attest_host *h = arg;
	struct pk_diag diag;

	(void)what;
	fd = -1;
	if (h->tpm == NULL && attest_tpm_create(&h->tpm, &h->tpm_conf, &diag) < 0)
		h->tpm = NULL;
	else
		fd = attest_address_connect(h->conf->dpu_address, &diag);
	if (fd < 0 ||
	    attest_channel_create(
	        &h->channel, h->base, h->tls, fd, h->conf->dpu, 10 * PK_NS_PER_S, &ops, h) < 0) {
		if (fd < 0 && !h->quiet)
			pk_warn("%s", diag.text);
		h->quiet = true;
		later(h->redial, h->conf->reconnect_ns);
	}
}

static int
set_names(struct attest_host *h, struct pk_diag *diag)
{
	const struct attestd_conf *conf = h->conf;
	char machine[256] = "";

	if (gethostname(machine, sizeof(machine) - 1) == 0)
		machine[strcspn(machine, ".")] = '\0';
	if ((size_t)snprintf(h->binding.host, sizeof(h->binding.host), "%s",
	        conf->name[0] != '\0' ? conf->name : machine) >= sizeof(h->binding.host) ||
	    !pk_spiffe_name_ok(h->binding.host)) {
		pk_diag_set(diag, "name = %s: want letters, digits, '.', '-' and '_', at most %d",
		    h->binding.host, ATTEST_HOST_MAX - 1);
		return -EINVAL;
	}
	if ((size_t)snprintf(h->binding.dpu, sizeof(h->binding.dpu), "%s", conf->dpu) >=
	        sizeof(h->binding.dpu) ||
	    !pk_spiffe_name_ok(conf->dpu)) {
		pk_diag_set(diag, "dpu = %s: want the name in the DPU's certificate", conf->dpu);
		return -EINVAL;
	}
	return 0;
}

int
attest_host_create(struct attest_host **out, struct event_base *base,
    const struct attestd_conf *conf, struct pk_diag *diag)
{
	struct attest_host *h = calloc(1, sizeof(*h));
	int rc;

	if (h == NULL)
		return -ENOMEM;
	h->base = base;
	h->conf = conf;
	h->tpm_conf = (struct attest_tpm_conf){
		.tcti = conf->tpm, .ak = (enum attest_ak_kind)conf->ak, .share = conf->tpm_share
	};
	rc = set_names(h, diag);
	if (rc == 0 && conf->ek_chain[0] != '\0')
		rc = attest_file_read(conf->ek_chain, 65536, &h->chain, &h->chain_len, diag);
	if (rc == 0)
		rc = attest_tpm_create(&h->tpm, &h->tpm_conf, diag);
	if (rc == 0 && (h->tls = attest_channel_client_tls(conf->ca, diag)) == NULL)
		rc = -EINVAL;
	if (rc == 0) {
		h->redial = evtimer_new(base, on_redial, h);
		h->watch = evtimer_new(base, on_watch, h);
		rc = h->redial != NULL && h->watch != NULL ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		attest_host_destroy(h);
		return rc;
	}
	later(h->redial, 0);
	*out = h;
	return 0;
}

void
attest_host_destroy(struct attest_host *h)
{
	if (h == NULL)
		return;
	attest_channel_destroy(h->channel);
	if (h->redial != NULL)
		event_free(h->redial);
	if (h->watch != NULL)
		event_free(h->watch);
	SSL_CTX_free(h->tls);
	attest_tpm_destroy(h->tpm);
	attest_ima_file_fini(&h->ima);
	free(h->chain);
	free(h);
}
