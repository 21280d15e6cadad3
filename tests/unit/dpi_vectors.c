#include "tests/unit/dpi_vectors.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test.h"

static unsigned int
digit(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* Bytes of a line.  Their number. */
static size_t
read_bytes(const char *s, uint8_t *out)
{
	size_t n = 0;

	while (*s != '\0' && *s != '\n') {
		if (*s == '\'') {
			for (s++; *s != '\'' && *s != '\0'; s++) {
				char c = *s;

				if (c == '\\' && strchr("rn0", s[1]) != NULL) {
					s++;
					c = *s == 'r' ? '\r' : *s == 'n' ? '\n' : '\0';
				}
				out[n++] = (uint8_t)c;
			}
			s++;
		} else if (*s == '*') {
			size_t times = strtoul(s + 1, (char **)(uintptr_t)&s, 10);
			uint8_t b = out[--n];

			memset(out + n, b, times);
			n += times;
		} else if (isxdigit((unsigned char)*s)) {
			assert_true(isxdigit((unsigned char)s[1]));
			out[n++] = (uint8_t)(digit(s[0]) << 4 | digit(s[1]));
			s += 2;
		} else {
			assert_int_equal(*s, ' ');
			s++;
		}
	}
	return n;
}

struct dpi_vector *
dpi_vectors_read(size_t *nb)
{
	struct dpi_vector *all = calloc(256, sizeof(*all)), *v = all - 1;
	const char *src = getenv("SRCDIR");
	char path[1024], line[4096], app[32], transport[8];
	unsigned int number = 0;
	uint8_t bytes[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/data/dpi/vectors.txt", src != NULL ? src : ".");
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		number++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (line[1] == ' ') {
			struct dpi_message *m = &v->message[v->nb++];

			assert_true(v->nb <= PK_COUNT(v->message));
			m->dir = line[0] == 's';
			m->len = (uint16_t)read_bytes(line + 2, bytes);
			/* No longer than it is, for the sanitizer's sake. */
			m->bytes = malloc(m->len);
			assert_non_null(m->bytes);
			memcpy(m->bytes, bytes, m->len);
			continue;
		}
		assert_int_equal(sscanf(line, "%31s %7s", app, transport), 2);
		v++;
		v->app = dpi_app_find(app);
		v->line = number;
		v->transport = strcmp(transport, "tcp") == 0 ? DPI_TCP : DPI_UDP;
		assert_true(v->app != DPI_APP_UNKNOWN || strcmp(app, "unknown") == 0);
	}
	fclose(f);
	*nb = (size_t)(v + 1 - all);
	return all;
}

void
dpi_vectors_free(struct dpi_vector *v, size_t nb)
{
	for (size_t i = 0; i < nb; i++)
		for (unsigned int m = 0; m < v[i].nb; m++)
			free(v[i].message[m].bytes);
	free(v);
}
