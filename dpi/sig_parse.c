#include "dpi/sig_parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/sig_keyword.h"
#include "dpi/sig_pcre.h"

const uint8_t dpi_lower[256] = {
#define L1(n)  (uint8_t)((n) >= 'A' && (n) <= 'Z' ? (n) + 32 : (n))
#define L4(n)  L1(n), L1((n) + 1), L1((n) + 2), L1((n) + 3)
#define L16(n) L4(n), L4((n) + 4), L4((n) + 8), L4((n) + 12)
#define L64(n) L16(n), L16((n) + 16), L16((n) + 32), L16((n) + 48)
	L64(0), L64(64), L64(128), L64(192)
};

int
dpi_names_get(struct dpi_names *n, const char *name, size_t len)
{
	char **more;

	for (uint16_t i = 0; i < n->nb; i++)
		if (strlen(n->name[i]) == len && memcmp(n->name[i], name, len) == 0)
			return i;
	if (n->nb == DPI_NAMES_MAX)
		return -ENOSPC;
	more = realloc(n->name, (n->nb + 1u) * sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	n->name = more;
	more[n->nb] = strndup(name, len);
	if (more[n->nb] == NULL)
		return -ENOMEM;
	return n->nb++;
}

void
dpi_names_fini(struct dpi_names *n)
{
	for (uint16_t i = 0; i < n->nb; i++)
		free(n->name[i]);
	free(n->name);
	memset(n, 0, sizeof(*n));
}

int
dpi_refuse(struct dpi_parse *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pk_diag_vset(p->diag, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

char *
dpi_trim(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		text[--len] = '\0';
	return text;
}

unsigned int
dpi_split(char *text, char **part, unsigned int max)
{
	unsigned int n = 0;

	for (char *at = text; at != NULL && n < max; n++) {
		char *comma = strchr(at, ',');

		if (comma != NULL)
			*comma = '\0';
		part[n] = dpi_trim(at);
		at = comma != NULL ? comma + 1 : NULL;
	}
	return n;
}

bool
dpi_range_has(const struct dpi_range *r, int64_t x)
{
	switch (r->op) {
	case DPI_EQ:
		return x == r->a;
	case DPI_NE:
		return x != r->a;
	case DPI_LT:
		return x < r->a;
	case DPI_GT:
		return x > r->a;
	case DPI_LE:
		return x <= r->a;
	case DPI_GE:
		return x >= r->a;
	case DPI_BETWEEN:
		return x > r->a && x < r->b;
	default:
		return false;
	}
}

int
dpi_parse_range(struct dpi_parse *p, struct dpi_range *out, const char *text)
{
	const char *at = text;
	char *end;

	memset(out, 0, sizeof(*out));
	while (isspace((unsigned char)*at))
		at++;
	if (*at == '<' || *at == '>') {
		bool eq = at[1] == '=';

		out->op = *at == '<' ? (eq ? DPI_LE : DPI_LT) : (eq ? DPI_GE : DPI_GT);
		at += eq ? 2 : 1;
	} else if (*at == '!') {
		out->op = DPI_NE;
		at++;
	} else if (*at == '=') {
		at++;
	}
	out->a = strtoll(at, &end, 0);
	if (end == at)
		return dpi_refuse(p, "\"%s\" is no number; want 5, <5, >5 or 1<>5", text);
	while (isspace((unsigned char)*end))
		end++;
	if (out->op == DPI_EQ && (strncmp(end, "<>", 2) == 0 || *end == '-')) {
		bool inclusive = *end == '-';

		at = end + (inclusive ? 1 : 2);
		out->op = DPI_BETWEEN;
		out->b = strtoll(at, &end, 0);
		if (end == at || out->a > out->b)
			return dpi_refuse(p, "\"%s\" is no range; want 1<>5", text);
		if (inclusive) {
			out->a--;
			out->b++;
		}
	}
	while (isspace((unsigned char)*end))
		end++;
	if (*end != '\0')
		return dpi_refuse(p, "\"%s\" is no number; want 5, <5, >5 or 1<>5", text);
	return 0;
}

int
dpi_parse_value(struct dpi_parse *p, struct dpi_value *out, const char *text)
{
	char *end;

	out->var = -1;
	out->number = strtoll(text, &end, 0);
	if (end != text && *end == '\0')
		return 0;
	for (uint8_t i = 0; i < p->sig->nb_vars; i++) {
		if (strcmp(p->var[i], text) == 0) {
			out->var = (int8_t)i;
			return 0;
		}
	}
	return dpi_refuse(p, "\"%s\" is neither a number nor a variable extracted before", text);
}

int
dpi_parse_var(struct dpi_parse *p, const char *name)
{
	if (name[0] == '\0' || strlen(name) >= sizeof(p->var[0]) || isdigit((unsigned char)name[0]))
		return dpi_refuse(p, "\"%s\" is no name for a variable", name);
	for (uint8_t i = 0; i < p->sig->nb_vars; i++)
		if (strcmp(p->var[i], name) == 0)
			return i;
	if (p->sig->nb_vars == DPI_VARS_MAX)
		return dpi_refuse(p, "more than %d variables", DPI_VARS_MAX);
	strcpy(p->var[p->sig->nb_vars], name);
	return p->sig->nb_vars++;
}

static bool
same_transforms(const struct dpi_parse *p, const struct dpi_list *l)
{
	if (p->nb_transforms != l->nb_transforms)
		return false;
	for (unsigned int i = 0; i < p->nb_transforms; i++)
		if (p->transform[i].kind != l->transform[i].kind ||
		    p->transform[i].pcre != l->transform[i].pcre ||
		    p->transform[i].key_len != l->transform[i].key_len ||
		    memcmp(p->transform[i].key, l->transform[i].key, p->transform[i].key_len) != 0)
			return false;
	return true;
}

static struct dpi_list *
list_new(struct dpi_parse *p, int buf)
{
	struct dpi_sig *s = p->sig;
	struct dpi_list *more = realloc(s->list, (s->nb_lists + 1u) * sizeof(*more));

	if (more == NULL)
		return NULL;
	s->list = more;
	memset(&more[s->nb_lists], 0, sizeof(*more));
	more[s->nb_lists].buf = (uint8_t)buf;
	return &more[s->nb_lists++];
}

struct dpi_list *
dpi_parse_list_of(struct dpi_parse *p, int buf)
{
	for (unsigned int i = 0; i < p->sig->nb_lists; i++) {
		struct dpi_list *l = &p->sig->list[i];

		if (l->buf == buf && l->nb_transforms == 0 && !l->closed)
			return l;
	}
	return list_new(p, buf);
}

struct dpi_list *
dpi_parse_list(struct dpi_parse *p, bool relative)
{
	struct dpi_list *l = NULL;

	if (p->base64 != NULL)
		return p->base64;
	if (p->sticky == DPI_RAW && relative && p->last_list >= 0)
		return &p->sig->list[p->last_list];
	if (p->sticky == DPI_RAW)
		return dpi_parse_list_of(p, DPI_RAW);
	if (p->list >= 0)
		return &p->sig->list[p->list];
	for (unsigned int i = 0; i < p->sig->nb_lists; i++) {
		l = &p->sig->list[i];
		if (l->buf == p->sticky && same_transforms(p, l) && !l->closed) {
			p->list = (int)i;
			return l;
		}
	}
	l = list_new(p, p->sticky);
	if (l != NULL) {
		p->list = p->sig->nb_lists - 1;
		memcpy(l->transform, p->transform, sizeof(l->transform));
		l->nb_transforms = p->nb_transforms;
		memset(p->transform, 0,
		    sizeof(p->transform)); /* the list owns their expressions now */
		p->nb_transforms = 0;
	}
	return l;
}

struct dpi_item *
dpi_parse_item(struct dpi_parse *p, struct dpi_list *l, enum dpi_item_kind kind)
{
	struct dpi_item *more;

	if (l == NULL)
		return NULL;
	more = realloc(l->item, (l->nb + 1u) * sizeof(*more));
	if (more == NULL)
		return NULL;
	l->item = more;
	memset(&more[l->nb], 0, sizeof(*more));
	more[l->nb].kind = (uint8_t)kind;
	p->last_item = l->nb;
	if (l != p->base64)
		p->last_list = (int)(l - p->sig->list);
	return &more[l->nb++];
}

struct dpi_item *
dpi_parse_last_content(struct dpi_parse *p)
{
	struct dpi_list *l = p->base64;
	struct dpi_item *i;

	if (l == NULL) {
		if (p->last_list < 0)
			return NULL;
		l = &p->sig->list[p->last_list];
	}
	for (i = l->item + l->nb; i > l->item;)
		if ((--i)->kind == DPI_IT_CONTENT)
			return i;
	return NULL;
}

struct dpi_test *
dpi_parse_test(struct dpi_parse *p, enum dpi_test_kind kind)
{
	struct dpi_test *more = realloc(p->sig->test, (p->sig->nb_tests + 1u) * sizeof(*more));

	if (more == NULL)
		return NULL;
	p->sig->test = more;
	memset(&more[p->sig->nb_tests], 0, sizeof(*more));
	more[p->sig->nb_tests].kind = (uint8_t)kind;
	return &more[p->sig->nb_tests++];
}

static void
list_fini(struct dpi_list *l)
{
	for (unsigned int i = 0; i < l->nb; i++) {
		switch (l->item[i].kind) {
		case DPI_IT_CONTENT:
			free(l->item[i].content.bytes);
			break;
		case DPI_IT_PCRE:
			dpi_pcre_destroy(l->item[i].pcre);
			break;
		case DPI_IT_BASE64:
			if (l->item[i].base64.data != NULL) {
				list_fini(l->item[i].base64.data);
				free(l->item[i].base64.data);
			}
			break;
		default:
			break;
		}
	}
	for (unsigned int i = 0; i < l->nb_transforms; i++)
		dpi_pcre_destroy(l->transform[i].pcre);
	free(l->item);
}

void
dpi_sig_destroy(struct dpi_sig *s)
{
	if (s == NULL)
		return;
	for (unsigned int i = 0; i < s->nb_lists; i++)
		list_fini(&s->list[i]);
	free(s->list);
	free(s->test);
	free(s->bits);
	free(s->flowint);
	free(s->msg);
	free(s->classtype);
	free(s->metadata);
	free(s->reference);
	free(s);
}

/* ---- the header ---- */

static const struct {
	const char *name;
	uint8_t layer, protos, family;
	uint16_t flags;
	const char *other;
} protos[] = {
	{ "ip", 0, 0x3f, 0, 0, NULL },
	{ "ipv4", 0, 0x3f, 4, 0, NULL },
	{ "ip4", 0, 0x3f, 4, 0, NULL },
	{ "ipv6", 0, 0x3f, 6, 0, NULL },
	{ "ip6", 0, 0x3f, 6, 0, NULL },
	{ "tcp", 0, 1, 0, 0, NULL },
	{ "tcp-pkt", 0, 1, 0, DPI_SIG_PACKET, NULL },
	{ "tcp-stream", 0, 1, 0, DPI_SIG_STREAM, NULL },
	{ "udp", 0, 2, 0, 0, NULL },
	{ "icmp", 0, 12, 0, 0, NULL },
	{ "icmpv4", 0, 4, 0, 0, NULL },
	{ "icmpv6", 0, 8, 0, 0, NULL },
	{ "sctp", 0, 16, 0, 0, NULL },
	{ "pkthdr", 0, 0x3f, 0, DPI_SIG_PKTHDR, NULL },
	{ "http", DPI_LAYER_HTTP, 1, 0, 0, NULL },
	{ "http1", DPI_LAYER_HTTP, 1, 0, 0, NULL },
	{ "http2", DPI_LAYER_HTTP2, 1, 0, 0, NULL },
	{ "dns", DPI_LAYER_DNS, 3, 0, 0, NULL },
	{ "tls", DPI_LAYER_TLS, 1, 0, 0, NULL },
	{ "ssh", DPI_LAYER_SSH, 1, 0, 0, NULL },
	{ "smtp", DPI_LAYER_SMTP, 1, 0, 0, NULL },
	{ "ftp", DPI_LAYER_FTP, 1, 0, 0, NULL },
	{ "ftp-data", DPI_LAYER_FTP_DATA, 1, 0, 0, NULL },
	{ "smb", DPI_LAYER_SMB, 1, 0, 0, NULL },
	{ "dcerpc", DPI_LAYER_DCERPC, 1, 0, 0, NULL },
	{ "mqtt", DPI_LAYER_MQTT, 1, 0, 0, NULL },
};

static int
read_header(struct dpi_parse *p, char *text, const char **what)
{
	static const char *const actions[] = { "alert", "drop", "reject", "pass", "rejectsrc",
		"rejectdst", "rejectboth" };
	char *word[8], *at = text;
	unsigned int n = 0, i;
	int rc;

	while (n < 7) {
		int level = 0;

		while (isspace((unsigned char)*at))
			at++;
		if (*at == '\0')
			break;
		word[n++] = at;
		for (; *at != '\0' && (level > 0 || !isspace((unsigned char)*at)); at++)
			level += *at == '[' ? 1 : *at == ']' ? -1 : 0;
		if (*at != '\0')
			*at++ = '\0';
	}
	*what = "header";
	if (n != 7)
		return dpi_refuse(
		    p, "want action, protocol, addresses, ports, -> and options in brackets");
	for (i = 0; i < PK_COUNT(actions) && strcmp(actions[i], word[0]) != 0; i++)
		;
	*what = word[0];
	if (i == PK_COUNT(actions))
		return dpi_refuse(p, "unknown action; known: alert, drop, reject, pass");
	p->sig->action = (uint8_t)(i > DPI_ACT_PASS ? DPI_ACT_REJECT : i);
	*what = word[1];
	for (i = 0; i < PK_COUNT(protos) && strcmp(protos[i].name, word[1]) != 0; i++)
		;
	if (i == PK_COUNT(protos))
		return dpi_refuse(p, "protocol is not inspected here");
	p->sig->layer = protos[i].layer;
	p->sig->protos = protos[i].protos;
	p->sig->family = protos[i].family;
	p->sig->flags |= protos[i].flags;
	*what = word[4];
	if (strcmp(word[4], "<>") == 0)
		p->sig->flags |= DPI_SIG_BOTH_WAYS;
	else if (strcmp(word[4], "->") != 0)
		return dpi_refuse(p, "want -> or <> between the two sides");
	*what = word[2];
	rc = dpi_nets_parse((const struct dpi_nets **)&p->sig->src, p->env->vars, word[2], p->diag);
	if (rc == 0) {
		*what = word[5];
		rc = dpi_nets_parse(
		    (const struct dpi_nets **)&p->sig->dst, p->env->vars, word[5], p->diag);
	}
	if (rc == 0) {
		*what = word[3];
		rc = dpi_ports_parse(
		    (const struct dpi_ports **)&p->sig->sport, p->env->vars, word[3], p->diag);
	}
	if (rc == 0) {
		*what = word[6];
		rc = dpi_ports_parse(
		    (const struct dpi_ports **)&p->sig->dport, p->env->vars, word[6], p->diag);
	}
	return rc;
}

/* ---- options ---- */

static const struct dpi_keyword *
find_keyword(const char *name)
{
	static const struct dpi_keyword *const tables[] = { dpi_keywords_content,
		dpi_keywords_bytes, dpi_keywords_header, dpi_keywords_state };

	for (size_t t = 0; t < PK_COUNT(tables); t++)
		for (const struct dpi_keyword *k = tables[t]; k->name != NULL; k++)
			if (strcmp(k->name, name) == 0)
				return k;
	return NULL;
}

static int
read_option(struct dpi_parse *p, char *option, bool *ip_only, const char **what)
{
	char *colon = strchr(option, ':'), *value = (char *)(uintptr_t) "";
	const struct dpi_keyword *k;
	bool negated = false;
	size_t len;

	if (colon != NULL) {
		*colon = '\0';
		value = dpi_trim(colon + 1);
	}
	*what = dpi_trim(option);
	k = find_keyword(*what);
	if (k == NULL)
		return dpi_refuse(p, "keyword is not known here");
	*ip_only &= (k->flags & DPI_KW_IP_ONLY) != 0;
	if (k->flags & DPI_KW_NO_VALUE && value[0] != '\0')
		return dpi_refuse(p, "takes no value");
	if (k->flags & DPI_KW_VALUE && value[0] == '\0')
		return dpi_refuse(p, "wants a value");
	if (k->flags & DPI_KW_NEGATED && value[0] == '!') {
		negated = true;
		value = dpi_trim(value + 1);
	}
	len = strlen(value);
	if (len >= 2 && value[0] == '"') {
		if (value[len - 1] != '"')
			return dpi_refuse(p, "quote is not closed");
		value[len - 1] = '\0';
		value++;
	}
	return k->read(p, value, negated, k->arg);
}

/* ---- the rule as a whole ---- */

static bool
says_of_end(const struct dpi_item *i)
{
	switch (i->kind) {
	case DPI_IT_CONTENT:
		return i->negated || i->content.ends;
	case DPI_IT_PCRE:
	case DPI_IT_ISDATAAT:
		return i->negated;
	case DPI_IT_BSIZE:
		return true;
	default:
		return false;
	}
}

static void
finish_list(struct dpi_list *l)
{
	for (unsigned int i = 0; i < l->nb; i++) {
		l->needs_end |= says_of_end(&l->item[i]);
		if (l->item[i].kind == DPI_IT_BASE64 && l->item[i].base64.data != NULL)
			finish_list(l->item[i].base64.data);
		for (unsigned int j = i + 1; j < l->nb && !l->item[i].relative_next; j++)
			if (!l->item[j].negated || l->item[j].relative) {
				l->item[i].relative_next = l->item[j].relative;
				break;
			}
	}
	for (unsigned int i = 0; i < l->nb_transforms; i++)
		l->needs_end |= l->transform[i].kind != DPI_TR_DOTPREFIX;
}

/* How well a content tells its rule from others: length, but hardly more than 32 bytes, and few different
 * bytes count less. */
static unsigned int
strength(const struct dpi_content *c)
{
	uint64_t seen[4] = { 0 };
	unsigned int score = 0, len = PK_MIN(c->len, 40u);

	for (unsigned int i = 0; i < len; i++) {
		uint8_t b = c->bytes[i];
		bool is_new = !(seen[b >> 6] >> (b & 63) & 1);

		seen[b >> 6] |= UINT64_C(1) << (b & 63);
		score += is_new ? 4 : 1;
		score -= b == 0 || b == ' ' ? 1 : 0;
	}
	return score;
}

static void
choose_fast(struct dpi_sig *s)
{
	unsigned int best = 0;

	s->fast_list = -1;
	for (unsigned int l = 0; l < s->nb_lists; l++) {
		const struct dpi_list *list = &s->list[l];
		bool changed = false;

		for (unsigned int t = 0; t < list->nb_transforms; t++)
			changed |= list->transform[t].kind != DPI_TR_DOTPREFIX;
		for (unsigned int i = 0; i < list->nb; i++) {
			const struct dpi_content *c = &list->item[i].content;
			unsigned int score;

			if (list->item[i].kind != DPI_IT_CONTENT || list->item[i].negated ||
			    c->len == 0 || changed)
				continue;
			/* A content in a parsed buffer is met by less traffic than one in the raw bytes. */
			score = strength(c) * 2 + (list->buf != DPI_RAW ? 40 : 0);
			if (c->fast)
				score = UINT16_MAX;
			if (score > best) {
				best = score;
				s->fast_list = (int16_t)l;
				s->fast_item = (int16_t)i;
			}
		}
	}
}

/* How the raw bytes are looked at, and whether the rule is about transactions at all. */
static int
finish(struct dpi_parse *p, bool ip_only)
{
	struct dpi_sig *s = p->sig;
	uint64_t layers = 0;
	bool raw = false, tx = false, front = false;

	for (unsigned int i = 0; i < s->nb_lists; i++) {
		struct dpi_list *l = &s->list[i];
		const struct dpi_buf_info *b = &dpi_buf_info[l->buf];

		if (l->nb == 0)
			continue;
		finish_list(l);
		if (l->buf == DPI_RAW) {
			raw = true;
			for (unsigned int j = 0; j < l->nb; j++)
				front |= l->item[j].kind == DPI_IT_CONTENT &&
				    (l->item[j].content.has_depth || l->item[j].content.has_offset);
			continue;
		}
		if (b->flags & DPI_BUF_PACKET) {
			s->flags |= DPI_SIG_PACKET;
			continue;
		}
		tx = true;
		if (b->layer != DPI_LAYER_NONE) {
			if (layers != 0 && !(layers >> b->layer & 1))
				return dpi_refuse(
				    p, "buffers of different protocols (%s)", b->name);
			layers = UINT64_C(1) << b->layer;
		}
		s->dirs |= b->dirs;
	}
	if (s->layer != DPI_LAYER_NONE) {
		if (layers != 0 && !(layers >> s->layer & 1) &&
		    !(s->layer == DPI_LAYER_HTTP2 && layers >> DPI_LAYER_HTTP & 1))
			return dpi_refuse(p, "its buffers do not belong to protocol %s",
			    dpi_layer_name(s->layer));
	}
	s->layers = layers;
	if (tx && s->protos & 0x3c && layers != 0)
		s->protos &= 3;
	if (tx && layers != 0 && !(s->protos & 3))
		return dpi_refuse(p, "its buffers do not occur over the protocol of its header");
	if (p->to_server && p->to_client)
		return dpi_refuse(p, "flow names both directions");
	for (unsigned int i = 0; i < s->nb_lists; i++) {
		uint8_t d = dpi_buf_info[s->list[i].buf].dirs;

		if ((p->to_server && !(d & DPI_TO_SERVER)) ||
		    (p->to_client && !(d & DPI_TO_CLIENT)))
			return dpi_refuse(p, "%s does not occur in the direction that flow names",
			    dpi_buf_info[s->list[i].buf].name);
	}
	if (tx)
		s->flags |= DPI_SIG_TX;
	if (raw && s->protos & 1 && !(s->flags & (DPI_SIG_PACKET | DPI_SIG_STREAM))) {
		s->flags |= DPI_SIG_STREAM;
		if (front)
			s->flags |= DPI_SIG_PACKET;
	}
	if (raw && !(s->protos & 1))
		s->flags |= DPI_SIG_PACKET;
	if (ip_only && s->nb_lists == 0 && s->nb_tests == 0 && s->layer == 0 && s->sport->any &&
	    s->dport->any && !(s->flags & (DPI_SIG_PKTHDR | DPI_SIG_PACKET | DPI_SIG_STREAM)))
		s->flags |= DPI_SIG_IP_ONLY;
	choose_fast(s);
	return 0;
}

int
dpi_sig_parse(struct dpi_sig **out, struct dpi_parse_env *env, const char *text, size_t len,
    const char *file, uint32_t line, char *keyword, struct pk_diag *diag)
{
	char *copy = malloc(len + 1), *open, *close, *at;
	const char *what = "rule";
	struct pk_diag why = { "" };
	struct dpi_parse p = {
		.env = env, .diag = &why, .list = -1, .last_list = -1, .base64_list = -1
	};
	bool ip_only = true;
	int rc;

	p.sig = calloc(1, sizeof(*p.sig));
	if (copy == NULL || p.sig == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	p.sig->gid = 1;
	p.sig->priority = 3;
	p.sig->file = file;
	p.sig->line = line;
	rc = -EINVAL;
	open = strchr(copy, '(');
	close = strrchr(copy, ')');
	if (strlen(copy) != len || open == NULL || close == NULL || close < open) {
		dpi_refuse(&p, "want options in round brackets");
		goto out;
	}
	*open = *close = '\0';
	rc = read_header(&p, copy, &what);
	for (at = open + 1; rc == 0;) {
		char *end = at;

		while (*end != '\0' && *end != ';')
			end += end[0] == '\\' && end[1] != '\0' ? 2 : 1;
		if (*end == '\0') {
			if (*dpi_trim(at) != '\0') {
				what = dpi_trim(at);
				rc = dpi_refuse(&p, "option is not closed by a semicolon");
			}
			break;
		}
		*end = '\0';
		at = dpi_trim(at);
		if (*at != '\0')
			rc = read_option(&p, at, &ip_only, &what);
		at = end + 1;
	}
	if (rc == 0 && p.skip) {
		rc = DPI_PARSE_SKIP;
	} else if (rc == 0) {
		what = "rule";
		if (p.sig->sid == 0) {
			what = "sid";
			rc = dpi_refuse(&p, "is missing");
		} else {
			rc = finish(&p, ip_only);
		}
	}
out:
	for (unsigned int i = 0; i < p.nb_transforms; i++)
		dpi_pcre_destroy(p.transform[i].pcre);
	if (rc == -EINVAL) {
		if (keyword != NULL)
			snprintf(keyword, DPI_KEYWORD_MAX, "%s", what);
		pk_diag_at(diag, file, line, 0, "%.64s: %s", what, why.text);
	}
	if (rc != 0)
		dpi_sig_destroy(p.sig);
	else
		*out = p.sig;
	free(copy);
	return rc;
}
