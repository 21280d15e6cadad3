#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/event.h"
#include "dpi/sig_keyword.h"
#include "dpi/sig_pcre.h"

/* Keywords about bytes in buffers: content and its modifiers, pcre, sticky buffers, transforms. */

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9'              ? c - '0'
	    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
	                                         : -1;
}

/* `a|0d 0a|b\;` to bytes in place.  Returns how many, or -1. */
static int
unescape(char *text)
{
	uint8_t *to = (uint8_t *)text;
	bool hex = false;
	int half = -1;

	for (const char *c = text; *c != '\0'; c++) {
		if (*c == '|') {
			if (half >= 0)
				return -1;
			hex = !hex;
		} else if (hex) {
			int d = hex_digit(*c);

			if (isspace((unsigned char)*c))
				continue;
			if (d < 0)
				return -1;
			if (half < 0) {
				half = d;
			} else {
				*to++ = (uint8_t)(half << 4 | d);
				half = -1;
			}
		} else if (*c == '\\' &&
		    (c[1] == '\\' || c[1] == ';' || c[1] == '"' || c[1] == ':')) {
			*to++ = (uint8_t) * ++c;
		} else {
			*to++ = (uint8_t)*c;
		}
	}
	return hex || half >= 0 ? -1 : (int)(to - (uint8_t *)text);
}

static int
read_content(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	struct dpi_list *l = buf == DPI_RAW ? dpi_parse_list(p, false) : dpi_parse_list_of(p, buf);
	struct dpi_item *i = dpi_parse_item(p, l, DPI_IT_CONTENT);
	char *bytes = strdup(value);
	int len;

	if (i == NULL || bytes == NULL) {
		free(bytes);
		return -ENOMEM;
	}
	len = unescape(bytes);
	i->negated = negated;
	i->content.bytes = (uint8_t *)bytes;
	if (len <= 0 || len > 8192)
		return dpi_refuse(p,
		    len == 0 ? "is empty"
		             : "hexadecimal between | | is broken, or more than 8192 bytes");
	i->content.len = (uint16_t)len;
	i->content.offset.var = i->content.depth.var = -1;
	i->content.distance.var = i->content.within.var = -1;
	return 0;
}

enum {
	MOD_NOCASE,
	MOD_DEPTH,
	MOD_OFFSET,
	MOD_DISTANCE,
	MOD_WITHIN,
	MOD_STARTS,
	MOD_ENDS,
	MOD_FAST,
	MOD_RAW
};

static int
read_fast(struct dpi_parse *p, struct dpi_content *c, const char *value)
{
	unsigned long from, len;
	char *end;

	c->fast = true;
	if (value[0] == '\0')
		return 0;
	if (strcmp(value, "only") == 0) {
		c->fast_only = true;
		return 0;
	}
	from = strtoul(value, &end, 10);
	if (end == value || *end != ',')
		return dpi_refuse(p, "want nothing, only, or offset,length");
	len = strtoul(end + 1, &end, 10);
	if (len == 0 || from + len > c->len)
		return dpi_refuse(p, "offset and length lie outside of the content");
	c->fast_from = (uint16_t)from;
	c->fast_len = (uint16_t)len;
	return 0;
}

static int
read_modifier(struct dpi_parse *p, const char *value, bool negated, int which)
{
	struct dpi_item *i = dpi_parse_last_content(p);
	struct dpi_content *c;

	(void)negated;
	if (i == NULL)
		return dpi_refuse(p, "has no content before it");
	c = &i->content;
	switch (which) {
	case MOD_NOCASE:
		c->nocase = true;
		for (unsigned int k = 0; k < c->len; k++)
			c->bytes[k] = dpi_lower[c->bytes[k]];
		return 0;
	case MOD_DEPTH:
		c->has_depth = true;
		return dpi_parse_value(p, &c->depth, value);
	case MOD_OFFSET:
		c->has_offset = true;
		return dpi_parse_value(p, &c->offset, value);
	case MOD_DISTANCE:
		c->has_distance = i->relative = true;
		return dpi_parse_value(p, &c->distance, value);
	case MOD_WITHIN:
		c->has_within = i->relative = true;
		return dpi_parse_value(p, &c->within, value);
	case MOD_STARTS:
		if (c->has_depth || c->has_offset || i->relative)
			return dpi_refuse(
			    p, "cannot be combined with depth, offset, distance or within");
		c->starts = c->has_depth = true;
		c->depth.number = c->len;
		return 0;
	case MOD_ENDS:
		c->ends = true;
		return 0;
	case MOD_FAST:
		return read_fast(p, c, value);
	default: /* rawbytes: what is looked at anyway */
		return 0;
	}
}

/* http_uri and the like after a content: move it to that buffer's list. */
static int
read_legacy(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	struct dpi_item *last = dpi_parse_last_content(p), moved, *i;
	struct dpi_list *from;

	(void)value;
	(void)negated;
	if (p->sticky != DPI_RAW || last == NULL || p->last_list < 0)
		return dpi_refuse(
		    p, last == NULL ? "has no content before it" : "cannot follow a sticky buffer");
	from = &p->sig->list[p->last_list];
	if (from->buf == buf)
		return 0;
	if (from->buf != DPI_RAW)
		return dpi_refuse(p, "content is in a buffer already");
	moved = *last;
	memmove(last, last + 1, (size_t)(from->item + from->nb - last - 1) * sizeof(*last));
	from->nb--;
	i = dpi_parse_item(p, dpi_parse_list_of(p, buf), DPI_IT_CONTENT);
	if (i == NULL) {
		free(moved.content.bytes);
		return -ENOMEM;
	}
	*i = moved;
	return 0;
}

static int
read_sticky(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	(void)value;
	(void)negated;
	if (p->nb_transforms != 0)
		return dpi_refuse(p, "the transform before it is used by nothing");
	if (p->list >= 0 && p->sticky == buf && dpi_buf_info[buf].flags & DPI_BUF_SEVERAL)
		p->sig->list[p->list].closed = true;
	p->sticky = buf;
	p->list = -1;
	p->last_list = -1;
	p->base64 = NULL;
	return 0;
}

static int
read_base64_data(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_item *i;

	(void)value;
	(void)negated;
	(void)arg;
	if (p->base64_list < 0)
		return dpi_refuse(p, "has no base64_decode before it");
	i = &p->sig->list[p->base64_list].item[p->base64_item];
	if (i->base64.data == NULL)
		i->base64.data = calloc(1, sizeof(*i->base64.data));
	if (i->base64.data == NULL)
		return -ENOMEM;
	p->base64 = i->base64.data;
	p->last_list = -1;
	return 0;
}

static int
read_pcre(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	struct dpi_pcre_flags flags;
	struct dpi_pcre *pcre;
	struct dpi_list *l;
	struct dpi_item *i;
	char *text = strdup(value), *to = text;
	int rc;

	(void)arg;
	if (text == NULL)
		return -ENOMEM;
	/* Only the semicolon and the quote were escaped for the rule; the rest is the expression's own. */
	for (const char *c = value; *c != '\0'; c++) {
		if (c[0] == '\\' && c[1] == ';')
			c++;
		else if (c[0] == '\\' && c[1] == '\\')
			*to++ = *c++;
		*to++ = *c;
	}
	*to = '\0';
	rc = dpi_pcre_parse(&pcre, &flags, text, p->diag);
	free(text);
	if (rc < 0)
		return rc;
	if (flags.letter != 0)
		l = dpi_parse_list_of(p, dpi_buf_letter(flags.letter));
	else
		l = dpi_parse_list(p, false);
	i = dpi_parse_item(p, l, DPI_IT_PCRE);
	if (i == NULL) {
		dpi_pcre_destroy(pcre);
		return -ENOMEM;
	}
	i->pcre = pcre;
	i->negated = negated;
	i->relative = flags.relative;
	return 0;
}

static int
read_isdataat(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[128], *part[4];
	struct dpi_item *i;
	bool relative = false;
	unsigned int n;

	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 4);
	for (unsigned int k = 1; k < n; k++) {
		if (strcmp(part[k], "relative") == 0)
			relative = true;
		else if (strcmp(part[k], "rawbytes") != 0)
			return dpi_refuse(
			    p, "\"%s\" is unknown; known: relative, rawbytes", part[k]);
	}
	i = dpi_parse_item(p, dpi_parse_list(p, relative), DPI_IT_ISDATAAT);
	if (i == NULL)
		return -ENOMEM;
	i->negated = negated;
	i->relative = relative;
	return dpi_parse_value(p, &i->dataat, part[0]);
}

static int
read_bsize(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	char text[64], *part[2];
	struct dpi_list *l;
	struct dpi_item *i;
	unsigned int n;

	(void)negated;
	snprintf(text, sizeof(text), "%s", value);
	n = dpi_split(text, part, 2);
	if (buf == DPI_HTTP_URI) { /* urilen */
		if (n == 2 && strcmp(part[1], "raw") == 0)
			buf = DPI_HTTP_URI_RAW;
		else if (n == 2 && strcmp(part[1], "norm") != 0)
			return dpi_refuse(p, "\"%s\" is unknown; known: raw, norm", part[1]);
		l = dpi_parse_list_of(p, buf);
	} else {
		if (p->sticky == DPI_RAW && p->last_list < 0)
			return dpi_refuse(p, "has no sticky buffer before it");
		l = dpi_parse_list(p, true);
	}
	i = dpi_parse_item(p, l, DPI_IT_BSIZE);
	if (i == NULL)
		return -ENOMEM;
	return dpi_parse_range(p, &i->range, part[0]);
}

static int
read_base64_decode(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	char text[128], *part[4];
	bool relative = false;
	uint32_t nb = UINT32_MAX, offset = 0;
	struct dpi_list *l;
	struct dpi_item *i;
	unsigned int n;

	(void)negated;
	(void)arg;
	snprintf(text, sizeof(text), "%s", value);
	n = text[0] != '\0' ? dpi_split(text, part, 4) : 0;
	for (unsigned int k = 0; k < n; k++) {
		unsigned int number;

		if (strcmp(part[k], "relative") == 0)
			relative = true;
		else if (sscanf(part[k], "bytes %u", &number) == 1)
			nb = number;
		else if (sscanf(part[k], "offset %u", &number) == 1)
			offset = number;
		else
			return dpi_refuse(
			    p, "\"%s\" is unknown; known: bytes N, offset N, relative", part[k]);
	}
	l = dpi_parse_list(p, relative);
	i = dpi_parse_item(p, l, DPI_IT_BASE64);
	if (i == NULL)
		return -ENOMEM;
	i->relative = relative;
	i->base64.nb = nb;
	i->base64.offset = offset;
	p->base64_list = (int)(l - p->sig->list);
	p->base64_item = l->nb - 1;
	return 0;
}

static int
read_transform(struct dpi_parse *p, const char *value, bool negated, int kind)
{
	struct dpi_transform *t = &p->transform[p->nb_transforms];
	struct dpi_pcre_flags flags;
	char text[512];
	int rc;

	(void)negated;
	if (p->sticky == DPI_RAW)
		return dpi_refuse(p, "has no sticky buffer before it");
	if (p->list >= 0)
		return dpi_refuse(p, "has to stand before the first match in its buffer");
	if (p->nb_transforms == DPI_TRANSFORMS_MAX)
		return dpi_refuse(p, "more than %d transforms", DPI_TRANSFORMS_MAX);
	memset(t, 0, sizeof(*t));
	t->kind = (uint8_t)kind;
	if (kind == DPI_TR_XOR) {
		size_t len = strlen(value);

		if (len == 0 || len % 2 != 0 || len > 2 * sizeof(t->key))
			return dpi_refuse(p, "want 1 to %zu bytes in hexadecimal", sizeof(t->key));
		for (size_t i = 0; i < len; i += 2) {
			int hi = hex_digit(value[i]), lo = hex_digit(value[i + 1]);

			if (hi < 0 || lo < 0)
				return dpi_refuse(
				    p, "want 1 to %zu bytes in hexadecimal", sizeof(t->key));
			t->key[t->key_len++] = (uint8_t)(hi << 4 | lo);
		}
	} else if (kind == DPI_TR_PCRE) {
		if ((size_t)snprintf(text, sizeof(text), "/%s/", value) >= sizeof(text))
			return dpi_refuse(p, "more than %zu bytes", sizeof(text));
		rc = dpi_pcre_parse(&t->pcre, &flags, text, p->diag);
		if (rc < 0)
			return rc;
	}
	p->nb_transforms++;
	return 0;
}

/* filename, fileext: contents of file.name that disregard case. */
static int
read_filename(struct dpi_parse *p, const char *value, bool negated, int ext)
{
	char text[256];
	struct dpi_item *i;
	int rc;

	snprintf(text, sizeof(text), "%s%s", ext ? "." : "", value);
	rc = read_content(p, text, negated, DPI_FILE_NAME);
	if (rc < 0)
		return rc;
	i = dpi_parse_last_content(p);
	i->content.nocase = true;
	i->content.ends = ext != 0;
	for (unsigned int k = 0; k < i->content.len; k++)
		i->content.bytes[k] = dpi_lower[i->content.bytes[k]];
	return 0;
}

/* Keywords that are equality with a whole buffer: tls.version:"1.2", ftpdata_command:stor ... */
static int
read_equal(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	struct dpi_item *i;
	int rc;

	if (buf == DPI_TLS_VERSION && strncmp(value, "0x", 2) != 0) {
		static const char *const known[] = { "1.0", "1.1", "1.2", "1.3" };

		for (rc = 0; rc < 4 && strcmp(known[rc], value) != 0; rc++)
			;
		if (rc == 4)
			return dpi_refuse(p, "\"%s\" is unknown; known: 1.0, 1.1, 1.2, 1.3", value);
	}
	rc = read_content(p, value, negated, buf);
	if (rc < 0)
		return rc;
	i = dpi_parse_last_content(p);
	i->content.nocase = i->content.starts = i->content.has_depth = i->content.ends = true;
	i->content.depth.number = i->content.len;
	for (unsigned int k = 0; k < i->content.len; k++)
		i->content.bytes[k] = dpi_lower[i->content.bytes[k]];
	return 0;
}

/* Keywords of old that are a content in a buffer: tls.subject:"CN=x", uricontent:"x". */
static int
read_inside(struct dpi_parse *p, const char *value, bool negated, int buf)
{
	return read_content(p, value, negated, buf);
}

static int
read_app_event(struct dpi_parse *p, const char *value, bool negated, int arg)
{
	enum dpi_event event = dpi_event_find(value);
	const char *dot = strchr(value, '.');
	struct dpi_list *l;
	struct dpi_item *i;

	(void)arg;
	if (event == DPI_EV_NONE)
		return dpi_refuse(p, "event \"%s\" is not detected here", value);
	if (dot == NULL) {
		struct dpi_test *t = dpi_parse_test(p, DPI_TEST_EVENT);

		if (t == NULL)
			return -ENOMEM;
		t->event = (uint16_t)event;
		t->negated = negated;
		return 0;
	}
	l = dpi_parse_list_of(p, DPI_EVENT);
	i = dpi_parse_item(p, l, DPI_IT_EVENT);
	if (i == NULL)
		return -ENOMEM;
	i->event = (uint16_t)event;
	i->negated = negated;
	return 0;
}

static int
read_dce(struct dpi_parse *p, const char *value, bool negated, int opnum)
{
	struct dpi_item *i;
	unsigned int n = 0;
	int half = -1;

	(void)negated;
	i = dpi_parse_item(
	    p, dpi_parse_list_of(p, DPI_DCE_STUB), opnum ? DPI_IT_DCE_OPNUM : DPI_IT_DCE_IFACE);
	if (i == NULL)
		return -ENOMEM;
	if (opnum)
		return dpi_parse_range(p, &i->range, value);
	for (; *value != '\0' && *value != ',' && n < 16; value++) {
		int d = hex_digit(*value);

		if (*value == '-')
			continue;
		if (d < 0)
			return dpi_refuse(p, "want a UUID");
		if (half >= 0)
			i->uuid[n++] = (uint8_t)(half << 4 | d);
		half = half < 0 ? d : -1;
	}
	return n == 16 && half < 0 ? 0 : dpi_refuse(p, "want a UUID");
}

static int
read_ignored(struct dpi_parse *p, const char *value, bool negated, int flag)
{
	(void)value;
	(void)negated;
	p->sig->flags |= (uint16_t)flag;
	return 0;
}

#define STICKY(id, name, other, modifier, letter, layer, dirs, flags) \
	{ name, read_sticky, DPI_##id, DPI_KW_NO_VALUE },
#define STICKY_OTHER(id, name, other, modifier, letter, layer, dirs, flags) \
	{ other != NULL ? other : "", read_sticky, DPI_##id, DPI_KW_NO_VALUE },
#define LEGACY(id, name, other, modifier, letter, layer, dirs, flags) \
	{ modifier != NULL ? modifier : "", read_legacy, DPI_##id, DPI_KW_NO_VALUE },

const struct dpi_keyword dpi_keywords_content[] = {
	{ "content", read_content, DPI_RAW, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "nocase", read_modifier, MOD_NOCASE, DPI_KW_NO_VALUE },
	{ "depth", read_modifier, MOD_DEPTH, DPI_KW_VALUE },
	{ "offset", read_modifier, MOD_OFFSET, DPI_KW_VALUE },
	{ "distance", read_modifier, MOD_DISTANCE, DPI_KW_VALUE },
	{ "within", read_modifier, MOD_WITHIN, DPI_KW_VALUE },
	{ "startswith", read_modifier, MOD_STARTS, DPI_KW_NO_VALUE },
	{ "endswith", read_modifier, MOD_ENDS, DPI_KW_NO_VALUE },
	{ "fast_pattern", read_modifier, MOD_FAST, 0 },
	{ "rawbytes", read_modifier, MOD_RAW, DPI_KW_NO_VALUE },
	{ "pcre", read_pcre, 0, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "isdataat", read_isdataat, 0, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "bsize", read_bsize, DPI_RAW, DPI_KW_VALUE },
	{ "urilen", read_bsize, DPI_HTTP_URI, DPI_KW_VALUE },
	{ "base64_decode", read_base64_decode, 0, 0 },
	{ "base64_data", read_base64_data, 0, DPI_KW_NO_VALUE },
	{ "pkt_data", read_sticky, DPI_RAW, DPI_KW_NO_VALUE },
	{ "dotprefix", read_transform, DPI_TR_DOTPREFIX, DPI_KW_NO_VALUE },
	{ "to_md5", read_transform, DPI_TR_MD5, DPI_KW_NO_VALUE },
	{ "to_sha1", read_transform, DPI_TR_SHA1, DPI_KW_NO_VALUE },
	{ "to_sha256", read_transform, DPI_TR_SHA256, DPI_KW_NO_VALUE },
	{ "compress_whitespace", read_transform, DPI_TR_COMPRESS_WHITESPACE, DPI_KW_NO_VALUE },
	{ "strip_whitespace", read_transform, DPI_TR_STRIP_WHITESPACE, DPI_KW_NO_VALUE },
	{ "url_decode", read_transform, DPI_TR_URL_DECODE, DPI_KW_NO_VALUE },
	{ "xor", read_transform, DPI_TR_XOR, DPI_KW_VALUE },
	{ "pcrexform", read_transform, DPI_TR_PCRE, DPI_KW_VALUE },
	{ "to_lowercase", read_transform, DPI_TR_TO_LOWERCASE, DPI_KW_NO_VALUE },
	{ "to_uppercase", read_transform, DPI_TR_TO_UPPERCASE, DPI_KW_NO_VALUE },
	{ "strip_pseudo_headers", read_transform, DPI_TR_STRIP_PSEUDO, DPI_KW_NO_VALUE },
	{ "header_lowercase", read_transform, DPI_TR_HEADER_LOWERCASE, DPI_KW_NO_VALUE },
	{ "uricontent", read_inside, DPI_HTTP_URI, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "filename", read_filename, 0, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "fileext", read_filename, 1, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "filestore", read_ignored, DPI_SIG_FILE, 0 },
	{ "tls.version", read_equal, DPI_TLS_VERSION, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "tls.subject", read_inside, DPI_TLS_SUBJECT, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "tls.issuerdn", read_inside, DPI_TLS_ISSUER, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "tls.fingerprint", read_equal, DPI_TLS_FINGERPRINT, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "ftpdata_command", read_equal, DPI_FTPDATA_COMMAND, DPI_KW_VALUE },
	{ "mqtt.type", read_equal, DPI_MQTT_TYPE, DPI_KW_VALUE },
	{ "mqtt.reason_code", read_equal, DPI_MQTT_REASON, DPI_KW_VALUE },
	{ "app-layer-event", read_app_event, 0, DPI_KW_VALUE | DPI_KW_NEGATED },
	{ "dcerpc.iface", read_dce, 0, DPI_KW_VALUE },
	{ "dce_iface", read_dce, 0, DPI_KW_VALUE },
	{ "dcerpc.opnum", read_dce, 1, DPI_KW_VALUE },
	{ "dce_opnum", read_dce, 1, DPI_KW_VALUE },
	DPI_BUFFERS(STICKY) DPI_BUFFERS(STICKY_OTHER) DPI_BUFFERS(LEGACY){ NULL, NULL, 0, 0 },
};
