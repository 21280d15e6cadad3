#include "lib/tls_msg.h"

#include <errno.h>
#include <string.h>

void
pk_tls_msg_init(struct pk_tls_msg *m, enum pk_tls_msg_type type, uint32_t seq)
{
	memset(m, 0, sizeof(*m));
	m->version = PK_TLS_MSG_VERSION;
	m->type = (uint16_t)type;
	m->seq = seq;
}

static bool
is_text(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

static const char *
who_wrong(const struct pk_tls_who *w, bool answer)
{
	static const uint8_t zero[16];

	if ((w->addr.family != 4 && w->addr.family != 6) || memcmp(w->addr.zero, zero, 3) != 0 ||
	    (w->addr.family == 4 && memcmp(w->addr.bytes + 4, zero, 12) != 0))
		return "an IPv4 or IPv6 address";
	if (w->known > 1 || w->local > 1 || (w->local && !w->known))
		return "flags that are 0 or 1, and nobody local who is not known";
	if (!is_text(w->name, sizeof(w->name)) || (w->known != 0) != (w->name[0] != '\0'))
		return "a name that ends inside its array, of whoever is known";
	if (!answer && (w->known || w->wire != 0 || w->generation != 0))
		return "a question with an address and nothing else";
	return NULL;
}

static const char *
wrong(const struct pk_tls_msg *m)
{
	switch (m->type) {
	case PK_TLS_HELLO:
		return is_text(m->hello.program, sizeof(m->hello.program)) &&
		        is_text(m->hello.instance, sizeof(m->hello.instance)) && m->hello.zero == 0
		    ? NULL
		    : "names that end inside their arrays";
	case PK_TLS_WHO:
		return who_wrong(&m->who, false);
	case PK_TLS_IS:
		return who_wrong(&m->who, true);
	case PK_TLS_ALIVE:
	case PK_TLS_CHANGED:
		return NULL;
	default:
		return "a type from 1 to 5";
	}
}

int
pk_tls_msg_check(const struct pk_tls_msg *m, size_t len, struct pk_diag *diag)
{
	const char *want;

	if (len != sizeof(*m)) {
		pk_diag_set(diag, "message of %zu bytes; want %zu", len, sizeof(*m));
		return -EPROTO;
	}
	if (m->version != PK_TLS_MSG_VERSION) {
		pk_diag_set(diag, "version %u; want %u", m->version, PK_TLS_MSG_VERSION);
		return -EPROTO;
	}
	want = wrong(m);
	if (want == NULL)
		return 0;
	pk_diag_set(diag, "message of type %u: want %s", m->type, want);
	return -EPROTO;
}
