#include "dpi/sig_inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"

int
dpi_look_init(struct dpi_look *k)
{
	memset(k, 0, sizeof(*k));
	return dpi_pcre_room_create(&k->pcre);
}

void
dpi_look_fini(struct dpi_look *k)
{
	dpi_pcre_room_destroy(k->pcre);
	free(k->room[0]);
	free(k->room[1]);
	memset(k, 0, sizeof(*k));
}

/* The byte of a content that occurs least in what it is looked for in: text, mostly. */
static size_t
rarest(const struct dpi_content *c)
{
	static const char common[] = "etaoinsrhldcum /.-=:\"w0123pgb&f;\r\nyv456789k,?+_<>";
	size_t best = 0, best_rank = 0, n = PK_MIN((size_t)c->len, (size_t)16);

	for (size_t i = 0; i < n; i++) {
		const char *at = c->bytes[i] != 0 ? strchr(common, c->bytes[i]) : common;
		size_t rank = at != NULL ? (size_t)(at - common) + 1 : sizeof(common) + 1;

		if (rank > best_rank) {
			best = i;
			best_rank = rank;
		}
	}
	return best;
}

const uint8_t *
dpi_content_find(const struct dpi_content *c, const uint8_t *at, size_t len)
{
	const uint8_t *low, *high, *end;
	size_t n = c->len, anchor;
	uint8_t lower, upper;

	if (len < n)
		return NULL;
	if (!c->nocase)
		return memmem(at, len, c->bytes, n);
	if (n == 0)
		return at;
	/* From one occurrence of the rarest byte to the next, in either case. */
	anchor = rarest(c);
	lower = c->bytes[anchor];
	upper = lower >= 'a' && lower <= 'z' ? (uint8_t)(lower - 32) : lower;
	end = at + (len - n) + anchor + 1;
	at += anchor;
	low = memchr(at, lower, (size_t)(end - at));
	high = upper != lower ? memchr(at, upper, (size_t)(end - at)) : NULL;
	while (low != NULL || high != NULL) {
		bool is_low = high == NULL || (low != NULL && low < high);
		const uint8_t *p = (is_low ? low : high) - anchor, *next = p + anchor + 1;
		size_t i = 0;

		while (i < n && dpi_lower[p[i]] == c->bytes[i])
			i++;
		if (i == n)
			return p;
		if (is_low)
			low = memchr(next, lower, (size_t)(end - next));
		else
			high = memchr(next, upper, (size_t)(end - next));
	}
	return NULL;
}

static int64_t
value(const struct dpi_look *k, const struct dpi_value *v)
{
	return v->var < 0 ? v->number : k->var[v->var];
}

/* The part of the buffer a content has to lie in. */
static bool
content_range(const struct dpi_look *k, const struct dpi_item *i, uint32_t at, uint32_t len,
    int64_t *lo, int64_t *hi)
{
	const struct dpi_content *c = &i->content;

	*lo = 0;
	*hi = len;
	if (i->relative) {
		int64_t distance = c->has_distance ? value(k, &c->distance) : 0;

		*lo = (int64_t)at + distance;
		if (c->has_within)
			*hi = PK_MIN(*hi, (int64_t)at + distance + value(k, &c->within));
		if (c->has_depth)
			*hi = PK_MIN(*hi, (int64_t)at + value(k, &c->depth));
		if (c->has_offset)
			*lo = PK_MAX(*lo, value(k, &c->offset));
	} else {
		if (c->has_offset)
			*lo = value(k, &c->offset);
		if (c->has_depth)
			*hi = PK_MIN(*hi, (c->has_offset ? *lo : 0) + value(k, &c->depth));
	}
	*lo = PK_MAX(*lo, (int64_t)0);
	return *hi - *lo >= c->len;
}

static uint64_t
text_number(const uint8_t *at, uint32_t len, unsigned int base, bool *ok)
{
	uint64_t n = 0;
	bool any = false;

	for (uint32_t i = 0; i < len; i++) {
		unsigned int d = at[i] - '0';

		if (base == 16 && i == 1 && n == 0 && (at[i] | 32) == 'x')
			continue;
		if (d > 9)
			d = (unsigned int)((at[i] | 32) - 'a') < 6 ? (at[i] | 32) - 'a' + 10u : 99;
		if (d >= base) {
			if (!any && (at[i] == ' ' || at[i] == '\t'))
				continue;
			break;
		}
		n = n * base + d;
		any = true;
	}
	*ok = any;
	return n;
}

/* Read the number of a byte_ keyword; *end: where it stops. */
static bool
read_bytes(const struct dpi_look *k, const struct dpi_item *i, const uint8_t *bytes, uint32_t len,
    uint32_t at, uint64_t *out, uint32_t *end)
{
	const struct dpi_bytes_item *b = &i->bytes;
	int64_t from = (i->relative ? (int64_t)at : 0) + value(k, &b->offset),
	        nb = value(k, &b->nb);
	bool little = b->order == DPI_LITTLE || (b->order == DPI_DCE && k->little), ok = true;
	uint64_t n = 0;

	if (nb == 0 && b->base != 0 && from >= 0 && from < len)
		nb = PK_MIN((int64_t)len - from, (int64_t)23);
	if (from < 0 || nb < 0 || from + nb > len || nb > 23)
		return false;
	if (b->base != 0) {
		n = text_number(bytes + from, (uint32_t)nb, b->base, &ok);
	} else {
		if (nb > 8)
			return false;
		for (int64_t j = 0; j < nb; j++)
			n |= (uint64_t)bytes[from + j] << 8 * (little ? j : nb - 1 - j);
	}
	if (b->mask != 0)
		n = (n & b->mask) >> __builtin_ctz(b->mask);
	*out = n;
	*end = (uint32_t)(from + nb);
	return ok;
}

static bool
compare(uint64_t a, uint8_t op, uint64_t b)
{
	switch (op) {
	case DPI_EQ:
		return a == b;
	case DPI_LT:
		return a < b;
	case DPI_GT:
		return a > b;
	case DPI_LE:
		return a <= b;
	case DPI_GE:
		return a >= b;
	case DPI_AND:
		return (a & b) != 0;
	case DPI_OR:
		return (a ^ b) != 0;
	default:
		return false;
	}
}

static uint64_t
math(char op, uint64_t a, uint64_t b, bool *ok)
{
	switch (op) {
	case '+':
		return a + b;
	case '-':
		return a - b;
	case '*':
		return a * b;
	case '/':
		*ok = b != 0;
		return b != 0 ? a / b : 0;
	case '<':
		return b < 64 ? a << b : 0;
	default:
		return b < 64 ? a >> b : 0;
	}
}

static bool
jump(const struct dpi_look *k, const struct dpi_item *i, const uint8_t *bytes, uint32_t len,
    uint32_t *at)
{
	const struct dpi_bytes_item *b = &i->bytes;
	uint64_t n = 0;
	uint32_t end = *at;
	int64_t to;

	if (b->nb.var < 0 && b->nb.number == 0)
		end = (i->relative ? *at : 0) + (uint32_t)value(k, &b->offset);
	else if (!read_bytes(k, i, bytes, len, *at, &n, &end))
		return false;
	n *= (uint64_t)b->multiplier;
	if (n > len && !b->from_end)
		return false;
	if (b->align)
		n = (n + 3) & ~UINT64_C(3);
	if (b->from_beginning)
		to = (int64_t)n;
	else if (b->from_end)
		to = (int64_t)len - (int64_t)n;
	else
		to = (int64_t)end + (int64_t)n;
	to += value(k, &b->post_var);
	if (to < 0 || to > len)
		return false;
	*at = (uint32_t)to;
	return true;
}

#define DECODED_MAX 65536

static uint32_t
base64(uint8_t *out, const uint8_t *at, uint32_t len)
{
	uint32_t bits = 0, nb = 0, n = 0;

	for (uint32_t i = 0; i < len; i++) {
		uint8_t c = at[i];
		int v;

		if (c >= 'A' && c <= 'Z')
			v = c - 'A';
		else if (c >= 'a' && c <= 'z')
			v = c - 'a' + 26;
		else if (c >= '0' && c <= '9')
			v = c - '0' + 52;
		else if (c == '+')
			v = 62;
		else if (c == '/')
			v = 63;
		else if (c == ' ' || c == '\r' || c == '\n' || c == '\t')
			continue;
		else
			break;
		bits = bits << 6 | (uint32_t)v;
		if (++nb == 4) {
			out[n++] = (uint8_t)(bits >> 16);
			out[n++] = (uint8_t)(bits >> 8);
			out[n++] = (uint8_t)bits;
			nb = 0;
		}
	}
	if (nb >= 2)
		out[n++] = (uint8_t)(bits >> (nb == 2 ? 4 : 10));
	if (nb == 3)
		out[n++] = (uint8_t)(bits >> 2);
	return n;
}

static bool holds_from(struct dpi_look *k, const struct dpi_list *l, unsigned int n,
    const uint8_t *bytes, uint32_t len, uint32_t at);

static bool
base64_holds(
    struct dpi_look *k, const struct dpi_item *i, const uint8_t *bytes, uint32_t len, uint32_t at)
{
	uint64_t from = (uint64_t)(i->relative ? at : 0) + i->base64.offset;
	uint8_t *decoded;
	uint32_t n;
	bool holds;

	if (from >= len)
		return false;
	n = PK_MIN(PK_MIN(len - (uint32_t)from, i->base64.nb), (uint32_t)DECODED_MAX);
	decoded = dpi_malloc(n);
	if (decoded == NULL)
		return false;
	n = base64(decoded, bytes + from, n);
	holds = n > 0 &&
	    (i->base64.data == NULL || holds_from(k, i->base64.data, 0, decoded, n, 0));
	dpi_free(decoded);
	return holds;
}

static bool
content_holds(struct dpi_look *k, const struct dpi_list *l, unsigned int n, const uint8_t *bytes,
    uint32_t len, uint32_t at)
{
	const struct dpi_item *i = &l->item[n];
	const struct dpi_content *c = &i->content;
	int64_t lo, hi;
	bool room = content_range(k, i, at, len, &lo, &hi);

	if (room && c->ends) {
		room = hi == len;
		lo = PK_MAX(lo, (int64_t)len - c->len);
	}
	while (room && hi - lo >= c->len) {
		const uint8_t *p = dpi_content_find(c, bytes + lo, (size_t)(hi - lo));

		if (p == NULL)
			break;
		if (i->negated)
			return false;
		if (holds_from(k, l, n + 1, bytes, len, (uint32_t)(p - bytes) + c->len))
			return true;
		if (!i->relative_next || k->steps > DPI_STEPS_MAX)
			return false;
		lo = p - bytes + 1;
	}
	return i->negated && holds_from(k, l, n + 1, bytes, len, at);
}

static bool
pcre_holds(struct dpi_look *k, const struct dpi_list *l, unsigned int n, const uint8_t *bytes,
    uint32_t len, uint32_t at)
{
	const struct dpi_item *i = &l->item[n];
	uint32_t base = i->relative ? at : 0, from = 0, match[2];

	while (dpi_pcre_match(i->pcre, k->pcre, bytes + base, len - base, from, match, NULL,
	    &k->counts.pcre_exceeded)) {
		if (i->negated)
			return false;
		if (holds_from(k, l, n + 1, bytes, len, base + match[1]))
			return true;
		if (!i->relative_next || k->steps > DPI_STEPS_MAX)
			return false;
		from = match[0] + 1;
		if (from > len - base)
			return false;
	}
	return i->negated && holds_from(k, l, n + 1, bytes, len, at);
}

static bool
holds_from(struct dpi_look *k, const struct dpi_list *l, unsigned int n, const uint8_t *bytes,
    uint32_t len, uint32_t at)
{
	const struct dpi_item *i;
	uint64_t number = 0;
	uint32_t end = at;
	int64_t wanted;
	bool yes = true;

	if (++k->steps > DPI_STEPS_MAX) {
		k->counts.steps_exceeded += k->steps == DPI_STEPS_MAX + 1;
		return false;
	}
	if (n == l->nb)
		return true;
	i = &l->item[n];
	switch (i->kind) {
	case DPI_IT_CONTENT:
		return content_holds(k, l, n, bytes, len, at);
	case DPI_IT_PCRE:
		return pcre_holds(k, l, n, bytes, len, at);
	case DPI_IT_ISDATAAT:
		wanted = value(k, &i->dataat);
		yes = i->relative ? (int64_t)at + wanted <= len : wanted < len;
		yes ^= i->negated;
		break;
	case DPI_IT_BYTE_TEST:
		yes = read_bytes(k, i, bytes, len, at, &number, &end) &&
		    compare(number, i->bytes.compare, (uint64_t)value(k, &i->bytes.value)) !=
		        i->bytes.compare_not;
		break;
	case DPI_IT_BYTE_JUMP:
		yes = jump(k, i, bytes, len, &at);
		break;
	case DPI_IT_BYTE_EXTRACT:
		yes = read_bytes(k, i, bytes, len, at, &number, &end);
		if (yes) {
			number *= (uint64_t)i->bytes.multiplier;
			if (i->bytes.align_to != 0)
				number = (number + i->bytes.align_to - 1u) &
				    ~(uint64_t)(i->bytes.align_to - 1u);
			k->var[i->bytes.var] = (int64_t)number;
			at = end;
		}
		break;
	case DPI_IT_BYTE_MATH:
		yes = read_bytes(k, i, bytes, len, at, &number, &end);
		if (yes) {
			number =
			    math(i->bytes.math, number, (uint64_t)value(k, &i->bytes.value), &yes);
			k->var[i->bytes.var] = (int64_t)number;
			at = end;
		}
		break;
	case DPI_IT_BSIZE:
		yes = dpi_range_has(&i->range, len);
		break;
	case DPI_IT_BASE64:
		yes = base64_holds(k, i, bytes, len, at);
		break;
	case DPI_IT_EVENT:
		yes = k->events != NULL && dpi_event_get(k->events, i->event) != i->negated;
		break;
	case DPI_IT_DCE_IFACE:
		yes = k->dce != NULL && k->dce->has_iface &&
		    memcmp(k->dce->iface, i->uuid, 16) == 0;
		break;
	case DPI_IT_DCE_OPNUM:
		yes = k->dce != NULL && k->dce->has_opnum &&
		    dpi_range_has(&i->range, k->dce->opnum);
		break;
	default:
		yes = false;
	}
	return yes && holds_from(k, l, n + 1, bytes, len, at);
}

bool
dpi_list_holds(struct dpi_look *k, const struct dpi_list *l, const uint8_t *bytes, uint32_t len)
{
	static const uint8_t nothing[1];

	k->steps = 0;
	memset(k->var, 0, sizeof(k->var));
	if (bytes == NULL)
		bytes = nothing;
	return dpi_transform(k, l, &bytes, &len) && holds_from(k, l, 0, bytes, len, 0);
}
