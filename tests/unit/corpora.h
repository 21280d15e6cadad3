#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Where the captures, logs and policies made by others are.  They lie outside the tree: in the directory that
 * PICKET_CORPORA names, else in ../shared/corpora beside the sources, or one further up.  Writes the path of
 * `part` ("" for all) to buf; false when it is not there, and then buf is the place to name in a skip.
 */
static inline bool
corpora_find(const char *part, char *buf, size_t size)
{
	const char *env = getenv("PICKET_CORPORA"), *src = getenv("SRCDIR");
	static const char *const near[] = { "..", "../.." };

	if (env != NULL && env[0] != '\0') {
		snprintf(buf, size, "%s/%s", env, part);
		return access(buf, R_OK) == 0;
	}
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
		snprintf(
		    buf, size, "%s/%s/shared/corpora/%s", src != NULL ? src : ".", near[i], part);
		if (access(buf, R_OK) == 0)
			return true;
	}
	return false;
}
