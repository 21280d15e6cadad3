#include "lib/conf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_COLUMNS 78

/* Largest first: a value is printed in the largest unit that divides it. */
static const struct suffix {
	const char *text;
	uint64_t factor;
} durations[] = {
	{ "d", 86400 * PK_NS_PER_S },
	{ "h", 3600 * PK_NS_PER_S },
	{ "m", 60 * PK_NS_PER_S },
	{ "s", PK_NS_PER_S },
	{ "ms", PK_NS_PER_MS },
	{ "us", PK_NS_PER_US },
	{ "ns", 1 },
}, sizes[] = {
	{ "g", UINT64_C(1) << 30 },
	{ "m", UINT64_C(1) << 20 },
	{ "k", UINT64_C(1) << 10 },
	{ "", 1 },
};

static const char *const type_wants[] = {
	[PK_CONF_BOOL] = "yes or no",
	[PK_CONF_NUMBER] = "a number",
	[PK_CONF_SIZE] = "a size such as 64k, 16m or 2g",
	[PK_CONF_DURATION] = "a time with its unit, such as 250ms, 30s or 2h",
	[PK_CONF_STRING] = "text",
	[PK_CONF_WORD] = "one of its words",
	[PK_CONF_LIST] = "text",
};

static int
parse_scaled(const char *text, const struct suffix *suffixes, size_t n, uint64_t *value)
{
	unsigned long long number;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(end, suffixes[i].text) != 0)
			continue;
		return __builtin_mul_overflow(number, suffixes[i].factor, value) ? -EINVAL : 0;
	}
	return -EINVAL;
}

int
pk_conf_parse_duration(const char *text, uint64_t *ns)
{
	if (strcmp(text, "0") == 0) {
		*ns = 0;
		return 0;
	}
	return parse_scaled(text, durations, PK_COUNT(durations), ns);
}

int
pk_conf_parse_size(const char *text, uint64_t *bytes)
{
	return parse_scaled(text, sizes, PK_COUNT(sizes), bytes);
}

static const char *
print_scaled(const struct suffix *suffixes, size_t n, uint64_t value, char *buf, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		if (value != 0 && value % suffixes[i].factor == 0) {
			snprintf(buf, size, "%" PRIu64 "%s", value / suffixes[i].factor,
			    suffixes[i].text);
			return buf;
		}
	}
	snprintf(buf, size, "0");
	return buf;
}

static void *
member(const struct pk_conf_option *o, const void *values)
{
	return (char *)(uintptr_t)values + o->offset;
}

static void
list_clear(struct pk_conf_list *list)
{
	for (size_t i = 0; i < list->nb; i++)
		free(list->item[i]);
	free(list->item);
	*list = (struct pk_conf_list){ 0 };
}

static void
list_add(struct pk_conf_list *list, const char *text)
{
	char **grown = realloc(list->item, (list->nb + 2) * sizeof(*grown));

	PK_ASSERT(grown != NULL);
	list->item = grown;
	list->item[list->nb] = strdup(text);
	PK_ASSERT(list->item[list->nb] != NULL);
	list->item[++list->nb] = NULL;
}

static int
refuse_range(const struct pk_conf_option *o, const char *text, struct pk_diag *diag)
{
	char low[32], high[32];
	const struct suffix *s = o->type == PK_CONF_DURATION ? durations : sizes;
	size_t n = o->type == PK_CONF_DURATION ? PK_COUNT(durations) : PK_COUNT(sizes);

	if (o->type == PK_CONF_NUMBER) {
		s = &sizes[PK_COUNT(sizes) - 1];
		n = 1;
	}
	if (o->max == 0)
		pk_diag_set(diag, "%s = %s: want at least %s", o->name, text,
		    print_scaled(s, n, o->min, low, sizeof(low)));
	else
		pk_diag_set(diag, "%s = %s: want %s to %s", o->name, text,
		    print_scaled(s, n, o->min, low, sizeof(low)),
		    print_scaled(s, n, o->max, high, sizeof(high)));
	return -EINVAL;
}

/* Put `text` into the member.  A list gains one element. */
static int
assign(const struct pk_conf_option *o, void *values, const char *text, struct pk_diag *diag)
{
	void *m = member(o, values);
	uint64_t number = 0;
	int rc = 0;

	switch (o->type) {
	case PK_CONF_BOOL:
		if (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0 ||
		    strcmp(text, "on") == 0)
			*(bool *)m = true;
		else if (strcmp(text, "no") == 0 || strcmp(text, "false") == 0 ||
		    strcmp(text, "off") == 0)
			*(bool *)m = false;
		else
			rc = -EINVAL;
		break;
	case PK_CONF_NUMBER:
		rc = parse_scaled(text, &sizes[PK_COUNT(sizes) - 1], 1, &number);
		break;
	case PK_CONF_SIZE:
		rc = pk_conf_parse_size(text, &number);
		break;
	case PK_CONF_DURATION:
		rc = pk_conf_parse_duration(text, &number);
		break;
	case PK_CONF_STRING:
		free(*(char **)m);
		*(char **)m = strdup(text);
		PK_ASSERT(*(char **)m != NULL);
		return 0;
	case PK_CONF_WORD: {
		size_t nb = 0;
		const char *near;

		for (; o->words[nb] != NULL; nb++) {
			if (strcmp(o->words[nb], text) == 0) {
				*(int *)m = (int)nb;
				return 0;
			}
		}
		near = pk_suggest(text, o->words, nb);
		pk_diag_set(diag, "%s = %s: no such word; did you mean \"%s\"?", o->name, text,
		    near != NULL ? near : o->words[0]);
		return -EINVAL;
	}
	case PK_CONF_LIST:
		list_add(m, text);
		return 0;
	}
	if (rc != 0) {
		pk_diag_set(diag, "%s = %s: want %s", o->name, text, type_wants[o->type]);
		return -EINVAL;
	}
	if (o->type != PK_CONF_BOOL) {
		if (number < o->min || (o->max != 0 && number > o->max))
			return refuse_range(o, text, diag);
		*(uint64_t *)m = number;
	}
	return 0;
}

void
pk_conf_init(const struct pk_conf_option *options, size_t n, void *values)
{
	struct pk_diag diag;

	for (size_t i = 0; i < n; i++) {
		const struct pk_conf_option *o = &options[i];

		if (o->type == PK_CONF_STRING)
			*(char **)member(o, values) = NULL;
		else if (o->type == PK_CONF_LIST)
			*(struct pk_conf_list *)member(o, values) = (struct pk_conf_list){ 0 };
		if (o->value != NULL && assign(o, values, o->value, &diag) < 0)
			pk_bug(__FILE__, __LINE__, diag.text);
	}
}

void
pk_conf_fini(const struct pk_conf_option *options, size_t n, void *values)
{
	for (size_t i = 0; i < n; i++) {
		void *m = member(&options[i], values);

		if (options[i].type == PK_CONF_LIST) {
			list_clear(m);
		} else if (options[i].type == PK_CONF_STRING) {
			free(*(char **)m);
			*(char **)m = NULL;
		}
	}
}

static const struct pk_conf_option *
find(const struct pk_conf_option *options, size_t n, const char *name, struct pk_diag *diag)
{
	const char *names[128], *near;

	PK_ASSERT(n <= PK_COUNT(names));
	for (size_t i = 0; i < n; i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
		names[i] = options[i].name;
	}
	near = pk_suggest(name, names, n);
	if (near != NULL)
		pk_diag_set(diag, "there is no option \"%s\"; did you mean \"%s\"?", name, near);
	else
		pk_diag_set(diag, "there is no option \"%s\"; -n prints those there are", name);
	return NULL;
}

int
pk_conf_set(const struct pk_conf_option *options, size_t n, void *values, const char *name,
    const char *text, struct pk_diag *diag)
{
	const struct pk_conf_option *o = find(options, n, name, diag);
	struct pk_conf_list *list;

	if (o == NULL)
		return -EINVAL;
	/* A list that holds nothing but its default is replaced, not added to. */
	list = member(o, values);
	if (o->type == PK_CONF_LIST && o->value != NULL && list->nb == 1 &&
	    strcmp(list->item[0], o->value) == 0)
		list_clear(list);
	return assign(o, values, text, diag);
}

static char *
trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

/* Everything in the file is checked against fresh defaults before any of it is believed. */
static int
read_lines(const struct pk_conf_option *options, size_t n, void *values, FILE *f, const char *path,
    struct pk_diag *diag)
{
	bool seen[128] = { false };
	char *line = NULL;
	size_t room = 0;
	unsigned int number = 0;
	int rc = 0;

	while (rc == 0 && getline(&line, &room, f) >= 0) {
		const struct pk_conf_option *o;
		struct pk_diag why;
		char *name, *value, *equals, *comment;

		number++;
		comment = strchr(line, '#');
		if (comment != NULL)
			*comment = '\0';
		name = trim(line);
		if (*name == '\0')
			continue;
		equals = strchr(name, '=');
		if (equals == NULL) {
			pk_diag_at(diag, path, number, (unsigned int)(name - line) + 1,
			    "\"%.64s\" is not a line of the form name = value", name);
			rc = -EINVAL;
			break;
		}
		*equals = '\0';
		value = trim(equals + 1);
		name = trim(name);
		o = find(options, n, name, &why);
		if (o == NULL) {
			pk_diag_at(
			    diag, path, number, (unsigned int)(name - line) + 1, "%s", why.text);
			rc = -EINVAL;
			break;
		}
		if (seen[o - options] && o->type != PK_CONF_LIST) {
			pk_diag_at(diag, path, number, (unsigned int)(name - line) + 1,
			    "%s is set a second time; once is enough", name);
			rc = -EINVAL;
			break;
		}
		if (!seen[o - options] && o->type == PK_CONF_LIST)
			list_clear(member(o, values));
		seen[o - options] = true;
		if (assign(o, values, value, &why) < 0) {
			pk_diag_at(
			    diag, path, number, (unsigned int)(value - line) + 1, "%s", why.text);
			rc = -EINVAL;
		}
	}
	if (rc == 0 && ferror(f)) {
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		rc = -EIO;
	}
	free(line);
	return rc;
}

int
pk_conf_load(const struct pk_conf_option *options, size_t n, void *values, const char *path,
    struct pk_diag *diag)
{
	size_t size = 0;
	void *fresh;
	FILE *f;
	int rc;

	f = fopen(path, "re");
	if (f == NULL) {
		rc = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < n; i++)
		size = PK_MAX(size, options[i].offset + sizeof(struct pk_conf_list));
	fresh = calloc(1, size);
	PK_ASSERT(fresh != NULL);
	pk_conf_init(options, n, fresh);
	rc = read_lines(options, n, fresh, f, path, diag);
	fclose(f);
	if (rc == 0) {
		/* Member by member: the caller's struct may hold more than options. */
		for (size_t i = 0; i < n; i++) {
			static const size_t sizes_of[] = {
				[PK_CONF_BOOL] = sizeof(bool),
				[PK_CONF_NUMBER] = sizeof(uint64_t),
				[PK_CONF_SIZE] = sizeof(uint64_t),
				[PK_CONF_DURATION] = sizeof(uint64_t),
				[PK_CONF_STRING] = sizeof(char *),
				[PK_CONF_WORD] = sizeof(int),
				[PK_CONF_LIST] = sizeof(struct pk_conf_list),
			};
			struct pk_conf_list swap;
			void *to = member(&options[i], values), *from = member(&options[i], fresh);
			size_t len = sizes_of[options[i].type];

			memcpy(&swap, to, len);
			memcpy(to, from, len);
			memcpy(from, &swap, len);
		}
	}
	pk_conf_fini(options, n, fresh);
	free(fresh);
	return rc;
}

const char *
pk_conf_text(const struct pk_conf_option *o, const void *values, size_t i, char *buf, size_t size)
{
	const void *m = member(o, values);
	const struct pk_conf_list *list = m;

	if (o->type == PK_CONF_LIST) {
		if (i >= list->nb)
			return NULL;
		snprintf(buf, size, "%s", list->item[i]);
		return buf;
	}
	if (i > 0)
		return NULL;
	switch (o->type) {
	case PK_CONF_BOOL:
		snprintf(buf, size, "%s", *(const bool *)m ? "yes" : "no");
		break;
	case PK_CONF_NUMBER:
		snprintf(buf, size, "%" PRIu64, *(const uint64_t *)m);
		break;
	case PK_CONF_SIZE:
		return print_scaled(sizes, PK_COUNT(sizes), *(const uint64_t *)m, buf, size);
	case PK_CONF_DURATION:
		return print_scaled(
		    durations, PK_COUNT(durations), *(const uint64_t *)m, buf, size);
	case PK_CONF_STRING:
		if (*(char *const *)m == NULL)
			return NULL;
		snprintf(buf, size, "%s", *(char *const *)m);
		break;
	case PK_CONF_WORD:
		snprintf(buf, size, "%s", o->words[*(const int *)m]);
		break;
	case PK_CONF_LIST:
		break;
	}
	return buf;
}

void
pk_conf_print(const struct pk_conf_option *options, size_t n, const void *values, FILE *f)
{
	char buf[1024];

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; pk_conf_text(&options[i], values, k, buf, sizeof(buf)) != NULL;
		     k++)
			fprintf(f, "%s = %s\n", options[i].name, buf);
}

/* "number of sessions, 1k to 1g; can be changed while running" */
static void
describe_type(const struct pk_conf_option *o, char *buf, size_t size)
{
	char low[32], high[32];
	const struct suffix *s = o->type == PK_CONF_DURATION ? durations : sizes;
	size_t ns = o->type == PK_CONF_DURATION ? PK_COUNT(durations) : PK_COUNT(sizes);
	int at;

	if (o->type == PK_CONF_NUMBER) {
		s = &sizes[PK_COUNT(sizes) - 1];
		ns = 1;
	}
	if (o->type == PK_CONF_WORD) {
		at = snprintf(buf, size, "One of");
		for (size_t i = 0; o->words[i] != NULL && (size_t)at < size; i++)
			at += snprintf(
			    buf + at, size - (size_t)at, "%s %s", i > 0 ? "," : "", o->words[i]);
	} else {
		at = snprintf(buf, size, "%c%s", toupper((unsigned char)type_wants[o->type][0]),
		    type_wants[o->type] + 1);
	}
	if (o->unit != NULL && (size_t)at < size)
		at += snprintf(buf + at, size - (size_t)at, " (%s)", o->unit);
	if (o->max != 0 && (size_t)at < size)
		at += snprintf(buf + at, size - (size_t)at, ", %s to %s",
		    print_scaled(s, ns, o->min, low, sizeof(low)),
		    print_scaled(s, ns, o->max, high, sizeof(high)));
	if (o->type == PK_CONF_LIST && (size_t)at < size)
		at += snprintf(buf + at, size - (size_t)at, "; may be given several times");
	if (o->reloadable && (size_t)at < size)
		at += snprintf(buf + at, size - (size_t)at, "; SIGHUP re-reads it");
	if ((size_t)at < size)
		snprintf(buf + at, size - (size_t)at, ".");
}

static void
print_wrapped(const char *text, FILE *f)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, " ");

		if (column == 0 || column + 1 + len > TEXT_COLUMNS) {
			fprintf(f, "%s# ", column == 0 ? "" : "\n");
			column = 2;
		} else {
			fputc(' ', f);
			column++;
		}
		fwrite(text, 1, len, f);
		column += len;
		text += len + strspn(text + len, " ");
	}
	fputc('\n', f);
}

void
pk_conf_print_sample(const struct pk_conf_option *options, size_t n, const char *program, FILE *f)
{
	char type[256], text[1280];

	fprintf(f,
	    "# Configuration of %s.  Every option stands here, commented out, at its default.\n",
	    program);
	for (size_t i = 0; i < n; i++) {
		const struct pk_conf_option *o = &options[i];

		describe_type(o, type, sizeof(type));
		snprintf(text, sizeof(text), "%s %s", o->help, type);
		fputc('\n', f);
		print_wrapped(text, f);
		fprintf(f, "#%s =%s%s\n", o->name, o->value != NULL ? " " : "",
		    o->value != NULL ? o->value : "");
	}
}

/* roff wants each sentence on a line of its own. */
static void
print_sentences(const char *text, FILE *f)
{
	for (; *text != '\0'; text++) {
		fputc(*text, f);
		if (*text == '.' && text[1] == ' ') {
			fputc('\n', f);
			text += strspn(text + 1, " ");
		}
	}
	fputc('\n', f);
}

void
pk_conf_print_man(const struct pk_conf_option *options, size_t n, FILE *f)
{
	char type[256];

	fprintf(f, ".Bl -tag -width Ds\n");
	for (size_t i = 0; i < n; i++) {
		const struct pk_conf_option *o = &options[i];

		describe_type(o, type, sizeof(type));
		fprintf(f, ".It Ic %s No = Ar %s\n", o->name,
		    o->value != NULL && o->value[0] != '\0' ? o->value : "(none)");
		print_sentences(o->help, f);
		print_sentences(type, f);
	}
	fprintf(f, ".El\n");
}
