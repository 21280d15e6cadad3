#include "lib/name.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "lib/base.h"

#define LABEL_MAX 63

static bool
is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* What is wrong with a pattern in lower case and without its final dot; NULL: nothing. */
static const char *
wrong(const char *p)
{
	size_t label = 0;

	if (strcmp(p, "*") == 0)
		return NULL;
	if (*p == '\0')
		return "a name";
	if (*p == '+' || (*p == '*' && p[1] == '.')) {
		if (p[1] != '.' || p[2] == '\0')
			return "a name after \"+.\"";
		p += 2;
	}
	for (; *p != '\0'; p++) {
		if (*p == '.') {
			if (label == 0)
				return "no empty labels";
			label = 0;
			continue;
		}
		if (*p == '*' && p[1] == '*')
			return "one * at a time";
		if (*p != '*' && !is_word(*p))
			return "letters, digits, - and _ with dots between, or *";
		if (++label > LABEL_MAX)
			return "labels of at most 63 bytes";
	}
	return label != 0 ? NULL : "no empty labels";
}

int
pk_name_pattern(char out[PK_NAME_PATTERN_MAX], const char *text, struct pk_diag *diag)
{
	size_t len = strlen(text);
	const char *want;

	if (len > 1 && text[len - 1] == '.')
		len--;
	if (len >= PK_NAME_PATTERN_MAX) {
		pk_diag_set(
		    diag, "\"%.40s...\" is longer than %d bytes", text, PK_NAME_PATTERN_MAX - 1);
		return -EINVAL;
	}
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)text[i]);
	out[len] = '\0';
	want = wrong(out);
	if (want == NULL)
		return 0;
	pk_diag_set(diag, "\"%s\" is no DNS name: want %s", text, want);
	return -EINVAL;
}

bool
pk_name_is_pattern(const char *pattern)
{
	return strlen(pattern) < PK_NAME_PATTERN_MAX && wrong(pattern) == NULL;
}

/* `pattern` up to its end or next dot against the same of `name`, with one place to come back to. */
static bool
match_label(const char **pattern, const char **name)
{
	const char *p = *pattern, *n = *name, *star = NULL, *again = NULL;

	while (*n != '\0' && *n != '.') {
		if (*p == '*') {
			star = ++p;
			again = n;
		} else if (*p == *n) {
			p++;
			n++;
		} else if (star != NULL) {
			p = star;
			n = ++again;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	*pattern = p;
	*name = n;
	return *p == '\0' || *p == '.';
}

static unsigned int
dots(const char *s)
{
	unsigned int n = 0;

	for (; *s != '\0'; s++)
		n += *s == '.';
	return n;
}

bool
pk_name_match(const char *pattern, const char *name)
{
	if (strcmp(pattern, "*") == 0)
		return *name != '\0';
	if (pattern[0] == '*' && pattern[1] == '.') {
		unsigned int want = dots(pattern), have = dots(name);

		/* All labels but those behind the star are its. */
		for (; have >= want && have > 0 && *name != '\0'; have--) {
			name = strchr(name, '.') + 1;
			if (have == want)
				break;
		}
		if (have < want)
			return false;
		pattern += 2;
	} else if (pattern[0] == '+') {
		name = strchr(name, '.');
		if (name == NULL)
			return false;
		name++;
		pattern += 2;
	}
	for (;; pattern++, name++) {
		if (!match_label(&pattern, &name))
			return false;
		if (*pattern == '\0' || *name == '\0')
			return *pattern == *name;
	}
}

const char *
pk_name_fixed(const char *pattern)
{
	const char *fixed = pattern;

	if (strcmp(pattern, "*") == 0)
		return pattern + 1;
	for (const char *p = pattern; *p != '\0'; p++) {
		const char *dot;

		if (*p != '*' && *p != '+')
			continue;
		dot = strchr(p, '.');
		if (dot == NULL)
			return p + strlen(p);
		fixed = dot + 1;
	}
	return fixed;
}
