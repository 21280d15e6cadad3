#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ctl/ctl.h"
#include "ctl/server.h"

/* Reference values as a source of policy: one document of kind Reference, which names no file any more. */

#define APPLY_NS (150 * PK_NS_PER_S)

static char *
read_text(const char *beside, const char *path, size_t *len)
{
	const char *slash = strrchr(beside, '/');
	char whole[4096], *text = NULL, *wider;
	size_t room = 0;
	FILE *f;

	if (path[0] == '/' || slash == NULL)
		snprintf(whole, sizeof(whole), "%s", path);
	else
		snprintf(whole, sizeof(whole), "%.*s/%s", (int)(slash - beside), beside, path);
	*len = 0;
	f = fopen(whole, "re");
	while (f != NULL && !feof(f) && !ferror(f)) {
		room = room != 0 ? room * 2 : 65536;
		wider = realloc(text, room + 1);
		if (wider == NULL)
			break;
		text = wider;
		*len += fread(text + *len, 1, room - *len, f);
	}
	if (f == NULL || ferror(f)) {
		fprintf(stderr, "picketctl: %s: %s\n", whole, strerror(errno));
		free(text);
		text = NULL;
	} else if (text != NULL) {
		text[*len] = '\0';
	}
	if (f != NULL)
		fclose(f);
	return text;
}

/* A policy in JSON, or what sha256sum prints, as a member of the values.  NULL: it is neither. */
static json_t *
ima_of(char *text, size_t len)
{
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	char *line, *rest = text;

	if (o != NULL)
		return o;
	o = json_object();
	while ((line = strsep(&rest, "\n")) != NULL) {
		size_t n = strspn(line, "0123456789abcdefABCDEF");
		json_t *list;

		if (line[0] == '\0' || line[0] == '#')
			continue;
		if (n < 40 || line[n] != ' ' || line[n + 1] == '\0' || line[n + 2] == '\0') {
			json_decref(o);
			return NULL;
		}
		line[n] = '\0';
		list = json_object_get(o, line + n + 2);
		if (list == NULL) {
			list = json_array();
			json_object_set_new(o, line + n + 2, list);
		}
		json_array_append_new(list, json_string(line));
	}
	return o;
}

static json_t *
values_of(struct ctl_context *ctx, const char *path)
{
	const char *file;
	json_t *o, *ima;
	char *text;
	size_t len;
	json_error_t error;

	text = read_text("", path, &len);
	if (text == NULL)
		return NULL;
	o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	free(text);
	if (!json_is_object(o)) {
		ctl_refused(ctx, "%s:%d: %s", path, o == NULL ? error.line : 1,
		    o == NULL ? error.text : "not an object");
		json_decref(o);
		return NULL;
	}
	file = json_string_value(json_object_get(o, "ek_roots"));
	if (file != NULL && strstr(file, "-----BEGIN") == NULL) {
		if ((text = read_text(path, file, &len)) == NULL)
			goto fail;
		json_object_set_new(o, "ek_roots", json_string(text));
		free(text);
	}
	file = json_string_value(json_object_get(o, "ima"));
	if (file != NULL) {
		if ((text = read_text(path, file, &len)) == NULL)
			goto fail;
		ima = ima_of(text, len);
		free(text);
		if (ima == NULL) {
			ctl_refused(
			    ctx, "%s: is neither a policy in JSON nor what sha256sum prints", file);
			goto fail;
		}
		json_object_set_new(o, "ima", ima);
	}
	return o;
fail:
	json_decref(o);
	return NULL;
}

struct wanted {
	const char *name, *file, *dpus, *subject, *message;
};

static bool
take_options(int argc, char **argv, struct wanted *w)
{
	*w = (struct wanted){ .subject = "host", .message = "" };
	for (int i = 0; i < argc; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "--dpus") == 0 && more)
			w->dpus = argv[++i];
		else if (strcmp(argv[i], "--subject") == 0 && more)
			w->subject = argv[++i];
		else if (strcmp(argv[i], "--message") == 0 && more)
			w->message = argv[++i];
		else if (argv[i][0] == '-')
			return false;
		else if (w->name == NULL)
			w->name = argv[i];
		else if (w->file == NULL)
			w->file = argv[i];
		else
			return false;
	}
	return w->file != NULL && w->dpus != NULL;
}

/* JSON is YAML too. */
static char *
document_of(struct ctl_context *ctx, const struct wanted *w)
{
	json_t *values = values_of(ctx, w->file), *list, *doc;
	char *text, *copy, *word, *rest;

	if (values == NULL)
		return NULL;
	text = json_dumps(values, JSON_COMPACT);
	json_decref(values);
	list = json_array();
	rest = copy = strdup(w->dpus);
	while (copy != NULL && (word = strsep(&rest, ",")) != NULL)
		if (word[0] != '\0')
			json_array_append_new(list, json_string(word));
	free(copy);
	doc = json_pack("{s:s, s:s, s:{s:s}, s:{s:o, s:s, s:s}}", "apiVersion", "picket.io/v1",
	    "kind", "Reference", "metadata", "name", w->name, "spec", "dpus", list, "subject",
	    w->subject, "values", text != NULL ? text : "");
	free(text);
	text = doc != NULL ? json_dumps(doc, JSON_INDENT(1) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(doc);
	return text;
}

static int
reference_make(struct ctl_context *ctx, int argc, char **argv)
{
	struct wanted w;
	char *text;

	if (!take_options(argc, argv, &w))
		return ctl_usage(ctx, "want NAME FILE --dpus LIST [--subject host|dpu]");
	text = document_of(ctx, &w);
	if (text == NULL)
		return CTL_REFUSED;
	printf("%s\n", text);
	free(text);
	return CTL_DONE;
}

static int
reference_apply(struct ctl_context *ctx, int argc, char **argv)
{
	Picket__V1__ApplyRequest m = PICKET__V1__APPLY_REQUEST__INIT;
	Picket__V1__Source source = PICKET__V1__SOURCE__INIT, *list = &source;
	Picket__V1__Wait wait = PICKET__V1__WAIT__INIT;
	Picket__V1__ApplyReply *r;
	struct wanted w;
	char name[256], *text;
	int rc;

	if (!take_options(argc, argv, &w))
		return ctl_usage(
		    ctx, "want NAME FILE --dpus LIST [--subject host|dpu] [--message TEXT]");
	text = document_of(ctx, &w);
	if (text == NULL)
		return CTL_REFUSED;
	snprintf(name, sizeof(name), "reference/%s.yaml", w.name);
	source.name = name;
	source.text.data = (uint8_t *)text;
	source.text.len = strlen(text);
	m.sources = &list;
	m.n_sources = 1;
	m.message = (char *)(uintptr_t)w.message;
	wait.wait = true;
	m.wait = &wait;
	r = ctl_server_ask(ctx, "Apply", &m.base, &picket__v1__apply_reply__descriptor, APPLY_NS);
	free(text);
	if (r == NULL)
		return CTL_REFUSED;
	rc = ctl_print_applied(ctx, r, false, true);
	picket__v1__apply_reply__free_unpacked(r, NULL);
	return rc;
}

const struct ctl_command ctl_attest_reference_commands[] = {
	{ "attest reference make", "NAME FILE --dpus LIST [--subject host|dpu]",
	    "print reference values as a source of kind Reference, for policy apply",
	    reference_make },
	{ "attest reference apply", "NAME FILE --dpus LIST [--subject host|dpu] [--message TEXT]",
	    "bring reference values into force for the DPUs named, as policy is", reference_apply },
	{ NULL, NULL, NULL, NULL },
};
