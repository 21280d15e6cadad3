#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/server/store.h"

/* Where `name` is, or belongs. */
static size_t
place(const struct server_texts *t, const char *name, bool *found)
{
	size_t lo = 0, hi = t->nb;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(t->item[mid].name, name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int
server_texts_put(struct server_texts *t, const char *name, const void *text, size_t len)
{
	bool found;
	size_t i = place(t, name, &found);
	char *copy = malloc(len + 1), *name_copy = NULL;

	if (copy == NULL)
		return -ENOMEM;
	if (len != 0)
		memcpy(copy, text, len);
	copy[len] = '\0';
	if (found) {
		free(t->item[i].text);
		t->item[i].text = copy;
		t->item[i].len = len;
		return 0;
	}
	if (t->nb == t->room) {
		size_t room = t->room != 0 ? t->room * 2 : 16;
		struct server_text *wider = realloc(t->item, room * sizeof(t->item[0]));

		if (wider == NULL)
			goto fail;
		t->item = wider;
		t->room = room;
	}
	name_copy = strdup(name);
	if (name_copy == NULL)
		goto fail;
	memmove(t->item + i + 1, t->item + i, (t->nb - i) * sizeof(t->item[0]));
	t->item[i] = (struct server_text){ .name = name_copy, .text = copy, .len = len };
	t->nb++;
	return 0;
fail:
	free(copy);
	return -ENOMEM;
}

int
server_texts_remove(struct server_texts *t, const char *name)
{
	bool found;
	size_t i = place(t, name, &found);

	if (!found)
		return -ENOENT;
	free(t->item[i].name);
	free(t->item[i].text);
	t->nb--;
	memmove(t->item + i, t->item + i + 1, (t->nb - i) * sizeof(t->item[0]));
	return 0;
}

const struct server_text *
server_texts_find(const struct server_texts *t, const char *name)
{
	bool found;
	size_t i = place(t, name, &found);

	return found ? &t->item[i] : NULL;
}

int
server_texts_copy(struct server_texts *out, const struct server_texts *from)
{
	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < from->nb; i++) {
		const struct server_text *t = &from->item[i];

		if (server_texts_put(out, t->name, t->text, t->len) != 0) {
			server_texts_fini(out);
			return -ENOMEM;
		}
	}
	return 0;
}

bool
server_texts_equal(const struct server_texts *a, const struct server_texts *b)
{
	if (a->nb != b->nb)
		return false;
	for (size_t i = 0; i < a->nb; i++)
		if (strcmp(a->item[i].name, b->item[i].name) != 0 ||
		    a->item[i].len != b->item[i].len ||
		    memcmp(a->item[i].text, b->item[i].text, a->item[i].len) != 0)
			return false;
	return true;
}

void
server_texts_fini(struct server_texts *t)
{
	for (size_t i = 0; i < t->nb; i++) {
		free(t->item[i].name);
		free(t->item[i].text);
	}
	free(t->item);
	memset(t, 0, sizeof(*t));
}
