#include "ipsec/macsec/msg.h"

#include <errno.h>
#include <string.h>

#define H sizeof(struct macsec_msg_header)

static const struct {
	const char *name;
	size_t len;
} types[MACSEC_MSG_TYPE_COUNT] = {
	[MACSEC_MSG_NONE] = { "none", 0 },
	[MACSEC_MSG_HELLO] = { "hello", H + sizeof(struct macsec_msg_hello) },
	[MACSEC_MSG_PORT] = { "port", H + sizeof(struct macsec_msg_port) },
	[MACSEC_MSG_EAPOL] = { "eapol", H + sizeof(struct macsec_msg_eapol) },
	[MACSEC_MSG_SC_ADD] = { "sc-add", H + sizeof(struct macsec_msg_which) },
	[MACSEC_MSG_SC_DELETE] = { "sc-delete", H + sizeof(struct macsec_msg_which) },
	[MACSEC_MSG_SA_ADD] = { "sa-add", H + sizeof(struct macsec_msg_sa_add) },
	[MACSEC_MSG_SA_DELETE] = { "sa-delete", H + sizeof(struct macsec_msg_which) },
	[MACSEC_MSG_SA_USE] = { "sa-use", H + sizeof(struct macsec_msg_which) },
	[MACSEC_MSG_SA_FLOOR] = { "sa-floor", H + sizeof(struct macsec_msg_which) },
	[MACSEC_MSG_PORT_SET] = { "port-set", H + sizeof(struct macsec_msg_port_set) },
	[MACSEC_MSG_GET] = { "get", H },
	[MACSEC_MSG_SA] = { "sa", H + sizeof(struct macsec_msg_sa) },
	[MACSEC_MSG_STATUS] = { "status", H + sizeof(struct macsec_msg_status) },
};

const char *
macsec_msg_type_name(unsigned int type)
{
	return type < MACSEC_MSG_TYPE_COUNT ? types[type].name : "unknown";
}

void
macsec_msg_init(struct macsec_msg *m, enum macsec_msg_type type, uint16_t port)
{
	memset(m, 0, sizeof(*m));
	m->h.version = MACSEC_MSG_VERSION;
	m->h.type = (uint16_t)type;
	m->h.port = port;
}

size_t
macsec_msg_len(const struct macsec_msg *m)
{
	return m->h.type < MACSEC_MSG_TYPE_COUNT ? types[m->h.type].len : 0;
}

static bool
text_ok(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool
all_zero(const void *bytes, size_t len)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < len; i++)
		if (b[i] != 0)
			return false;
	return true;
}

static bool
which_ok(const struct macsec_msg_which *w)
{
	return w->receive <= 1 && w->an < MACSEC_ANS && all_zero(w->zero, sizeof(w->zero));
}

/* What is wrong with it, or NULL. */
static const char *
wrong(const struct macsec_msg *m)
{
	uint8_t key_len;

	switch (m->h.type) {
	case MACSEC_MSG_HELLO:
		return text_ok(m->hello.program, sizeof(m->hello.program)) &&
		        text_ok(m->hello.instance, sizeof(m->hello.instance))
		    ? NULL
		    : "a name without end";
	case MACSEC_MSG_PORT:
		if (!text_ok(m->port.name, sizeof(m->port.name)))
			return "a name without end";
		return m->port.required <= 1 && m->port.zero == 0 ? NULL : "an unknown flag";
	case MACSEC_MSG_EAPOL:
		if (m->eapol.len < 18 || m->eapol.len > MACSEC_EAPOL_MAX)
			return "a frame of an impossible length";
		return m->eapol.frame[12] == EAPOL_ETHERTYPE >> 8 &&
		        m->eapol.frame[13] == (EAPOL_ETHERTYPE & 0xff)
		    ? NULL
		    : "a frame that is not EAPOL";
	case MACSEC_MSG_SC_ADD:
	case MACSEC_MSG_SC_DELETE:
	case MACSEC_MSG_SA_DELETE:
	case MACSEC_MSG_SA_USE:
	case MACSEC_MSG_SA_FLOOR:
		return which_ok(&m->which) ? NULL : "an impossible association";
	case MACSEC_MSG_SA_ADD:
		key_len = macsec_suite_key_len(m->sa_add.suite);
		if (!which_ok(&m->sa_add.which) || key_len == 0 ||
		    m->sa_add.confidentiality >= MACSEC_CONFIDENTIALITY_COUNT)
			return "an impossible association";
		if (!macsec_suite_xpn(m->sa_add.suite) && m->sa_add.pn > UINT32_MAX)
			return "a packet number of more than 32 bits";
		return all_zero(m->sa_add.zero, sizeof(m->sa_add.zero)) &&
		        all_zero(m->sa_add.zero2, sizeof(m->sa_add.zero2)) &&
		        all_zero(m->sa_add.key + key_len, MACSEC_KEY_MAX - key_len)
		    ? NULL
		    : "a key longer than its suite's";
	case MACSEC_MSG_PORT_SET:
		if (!text_ok(m->port_set.state, sizeof(m->port_set.state)))
			return "a text without end";
		return m->port_set.enabled <= 1 &&
		        all_zero(m->port_set.zero, sizeof(m->port_set.zero))
		    ? NULL
		    : "an unknown flag";
	case MACSEC_MSG_SA:
		return which_ok(&m->sa.which) && m->sa.suite < MACSEC_SUITE_COUNT &&
		        m->sa.in_use <= 1 && m->sa.confidentiality < MACSEC_CONFIDENTIALITY_COUNT
		    ? NULL
		    : "an impossible association";
	case MACSEC_MSG_STATUS:
		if (!text_ok(m->status.text, sizeof(m->status.text)))
			return "a text without end";
		return m->status.error <= 0 ? NULL : "a positive error";
	default:
		return NULL;
	}
}

int
macsec_msg_check(const struct macsec_msg *m, size_t len, struct pk_diag *diag)
{
	const char *why;

	if (len < H || m->h.version != MACSEC_MSG_VERSION) {
		pk_diag_set(diag, "a message of another version; want %d", MACSEC_MSG_VERSION);
		return -EPROTO;
	}
	if (m->h.type == MACSEC_MSG_NONE || len != macsec_msg_len(m)) {
		pk_diag_set(diag, "a message %s of %zu bytes; want %zu",
		    macsec_msg_type_name(m->h.type), len, macsec_msg_len(m));
		return -EPROTO;
	}
	why = m->h.port >= MACSEC_PORTS_MAX     ? "a port beyond the last"
	    : m->h.zero != 0 || m->h.zero2 != 0 ? "a field that has to be 0"
	                                        : wrong(m);
	if (why == NULL)
		return 0;
	pk_diag_set(diag, "a message %s with %s", macsec_msg_type_name(m->h.type), why);
	return -EPROTO;
}
