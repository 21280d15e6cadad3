#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "policy/model_priv.h"

#define PATH_DEPTH_MAX 16 /* directories inside each other */

void
policy_objects_fini(struct policy_objects *o)
{
	free(o->policies.at);
	free(o->groups.at);
	free(o->services.at);
	free(o->tiers.at);
	free(o->tenants.at);
	free(o->workloads.at);
	free(o->hosts.at);
	free(o->namespaces.at);
	free(o->nodes.at);
	free(o->rollouts.at);
	free(o->roles.at);
	free(o->references.at);
	free(o->links.at);
	memset(o, 0, sizeof(*o));
}

void
policy_source_destroy(struct policy_source *s)
{
	if (s == NULL)
		return;
	policy_objects_fini(&s->objects);
	policy_arena_fini(&s->arena);
	free(s);
}

int
policy_model_create(struct policy_model **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
policy_model_destroy(struct policy_model *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->sources.nb; i++)
		policy_source_destroy(m->sources.at[i]);
	free(m->sources.at);
	free(m);
}

int
policy_source_create(struct policy_source **out, const char *name, const char *text, size_t len,
    struct policy_arena *scratch, struct policy_findings *f)
{
	struct policy_source *s = calloc(1, sizeof(*s));
	struct policy_reader r = { .findings = f };
	struct policy_docs docs;
	int rc;

	if (s == NULL)
		return -ENOMEM;
	policy_arena_reset(scratch);
	s->name = policy_arena_text(&s->arena, name);
	if (s->name == NULL) {
		rc = -ENOMEM;
		goto fail;
	}
	rc = policy_yaml_parse(&s->arena, scratch, s->name, text, len, f, &docs);
	/* A key that stands twice is the only error after which there are documents to go on with. */
	if (rc < 0 && (rc != -EINVAL || docs.nb == 0))
		goto fail;
	r.arena = &s->arena;
	r.file = s->name;
	r.errors = rc < 0;
	for (size_t i = 0; i < docs.nb && r.errors < POLICY_ERRORS_MAX && !r.nomem; i++)
		if (!policy_node_is_null(docs.at[i]))
			policy_document_read(&r, docs.at[i], &s->objects);
	rc = r.nomem ? -ENOMEM : r.errors > 0 ? -EINVAL : 0;
	if (rc < 0)
		goto fail;
	*out = s;
	return 0;
fail:
	policy_source_destroy(s);
	return rc;
}

int
policy_model_add_text(struct policy_model *m, const char *name, const char *text, size_t len,
    struct policy_findings *f)
{
	struct policy_arena scratch = { 0 };
	struct policy_source *s, **slot;
	int rc = policy_source_create(&s, name, text, len, &scratch, f);

	policy_arena_fini(&scratch);
	if (rc < 0)
		return rc;
	slot = POLICY_PUSH(&m->sources);
	if (slot == NULL) {
		policy_source_destroy(s);
		return -ENOMEM;
	}
	*slot = s;
	return 0;
}

static int
unreadable(struct policy_findings *f, const char *path, int error)
{
	policy_findings_add(f, POLICY_ERROR, path, 0, 0, "unreadable", "%s", strerror(error));
	return -EINVAL;
}

/* An inventory is often named beside the directory it lies in; it is one source all the same. */
static int
is_known(const struct policy_model *m, const struct stat *st)
{
	for (size_t i = 0; i < m->sources.nb; i++)
		if (m->sources.at[i]->inode == st->st_ino &&
		    m->sources.at[i]->device == st->st_dev && st->st_ino != 0)
			return 1;
	return 0;
}

static int
add_file(struct policy_model *m, const char *path, int fd, const struct stat *st,
    struct policy_findings *f)
{
	size_t size = S_ISREG(st->st_mode) ? (size_t)st->st_size : 0;
	char *text = NULL;
	size_t len = 0;
	ssize_t n;
	int rc;

	if (size > POLICY_SOURCE_MAX) {
		policy_findings_add(f, POLICY_ERROR, path, 0, 0, "too-large",
		    "%zu bytes are more than one source may have (%d)", size, POLICY_SOURCE_MAX);
		return -EINVAL;
	}
	/* One byte more than allowed, so that a file that grows meanwhile is noticed. */
	text = malloc(POLICY_SOURCE_MAX + 1);
	if (text == NULL)
		return -ENOMEM;
	while ((n = read(fd, text + len, POLICY_SOURCE_MAX + 1 - len)) > 0)
		len += (size_t)n;
	rc = n < 0 ? unreadable(f, path, errno) : policy_model_add_text(m, path, text, len, f);
	if (rc == 0 && S_ISREG(st->st_mode)) {
		m->sources.at[m->sources.nb - 1]->device = st->st_dev;
		m->sources.at[m->sources.nb - 1]->inode = st->st_ino;
	}
	free(text);
	return rc;
}

static int
wanted(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	if (e->d_name[0] == '.')
		return 0;
	/* A file is wanted by its ending; a directory, or what may be one, always. */
	return e->d_type == DT_DIR || e->d_type == DT_UNKNOWN || e->d_type == DT_LNK ||
	    (dot != NULL &&
	        (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 ||
	            strcmp(dot, ".json") == 0));
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
has_ending(const char *path)
{
	struct dirent e = { .d_type = DT_REG };
	const char *slash = strrchr(path, '/');

	snprintf(e.d_name, sizeof(e.d_name), "%s", slash != NULL ? slash + 1 : path);
	return wanted(&e);
}

static int add_path(struct policy_model *m, const char *path, int depth, struct policy_findings *f);

static int
add_directory(struct policy_model *m, const char *path, int depth, struct policy_findings *f)
{
	struct dirent **names;
	int n = scandir(path, &names, wanted, by_name), rc = 0;

	if (n < 0)
		return unreadable(f, path, errno);
	for (int i = 0; i < n; i++) {
		char *child;
		int one;

		/* One bad file does not hide what is wrong with the next. */
		if (rc != -ENOMEM) {
			if (asprintf(&child, "%s/%s", path, names[i]->d_name) < 0) {
				rc = -ENOMEM;
			} else {
				one = add_path(m, child, depth, f);
				rc = one < 0 ? one : rc;
				free(child);
			}
		}
		free(names[i]);
	}
	free(names);
	return rc;
}

static int
add_path(struct policy_model *m, const char *path, int depth, struct policy_findings *f)
{
	struct stat st;
	int fd, rc;

	if (depth > PATH_DEPTH_MAX) {
		policy_findings_add(f, POLICY_ERROR, path, 0, 0, "too-deep",
		    "directories stand more than %d deep", PATH_DEPTH_MAX);
		return -EINVAL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return unreadable(f, path, errno);
	if (fstat(fd, &st) < 0)
		rc = unreadable(f, path, errno);
	else if (S_ISDIR(st.st_mode))
		rc = add_directory(m, path, depth + 1, f);
	else if (depth > 0 && !has_ending(path))
		rc = 0; /* what stood behind a link was no policy file */
	else
		rc = is_known(m, &st) ? 0 : add_file(m, path, fd, &st, f);
	close(fd);
	return rc;
}

int
policy_model_add_path(struct policy_model *m, const char *path, struct policy_findings *f)
{
	return add_path(m, path, 0, f);
}

const char *
policy_meta_key(struct policy_arena *a, const struct policy_meta *m)
{
	return policy_arena_printf(a, "%s/%s", m->tenant, m->name);
}

void
policy_model_set_attested(struct policy_model *m, policy_attested *is, void *arg)
{
	m->attested = is;
	m->attested_arg = arg;
}
