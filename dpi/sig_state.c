#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/sig_keyword.h"

/* Keywords about the session and what is remembered, and those that only describe the rule. */

static int
read_flow(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	static const struct {
		const char *word;
		uint16_t flag;
	} known[] = {
		{ "to_server", DPI_FLOW_TO_SERVER },
		{ "from_client", DPI_FLOW_TO_SERVER },
		{ "to_client", DPI_FLOW_TO_CLIENT },
		{ "from_server", DPI_FLOW_TO_CLIENT },
		{ "established", DPI_FLOW_ESTABLISHED },
		{ "not_established", DPI_FLOW_NOT_ESTABLISHED },
		{ "stateless", DPI_FLOW_STATELESS },
		{ "only_stream", DPI_FLOW_ONLY_STREAM },
		{ "no_stream", DPI_FLOW_NO_STREAM },
		{ "only_frag", DPI_FLOW_ONLY_FRAG },
		{ "no_frag", DPI_FLOW_NO_FRAG },
	};
	char text[128], *part[8];
	unsigned int n, k;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 8);
	for (unsigned int i = 0; i < n; i++) {
		for (k = 0; k < PK_COUNT(known) && strcasecmp(known[k].word, part[i]) != 0; k++)
			;
		if (k == PK_COUNT(known))
			return dpi_refuse(p, "\"%s\" is unknown", part[i]);
		p->sig->flow |= known[k].flag;
	}
	p->to_server = p->sig->flow & DPI_FLOW_TO_SERVER;
	p->to_client = p->sig->flow & DPI_FLOW_TO_CLIENT;
	if ((p->sig->flow & (DPI_FLOW_ESTABLISHED | DPI_FLOW_NOT_ESTABLISHED)) ==
	    (DPI_FLOW_ESTABLISHED | DPI_FLOW_NOT_ESTABLISHED))
		return dpi_refuse(p, "established and not_established exclude each other");
	if (p->sig->flow & DPI_FLOW_ONLY_STREAM)
		p->sig->flags |= DPI_SIG_STREAM;
	if (p->sig->flow & DPI_FLOW_NO_STREAM)
		p->sig->flags |= DPI_SIG_PACKET;
	return 0;
}

enum {
	BITS_FLOW,
	BITS_X,
	BITS_HOST
};

static int
bit_names(struct dpi_parse *p, struct dpi_bits *b, char *names)
{
	for (char *at = names; at != NULL;) {
		char *bar = strchr(at, '|'), *name;
		int id;

		if (bar != NULL)
			*bar = '\0';
		name = dpi_trim(at);
		at = bar != NULL ? bar + 1 : NULL;
		if (*name == '\0' || b->nb == DPI_BITS_OR)
			return dpi_refuse(p, "want 1 to %d names", DPI_BITS_OR);
		id = dpi_names_get(&p->env->bits, name, strlen(name));
		if (id == -ENOSPC)
			return dpi_refuse(p, "more than %d names of bits in all", DPI_NAMES_MAX);
		if (id < 0)
			return id;
		b->id[b->nb++] = (uint16_t)id;
	}
	return 0;
}

static int
read_bits(struct dpi_parse *p, const char *value, bool negated, int kind)
{
	static const char *const ops[] = { "set", "unset", "toggle", "isset", "isnotset" };
	struct dpi_bits *more, *b;
	char text[256], *part[6];
	unsigned int n, op;

	(void)negated;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 6);
	if (n == 1 && strcmp(part[0], "noalert") == 0) {
		p->sig->flags |= DPI_SIG_NOALERT;
		return 0;
	}
	for (op = 0; op < PK_COUNT(ops) && strcmp(ops[op], part[0]) != 0; op++)
		;
	if (op == PK_COUNT(ops) || n < 2)
		return dpi_refuse(
		    p, "want set, unset, toggle, isset or isnotset and a name, or noalert");
	more = realloc(p->sig->bits, (p->sig->nb_bits + 1u) * sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	p->sig->bits = more;
	b = &more[p->sig->nb_bits++];
	memset(b, 0, sizeof(*b));
	b->op = (uint8_t)op;
	b->of = DPI_BITS_FLOW;
	if (kind == BITS_HOST)
		b->of = DPI_BITS_SRC;
	else if (kind == BITS_X)
		b->of = DPI_BITS_PAIR;
	for (unsigned int i = 2; i < n; i++) {
		const char *word = part[i];
		unsigned int s;

		if (strncmp(word, "track ", 6) == 0)
			word += 6;
		if (kind != BITS_FLOW && (strcmp(word, "ip_src") == 0 || strcmp(word, "src") == 0))
			b->of = DPI_BITS_SRC;
		else if (kind != BITS_FLOW &&
		    (strcmp(word, "ip_dst") == 0 || strcmp(word, "dst") == 0))
			b->of = DPI_BITS_DST;
		else if (kind != BITS_FLOW &&
		    (strcmp(word, "ip_pair") == 0 || strcmp(word, "both") == 0))
			b->of = DPI_BITS_PAIR;
		else if (kind != BITS_FLOW && sscanf(word, "expire %u", &s) == 1)
			b->expire_s = s;
		else
			return dpi_refuse(p, "\"%s\" is unknown", part[i]);
	}
	return bit_names(p, b, part[1]);
}

static int
read_flowint(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	static const struct {
		const char *text;
		char op;
	} known[] = { { "+", '+' }, { "-", '-' }, { "=", '=' }, { "==", 'e' }, { "!=", 'n' },
		{ "<", '<' }, { ">", '>' }, { "<=", 'l' }, { ">=", 'g' }, { "isset", 'i' },
		{ "isnotset", 'u' }, { "notset", 'u' } };
	struct dpi_flowint *more, *f;
	char text[256], *part[3], *end;
	unsigned int n, k;
	int id;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 3);
	for (k = 0; n >= 2 && k < PK_COUNT(known) && strcmp(known[k].text, part[1]) != 0; k++)
		;
	if (n < 2 || k == PK_COUNT(known) || (n < 3 && known[k].op != 'i' && known[k].op != 'u'))
		return dpi_refuse(p, "want name, operator, value");
	more = realloc(p->sig->flowint, (p->sig->nb_flowints + 1u) * sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	p->sig->flowint = more;
	f = &more[p->sig->nb_flowints++];
	memset(f, 0, sizeof(*f));
	f->other = -1;
	f->op = known[k].op;
	id = dpi_names_get(&p->env->ints, part[0], strlen(part[0]));
	if (id < 0)
		return id == -ENOSPC ? dpi_refuse(p, "more than %d names in all", DPI_NAMES_MAX)
		                     : id;
	f->id = (uint16_t)id;
	if (n == 3) {
		f->value = (uint32_t)strtoul(part[2], &end, 10);
		if (end == part[2]) {
			id = dpi_names_get(&p->env->ints, part[2], strlen(part[2]));
			if (id < 0)
				return id == -ENOSPC
				    ? dpi_refuse(p, "more than %d names in all", DPI_NAMES_MAX)
				    : id;
			f->other = id;
		}
	}
	return 0;
}

static int
read_threshold(struct dpi_parse *p, const char *value, bool negated, int detection)
{
	static const char *const kinds[] = { "", "threshold", "limit", "both" };
	static const char *const by[] = { "by_src", "by_dst", "by_both", "by_rule", "by_flow" };
	struct dpi_threshold *t = &p->sig->threshold;
	char text[256], *part[8];
	unsigned int n, k;

	(void)negated;
	if (t->kind != DPI_TH_NONE)
		return dpi_refuse(p, "a rule has one threshold");
	t->kind = detection ? DPI_TH_DETECTION : DPI_TH_NONE;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 8);
	for (unsigned int i = 0; i < n; i++) {
		char *space = strpbrk(part[i], " \t");
		const char *v;

		if (space == NULL)
			return dpi_refuse(p, "\"%s\" wants a value", part[i]);
		*space = '\0';
		v = dpi_trim(space + 1);
		if (strcmp(part[i], "type") == 0 && !detection) {
			for (k = 1; k < PK_COUNT(kinds) && strcmp(kinds[k], v) != 0; k++)
				;
			if (k == PK_COUNT(kinds))
				return dpi_refuse(
				    p, "type %s is unknown; known: threshold, limit, both", v);
			t->kind = (uint8_t)k;
		} else if (strcmp(part[i], "track") == 0) {
			for (k = 0; k < PK_COUNT(by) && strcmp(by[k], v) != 0; k++)
				;
			if (k == PK_COUNT(by))
				return dpi_refuse(p,
				    "track %s is unknown; known: by_src, by_dst, by_both, by_rule, by_flow",
				    v);
			t->by = (uint8_t)k;
		} else if (strcmp(part[i], "count") == 0) {
			t->count = (uint32_t)strtoul(v, NULL, 10);
		} else if (strcmp(part[i], "seconds") == 0) {
			t->seconds = (uint32_t)strtoul(v, NULL, 10);
		} else {
			return dpi_refuse(p, "\"%s\" is unknown", part[i]);
		}
	}
	if (t->kind == DPI_TH_NONE || t->count == 0 || t->seconds == 0)
		return dpi_refuse(p, "want %strack, count and seconds", detection ? "" : "type, ");
	return 0;
}

enum {
	META_SID,
	META_GID,
	META_REV,
	META_PRIORITY,
	META_MSG,
	META_CLASS,
	META_METADATA,
	META_REFERENCE,
	META_NONE
};

static int
read_meta(struct dpi_parse *p, const char *value, bool negated, int which)
{
	static const struct {
		const char *name;
		uint8_t priority;
	} classes[] = { { "attempted-admin", 1 }, { "attempted-user", 1 },
		{ "inappropriate-content", 1 }, { "policy-violation", 1 },
		{ "shellcode-detect", 1 }, { "successful-admin", 1 }, { "successful-user", 1 },
		{ "trojan-activity", 1 }, { "unsuccessful-user", 1 },
		{ "web-application-attack", 1 }, { "domain-c2", 1 }, { "targeted-activity", 1 },
		{ "exploit-kit", 1 }, { "credential-theft", 1 }, { "command-and-control", 1 },
		{ "attempted-dos", 2 }, { "attempted-recon", 2 }, { "bad-unknown", 2 },
		{ "default-login-attempt", 2 }, { "denial-of-service", 2 }, { "misc-attack", 2 },
		{ "non-standard-protocol", 2 }, { "rpc-portmap-decode", 2 },
		{ "successful-dos", 2 }, { "successful-recon-largescale", 2 },
		{ "successful-recon-limited", 2 }, { "suspicious-filename-detect", 2 },
		{ "suspicious-login", 2 }, { "system-call-detect", 2 },
		{ "unusual-client-port-connection", 2 }, { "web-application-activity", 2 },
		{ "coin-mining", 2 }, { "pup-activity", 2 }, { "social-engineering", 2 },
		{ "external-ip-check", 2 } };
	static const struct {
		uint8_t which;
		uint32_t max;
	} numbers[] = { { META_SID, UINT32_MAX }, { META_GID, UINT32_MAX },
		{ META_REV, UINT32_MAX }, { META_PRIORITY, 255 } };
	struct dpi_sig *s = p->sig;
	char **text = NULL;

	(void)negated;
	if (which <= META_PRIORITY) {
		char *end;
		unsigned long long n = strtoull(value, &end, 10);

		if (end == value || *end != '\0' || n == 0 || n > numbers[which].max)
			return dpi_refuse(
			    p, "\"%s\" is no number from 1 to %u", value, numbers[which].max);
		if (which == META_SID)
			s->sid = (uint32_t)n;
		else if (which == META_GID)
			s->gid = (uint32_t)n;
		else if (which == META_REV)
			s->rev = (uint32_t)n;
		else
			s->priority = (uint8_t)n;
		return 0;
	}
	if (which == META_MSG)
		text = &s->msg;
	else if (which == META_CLASS)
		text = &s->classtype;
	else if (which == META_METADATA)
		text = &s->metadata;
	else if (which == META_REFERENCE)
		text = &s->reference;
	if (which == META_CLASS)
		for (size_t i = 0; i < PK_COUNT(classes); i++)
			if (strcmp(classes[i].name, value) == 0)
				s->priority = classes[i].priority;
	if (text != NULL && *text == NULL) {
		char *to;

		*text = to = strdup(value);
		if (to == NULL)
			return -ENOMEM;
		for (const char *c = value; *c != '\0'; c++) {
			c += c[0] == '\\' && c[1] != '\0';
			*to++ = *c;
		}
		*to = '\0';
	}
	return 0;
}

static int
read_noalert(struct dpi_parse *p, const char *value, bool negated, int flag)
{
	(void)value;
	(void)negated;
	p->sig->flags |= (uint16_t)flag;
	return 0;
}

/* `requires: version >= 7.0.3 < 9 | >= 9.1, feature x, keyword y`.  We answer as version 7.0.10. */
static int
version_holds(const char *text)
{
	for (const char *at = text; *at != '\0';) {
		unsigned int v[3] = { 0, 0, 0 };
		uint32_t ours = 7u << 16 | 0u << 8 | 10, theirs;
		bool less = *at == '<', eq;
		int used = 0;

		if (*at != '<' && *at != '>')
			return -1;
		at++;
		eq = *at == '=';
		at += eq;
		while (*at == ' ')
			at++;
		if (sscanf(at, "%u%n", &v[0], &used) != 1)
			return -1;
		at += used;
		for (int i = 1; i < 3 && *at == '.'; i++) {
			if (sscanf(at, ".%u%n", &v[i], &used) != 1)
				return -1;
			at += used;
		}
		theirs = v[0] << 16 | v[1] << 8 | v[2];
		if (!(less ? (ours < theirs || (eq && ours == theirs))
		           : (ours > theirs || (eq && ours == theirs))))
			return 0;
		while (*at == ' ')
			at++;
	}
	return 1;
}

static int
read_requires(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[256], *part[8];
	unsigned int n;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 8);
	for (unsigned int i = 0; i < n; i++) {
		if (strncmp(part[i], "version", 7) == 0) {
			bool any = false;

			for (char *at = part[i] + 7; at != NULL;) {
				char *bar = strchr(at, '|');
				int holds;

				if (bar != NULL)
					*bar = '\0';
				holds = version_holds(dpi_trim(at));
				if (holds < 0)
					return dpi_refuse(p, "\"%s\" is no version", at);
				any |= holds > 0;
				at = bar != NULL ? bar + 1 : NULL;
			}
			p->skip |= !any;
		} else { /* features and keywords: none that some build of ours has and another has not */
			p->skip = true;
		}
	}
	return 0;
}

#define M (DPI_KW_VALUE | DPI_KW_IP_ONLY)
const struct dpi_keyword dpi_keywords_state[] = {
	{ "flow", read_flow, 0, DPI_KW_VALUE },
	{ "flowbits", read_bits, BITS_FLOW, M },
	{ "xbits", read_bits, BITS_X, M },
	{ "hostbits", read_bits, BITS_HOST, M },
	{ "flowint", read_flowint, 0, M },
	{ "threshold", read_threshold, 0, M },
	{ "detection_filter", read_threshold, 1, M },
	{ "noalert", read_noalert, DPI_SIG_NOALERT, DPI_KW_NO_VALUE | DPI_KW_IP_ONLY },
	{ "alert", read_noalert, DPI_SIG_ALERT, DPI_KW_NO_VALUE | DPI_KW_IP_ONLY },
	{ "requires", read_requires, 0, M },
	{ "sid", read_meta, META_SID, M },
	{ "gid", read_meta, META_GID, M },
	{ "rev", read_meta, META_REV, M },
	{ "priority", read_meta, META_PRIORITY, M },
	{ "msg", read_meta, META_MSG, M },
	{ "classtype", read_meta, META_CLASS, M },
	{ "metadata", read_meta, META_METADATA, M },
	{ "reference", read_meta, META_REFERENCE, M },
	/* What they ask for is a matter of logging, or of speed, and changes no match. */
	{ "target", read_meta, META_NONE, M },
	{ "tag", read_meta, META_NONE, M },
	{ "prefilter", read_meta, META_NONE, DPI_KW_IP_ONLY },
	{ NULL, NULL, 0, 0 },
};
