#include "dpi/sig_net.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16 /* variables and brackets inside each other */

struct var {
	char *name, *value;
};

struct made {
	char *text;
	struct dpi_nets *nets;
	struct dpi_ports *ports;
	struct made *next;
};

#define BUCKETS 256

struct dpi_vars {
	struct var *var;
	size_t nb;
	struct made *made[BUCKETS];
};

static const char *const defaults[][2] = {
	{ "HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]" },
	{ "EXTERNAL_NET", "!$HOME_NET" },
	{ "HTTP_SERVERS", "$HOME_NET" },
	{ "SMTP_SERVERS", "$HOME_NET" },
	{ "SQL_SERVERS", "$HOME_NET" },
	{ "DNS_SERVERS", "$HOME_NET" },
	{ "TELNET_SERVERS", "$HOME_NET" },
	{ "AIM_SERVERS", "$EXTERNAL_NET" },
	{ "DC_SERVERS", "$HOME_NET" },
	{ "DNP3_SERVER", "$HOME_NET" },
	{ "DNP3_CLIENT", "$HOME_NET" },
	{ "MODBUS_CLIENT", "$HOME_NET" },
	{ "MODBUS_SERVER", "$HOME_NET" },
	{ "ENIP_CLIENT", "$HOME_NET" },
	{ "ENIP_SERVER", "$HOME_NET" },
	{ "HTTP_PORTS", "80" },
	{ "SHELLCODE_PORTS", "!80" },
	{ "ORACLE_PORTS", "1521" },
	{ "SSH_PORTS", "22" },
	{ "DNP3_PORTS", "20000" },
	{ "MODBUS_PORTS", "502" },
	{ "FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]" },
	{ "FTP_PORTS", "21" },
	{ "GENEVE_PORTS", "6081" },
	{ "VXLAN_PORTS", "4789" },
	{ "TEREDO_PORTS", "3544" },
	{ "SIP_PORTS", "[5060,5061]" },
};

int
dpi_vars_set(struct dpi_vars *v, const char *name, const char *value)
{
	struct var *more;

	for (size_t i = 0; i < v->nb; i++) {
		if (strcmp(v->var[i].name, name) == 0) {
			char *copy = strdup(value);

			if (copy == NULL)
				return -ENOMEM;
			free(v->var[i].value);
			v->var[i].value = copy;
			return 0;
		}
	}
	more = realloc(v->var, (v->nb + 1) * sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	v->var = more;
	more[v->nb].name = strdup(name);
	more[v->nb].value = strdup(value);
	if (more[v->nb].name == NULL || more[v->nb].value == NULL) {
		free(more[v->nb].name);
		free(more[v->nb].value);
		return -ENOMEM;
	}
	v->nb++;
	return 0;
}

int
dpi_vars_create(struct dpi_vars **out)
{
	struct dpi_vars *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < PK_COUNT(defaults); i++) {
		if (dpi_vars_set(v, defaults[i][0], defaults[i][1]) < 0) {
			dpi_vars_destroy(v);
			return -ENOMEM;
		}
	}
	*out = v;
	return 0;
}

void
dpi_vars_destroy(struct dpi_vars *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->nb; i++) {
		free(v->var[i].name);
		free(v->var[i].value);
	}
	for (size_t b = 0; b < BUCKETS; b++) {
		while (v->made[b] != NULL) {
			struct made *m = v->made[b];

			v->made[b] = m->next;
			if (m->nets != NULL)
				free(m->nets->net);
			if (m->ports != NULL)
				free(m->ports->bitmap);
			free(m->nets);
			free(m->ports);
			free(m->text);
			free(m);
		}
	}
	free(v->var);
	free(v);
}

static const char *
value_of(const struct dpi_vars *v, const char *name, size_t len)
{
	for (size_t i = 0; i < v->nb; i++)
		if (strlen(v->var[i].name) == len && memcmp(v->var[i].name, name, len) == 0)
			return v->var[i].value;
	return NULL;
}

/* What a walk over the text does with one word. */
struct walk {
	struct dpi_vars *vars;
	struct pk_diag *diag;
	struct dpi_nets *nets;
	uint64_t *yes, *no; /* ports */
	bool positive;
	int (*word)(struct walk *w, const char *word, size_t len, bool negated);
};

/* `list` is word {"," word}, each with "!"s before it, and a word may be a list in brackets. */
static int
walk_list(struct walk *w, const char *at, const char *end, bool negated, unsigned int depth)
{
	if (depth > DEPTH_MAX) {
		pk_diag_set(
		    w->diag, "variables or brackets are nested more than %d deep", DEPTH_MAX);
		return -EINVAL;
	}
	while (at < end) {
		bool not = negated;
		const char *stop;
		int rc, level = 0;

		while (at < end && (isspace((unsigned char)*at) || *at == ',' || *at == '!')) {
			not ^= *at == '!';
			at++;
		}
		for (stop = at; stop < end && (level > 0 || *stop != ','); stop++)
			level += *stop == '[' ? 1 : *stop == ']' ? -1 : 0;
		if (level != 0) {
			pk_diag_set(
			    w->diag, "brackets do not pair in \"%.*s\"", (int)(end - at), at);
			return -EINVAL;
		}
		while (stop > at && isspace((unsigned char)stop[-1]))
			stop--;
		if (stop == at)
			break;
		if (*at == '[' && stop[-1] == ']') {
			rc = walk_list(w, at + 1, stop - 1, not, depth + 1);
		} else if (*at == '$') {
			const char *value = value_of(w->vars, at + 1, (size_t)(stop - at - 1));

			if (value == NULL) {
				pk_diag_set(w->diag, "variable \"%.*s\" is not defined",
				    (int)(stop - at), at);
				return -EINVAL;
			}
			rc = walk_list(w, value, value + strlen(value), not, depth + 1);
		} else {
			rc = w->word(w, at, (size_t)(stop - at), not );
		}
		if (rc < 0)
			return rc;
		at = stop;
		while (at < end && *at != ',')
			at++;
	}
	return 0;
}

static void
last_of_prefix(struct pk_addr *a, unsigned int len)
{
	for (unsigned int i = len; i < pk_addr_bits(a); i++)
		a->bytes[i / 8] |= (uint8_t)(0x80 >> (i % 8));
}

static void
first_of_prefix(struct pk_addr *a, unsigned int len)
{
	for (unsigned int i = len; i < pk_addr_bits(a); i++)
		a->bytes[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
}

static int
net_word(struct walk *w, const char *word, size_t len, bool negated)
{
	struct dpi_nets *n = w->nets;
	struct dpi_net net = { .negated = negated }, *more;
	char text[96], *mark;

	if (len == 3 && memcmp(word, "any", 3) == 0) {
		if (negated) {
			pk_diag_set(w->diag, "!any is nobody");
			return -EINVAL;
		}
		n->any = true;
		w->positive = true;
		return 0;
	}
	if (len >= sizeof(text))
		goto bad;
	memcpy(text, word, len);
	text[len] = '\0';
	mark = strpbrk(text, "/-");
	if (mark != NULL) {
		char kind = *mark;

		*mark++ = '\0';
		if (pk_addr_parse(&net.low, text, NULL) < 0)
			goto bad;
		net.high = net.low;
		if (kind == '-') {
			if (pk_addr_parse(&net.high, mark, NULL) < 0 ||
			    net.high.family != net.low.family)
				goto bad;
		} else {
			struct pk_addr mask;
			char *end;
			unsigned long bits = strtoul(mark, &end, 10);

			if (strchr(mark, '.') != NULL && pk_addr_parse(&mask, mark, NULL) == 0) {
				for (bits = 0; bits < 32 && mask.bytes[bits / 8] & 0x80 >> bits % 8;
				     bits++)
					;
			} else if (*end != '\0' || end == mark || bits > pk_addr_bits(&net.low)) {
				goto bad;
			}
			first_of_prefix(&net.low, (unsigned int)bits);
			last_of_prefix(&net.high, (unsigned int)bits);
		}
	} else {
		if (pk_addr_parse(&net.low, text, NULL) < 0)
			goto bad;
		net.high = net.low;
	}
	more = realloc(n->net, (n->nb + 1u) * sizeof(*more));
	if (more == NULL || n->nb == UINT16_MAX)
		return -ENOMEM;
	n->net = more;
	more[n->nb++] = net;
	w->positive |= !negated;
	return 0;
bad:
	pk_diag_set(w->diag,
	    "\"%.*s\" is no address; want 192.0.2.1, 192.0.2.0/24, a variable or any", (int)len,
	    word);
	return -EINVAL;
}

static int
port_word(struct walk *w, const char *word, size_t len, bool negated)
{
	uint64_t *map = negated ? w->no : w->yes;
	unsigned long from, to;
	char text[32], *end;

	if (len == 3 && memcmp(word, "any", 3) == 0) {
		memset(w->yes, 0xff, 8192);
		w->positive = true;
		return 0;
	}
	if (len >= sizeof(text))
		goto bad;
	memcpy(text, word, len);
	text[len] = '\0';
	from = text[0] == ':' ? 0 : strtoul(text, &end, 10);
	if (text[0] == ':')
		end = text;
	else if (end == text)
		goto bad;
	to = from;
	if (*end == ':' || *end == '-') {
		const char *second = end + 1;

		to = *second == '\0' ? 65535 : strtoul(second, &end, 10);
		if (*second == '\0')
			end = text + strlen(text);
	}
	if (*end != '\0' || from > to || to > 65535)
		goto bad;
	for (unsigned long p = from; p <= to; p++)
		map[p / 64] |= UINT64_C(1) << (p % 64);
	w->positive |= !negated;
	return 0;
bad:
	pk_diag_set(
	    w->diag, "\"%.*s\" is no port; want 80, 1024:2048, a variable or any", (int)len, word);
	return -EINVAL;
}

static struct made *
made_find(struct dpi_vars *v, const char *text, bool nets, struct made ***bucket)
{
	uint32_t h = nets ? 5381 : 77;

	for (const char *c = text; *c != '\0'; c++)
		h = h * 33 + (uint8_t)*c;
	*bucket = &v->made[h % BUCKETS];
	for (struct made *m = **bucket; m != NULL; m = m->next)
		if (strcmp(m->text, text) == 0 && (m->nets != NULL) == nets)
			return m;
	return NULL;
}

static struct made *
made_new(const char *text)
{
	struct made *m = calloc(1, sizeof(*m));

	if (m != NULL && (m->text = strdup(text)) == NULL) {
		free(m);
		m = NULL;
	}
	return m;
}

int
dpi_nets_parse(
    const struct dpi_nets **out, struct dpi_vars *v, const char *text, struct pk_diag *diag)
{
	struct made **bucket, *m = made_find(v, text, true, &bucket);
	struct walk w = { .vars = v, .diag = diag, .word = net_word };
	int rc;

	if (m == NULL) {
		m = made_new(text);
		w.nets = calloc(1, sizeof(*w.nets));
		if (m == NULL || w.nets == NULL)
			rc = -ENOMEM;
		else
			rc = walk_list(&w, text, text + strlen(text), false, 0);
		if (rc < 0) {
			if (w.nets != NULL)
				free(w.nets->net);
			free(w.nets);
			if (m != NULL)
				free(m->text);
			free(m);
			return rc;
		}
		w.nets->any |= !w.positive;
		m->nets = w.nets;
		m->next = *bucket;
		*bucket = m;
	}
	*out = m->nets;
	return 0;
}

int
dpi_ports_parse(
    const struct dpi_ports **out, struct dpi_vars *v, const char *text, struct pk_diag *diag)
{
	struct made **bucket, *m = made_find(v, text, false, &bucket);
	uint64_t yes[1024], no[1024];
	struct walk w = { .vars = v, .diag = diag, .yes = yes, .no = no, .word = port_word };
	bool all = true;
	int rc;

	if (m != NULL) {
		*out = m->ports;
		return 0;
	}
	memset(yes, 0, sizeof(yes));
	memset(no, 0, sizeof(no));
	rc = walk_list(&w, text, text + strlen(text), false, 0);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < 1024; i++) {
		yes[i] = (w.positive ? yes[i] : UINT64_MAX) & ~no[i];
		all &= yes[i] == UINT64_MAX;
	}
	m = made_new(text);
	if (m == NULL)
		return -ENOMEM;
	m->ports = calloc(1, sizeof(*m->ports));
	if (m->ports != NULL && !all) {
		m->ports->bitmap = malloc(sizeof(yes));
		if (m->ports->bitmap == NULL) {
			free(m->ports);
			m->ports = NULL;
		}
	}
	if (m->ports == NULL) {
		free(m->text);
		free(m);
		return -ENOMEM;
	}
	m->ports->any = all;
	if (!all)
		memcpy(m->ports->bitmap, yes, sizeof(yes));
	m->next = *bucket;
	*bucket = m;
	*out = m->ports;
	return 0;
}

bool
dpi_nets_has(const struct dpi_nets *n, const struct pk_addr *a)
{
	bool in = n->any;

	for (unsigned int i = 0; i < n->nb; i++) {
		const struct dpi_net *net = &n->net[i];

		if ((in && !net->negated) || net->low.family != a->family)
			continue;
		if (memcmp(a->bytes, net->low.bytes, 16) < 0 ||
		    memcmp(a->bytes, net->high.bytes, 16) > 0)
			continue;
		if (net->negated)
			return false;
		in = true;
	}
	return in;
}

void
dpi_vars_each(const struct dpi_vars *v,
    void (*each)(void *arg, const char *name, const char *value), void *arg)
{
	for (size_t i = 0; i < v->nb; i++)
		each(arg, v->var[i].name, v->var[i].value);
}
