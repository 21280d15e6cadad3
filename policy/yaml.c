#include "policy/yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "policy/map.h"

struct anchor {
	char *name;
	struct policy_node *node;
	int open; /* still being read: an alias to it would be a loop */
};

struct parse {
	yaml_parser_t parser;
	struct policy_arena *texts, *nodes;
	struct policy_findings *findings;
	const char *file;
	const char *text;
	size_t len;
	struct anchor anchors[POLICY_ANCHORS_MAX];
	unsigned int nb_anchors;
	uint32_t aliased; /* nodes that aliases have added to this document */
	unsigned int depth;
	unsigned int nb_nodes;
	int wrong; /* a finding that does not keep us from reading on */
};

#define MARK_LINE(m)   ((unsigned int)(m).line + 1)
#define MARK_COLUMN(m) ((unsigned int)(m).column + 1)

#define refuse(p, mark, code, ...)                                                    \
	(policy_findings_add((p)->findings, POLICY_ERROR, (p)->file, MARK_LINE(mark), \
	     MARK_COLUMN(mark), code, __VA_ARGS__),                                   \
	    -EINVAL)

/* What is wrong with bytes comes without a mark, for there are no characters to count yet. */
static yaml_mark_t
mark_of_offset(const char *text, size_t offset)
{
	yaml_mark_t m = { 0 };

	for (size_t i = 0; i < offset; i++) {
		m.column++;
		if (text[i] == '\n') {
			m.line++;
			m.column = 0;
		}
	}
	return m;
}

static int
next_event(struct parse *p, yaml_event_t *e)
{
	yaml_mark_t mark;

	if (yaml_parser_parse(&p->parser, e)) {
		/* Every node is an event, and there are few others. */
		if (++p->nb_nodes <= POLICY_NODES_MAX)
			return 0;
		mark = e->start_mark;
		yaml_event_delete(e);
		return refuse(p, mark, "too-large", "more than %d words; split this source",
		    POLICY_NODES_MAX);
	}
	if (p->parser.error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	mark = p->parser.problem_mark;
	if (p->parser.error == YAML_READER_ERROR)
		mark = mark_of_offset(p->text, PK_MIN(p->parser.problem_offset, p->len));
	return refuse(p, mark, "yaml", "this is not YAML: %s%s%s",
	    p->parser.problem != NULL ? p->parser.problem : "unreadable",
	    p->parser.context != NULL ? " " : "",
	    p->parser.context != NULL ? p->parser.context : "");
}

static struct policy_node *
new_node(struct parse *p, enum policy_node_kind kind, const yaml_event_t *e)
{
	struct policy_node *n = policy_arena_alloc(p->nodes, sizeof(*n));

	if (n == NULL)
		return NULL;
	n->kind = kind;
	n->line = MARK_LINE(e->start_mark);
	n->column = MARK_COLUMN(e->start_mark);
	n->weight = 1;
	return n;
}

static int
add_anchor(struct parse *p, const yaml_event_t *e, const yaml_char_t *name, struct policy_node *n,
    int open)
{
	struct anchor *a;

	if (name == NULL)
		return 0;
	if (p->nb_anchors == POLICY_ANCHORS_MAX)
		return refuse(p, e->start_mark, "alias", "more than %d anchors in one document",
		    POLICY_ANCHORS_MAX);
	a = &p->anchors[p->nb_anchors];
	a->name = policy_arena_text(p->nodes, (const char *)name);
	if (a->name == NULL)
		return -ENOMEM;
	a->node = n;
	a->open = open;
	p->nb_anchors++;
	return 0;
}

static int
follow_alias(struct parse *p, const yaml_event_t *e, struct policy_node **out)
{
	const char *name = (const char *)e->data.alias.anchor;

	/* From the back: a name may be given again, and the last one counts. */
	for (unsigned int i = p->nb_anchors; i-- > 0;) {
		struct anchor *a = &p->anchors[i];

		if (strcmp(a->name, name) != 0)
			continue;
		if (a->open)
			return refuse(p, e->start_mark, "alias",
			    "alias *%.64s stands inside what it repeats", name);
		p->aliased += a->node->weight;
		if (p->aliased > POLICY_ALIASED_MAX)
			return refuse(p, e->start_mark, "alias",
			    "aliases add more than %d words to this document; write them out",
			    POLICY_ALIASED_MAX);
		*out = a->node;
		return 0;
	}
	return refuse(
	    p, e->start_mark, "alias", "alias *%.64s: there is no &%.64s before it", name, name);
}

static int parse_node(struct parse *p, const yaml_event_t *e, struct policy_node **out);

static int
check_tag(struct parse *p, const yaml_event_t *e, const yaml_char_t *tag)
{
	if (tag == NULL)
		return 0;
	return refuse(p, e->start_mark, "yaml",
	    "YAML tag \"%.64s\" has no meaning here; put a word that begins with ! in quotes",
	    (const char *)tag);
}

static int
parse_scalar(struct parse *p, const yaml_event_t *e, struct policy_node **out)
{
	struct policy_node *n = new_node(p, POLICY_SCALAR, e);
	char *text;
	int rc;

	if (n == NULL)
		return -ENOMEM;
	if ((rc = check_tag(p, e, e->data.scalar.tag)) < 0)
		return rc;
	if (memchr(e->data.scalar.value, '\0', e->data.scalar.length) != NULL)
		return refuse(p, e->start_mark, "yaml", "a text must not hold a NUL character");
	text = policy_arena_copy(p->texts, e->data.scalar.value, e->data.scalar.length + 1);
	if (text == NULL)
		return -ENOMEM;
	n->text = text;
	n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	*out = n;
	return add_anchor(p, e, e->data.scalar.anchor, n, 0);
}

#define FEW_KEYS 12 /* looking at each other key costs less than hashing them */

/* The first pair with the key of pair `i`, or POLICY_MAP_NONE when that is `i`. */
static uint32_t
first_with_key(const struct policy_node *map, uint32_t i)
{
	for (uint32_t k = 0; k < i; k++)
		if (strcmp(map->pairs[k].key->text, map->pairs[i].key->text) == 0)
			return k;
	return POLICY_MAP_NONE;
}

static int
check_keys(struct parse *p, const struct policy_node *map)
{
	struct policy_map seen = { 0 };
	int rc = 0;

	for (uint32_t i = 0; i < map->nb && rc == 0; i++) {
		const struct policy_node *key = map->pairs[i].key;
		uint32_t first = map->nb <= FEW_KEYS ? first_with_key(map, i)
		                                     : policy_map_get_text(&seen, key->text);

		if (first == POLICY_MAP_NONE) {
			if (map->nb > FEW_KEYS)
				rc = policy_map_put_text(&seen, key->text, i);
			continue;
		}
		policy_findings_add(p->findings, POLICY_ERROR, p->file, key->line, key->column,
		    "duplicate-key",
		    "key \"%.64s\" stands twice in one map; the first is in line %u", key->text,
		    map->pairs[first].key->line);
		p->wrong = 1;
	}
	policy_map_fini(&seen);
	return rc;
}

/* The rest of a list or map, whose opening event is `start`. */
static int
parse_collection(struct parse *p, const yaml_event_t *start, enum policy_node_kind kind,
    yaml_event_type_t end, const yaml_char_t *tag, const yaml_char_t *name,
    struct policy_node **out)
{
	POLICY_VECTOR(struct policy_node *) v = { 0 };
	struct policy_node *n = new_node(p, kind, start), *child, **slot;
	unsigned int anchor = p->nb_anchors;
	yaml_event_t e;
	int rc;

	if (n == NULL)
		return -ENOMEM;
	if (p->depth == POLICY_DEPTH_MAX)
		return refuse(p, start->start_mark, "too-deep",
		    "maps and lists stand more than %d deep", POLICY_DEPTH_MAX);
	if ((rc = check_tag(p, start, tag)) < 0 || (rc = add_anchor(p, start, name, n, 1)) < 0)
		return rc;
	p->depth++;
	for (;;) {
		if ((rc = next_event(p, &e)) < 0)
			goto out;
		if (e.type == end) {
			yaml_event_delete(&e);
			break;
		}
		rc = parse_node(p, &e, &child);
		if (rc == 0 && kind == POLICY_MAP && v.nb % 2 == 0 && child->kind != POLICY_SCALAR)
			rc = refuse(
			    p, e.start_mark, "yaml", "a key must be a word, not a map or a list");
		yaml_event_delete(&e);
		if (rc < 0)
			goto out;
		if ((slot = POLICY_PUSH(&v)) == NULL) {
			rc = -ENOMEM;
			goto out;
		}
		*slot = child;
		n->weight += child->weight;
	}
	p->depth--;
	/* Pairs are two pointers side by side, so a map's are laid out as the events came. */
	n->nb = (uint32_t)(kind == POLICY_MAP ? v.nb / 2 : v.nb);
	n->items = policy_arena_copy(p->nodes, v.at, v.nb * sizeof(v.at[0]));
	if (n->items == NULL) {
		rc = -ENOMEM;
		goto out;
	}
	if (kind == POLICY_MAP && (rc = check_keys(p, n)) < 0)
		goto out;
	if (name != NULL)
		p->anchors[anchor].open = 0;
	*out = n;
out:
	free(v.at);
	return rc;
}
_Static_assert(sizeof(struct policy_pair) == 2 * sizeof(struct policy_node *), "pairs are packed");

static int
parse_node(struct parse *p, const yaml_event_t *e, struct policy_node **out)
{
	switch (e->type) {
	case YAML_ALIAS_EVENT:
		return follow_alias(p, e, out);
	case YAML_SCALAR_EVENT:
		return parse_scalar(p, e, out);
	case YAML_SEQUENCE_START_EVENT:
		return parse_collection(p, e, POLICY_LIST, YAML_SEQUENCE_END_EVENT,
		    e->data.sequence_start.tag, e->data.sequence_start.anchor, out);
	case YAML_MAPPING_START_EVENT:
		return parse_collection(p, e, POLICY_MAP, YAML_MAPPING_END_EVENT,
		    e->data.mapping_start.tag, e->data.mapping_start.anchor, out);
	default:
		return refuse(p, e->start_mark, "yaml", "this is not YAML: unexpected end");
	}
}

int
policy_yaml_parse(struct policy_arena *texts, struct policy_arena *nodes, const char *name,
    const char *text, size_t len, struct policy_findings *f, struct policy_docs *out)
{
	POLICY_VECTOR(struct policy_node *) docs = { 0 };
	struct policy_node *root, **slot;
	yaml_event_type_t type = YAML_NO_EVENT;
	struct parse *p;
	yaml_event_t e;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (len > POLICY_SOURCE_MAX) {
		policy_findings_add(f, POLICY_ERROR, name, 0, 0, "too-large",
		    "%zu bytes are more than one source may have (%d)", len, POLICY_SOURCE_MAX);
		return -EINVAL;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	if (!yaml_parser_initialize(&p->parser)) {
		free(p);
		return -ENOMEM;
	}
	p->texts = texts;
	p->nodes = nodes;
	p->findings = f;
	p->file = name;
	p->text = text;
	p->len = len;
	yaml_parser_set_encoding(&p->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p->parser, (const unsigned char *)text, len);
	while (type != YAML_STREAM_END_EVENT) {
		if ((rc = next_event(p, &e)) < 0)
			goto out;
		type = e.type;
		switch (type) {
		case YAML_DOCUMENT_START_EVENT:
			p->nb_anchors = 0;
			p->aliased = 0;
			break;
		case YAML_SCALAR_EVENT:
		case YAML_SEQUENCE_START_EVENT:
		case YAML_MAPPING_START_EVENT:
		case YAML_ALIAS_EVENT:
			rc = parse_node(p, &e, &root);
			if (rc == 0 && (slot = POLICY_PUSH(&docs)) != NULL)
				*slot = root;
			else if (rc == 0)
				rc = -ENOMEM;
			break;
		default:
			break;
		}
		yaml_event_delete(&e);
		if (rc < 0)
			goto out;
	}
	out->nb = docs.nb;
	out->at = policy_arena_copy(nodes, docs.at, docs.nb * sizeof(docs.at[0]));
	if (out->at == NULL)
		rc = -ENOMEM;
	else if (p->wrong)
		rc = -EINVAL;
out:
	free(docs.at);
	yaml_parser_delete(&p->parser);
	free(p);
	return rc;
}

int
policy_node_is_null(const struct policy_node *n)
{
	return n->kind == POLICY_SCALAR && n->plain &&
	    (n->text[0] == '\0' || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0 ||
	        strcmp(n->text, "Null") == 0 || strcmp(n->text, "NULL") == 0);
}

struct policy_node *
policy_node_get(const struct policy_node *n, const char *key)
{
	if (n->kind != POLICY_MAP)
		return NULL;
	for (uint32_t i = 0; i < n->nb; i++)
		if (strcmp(n->pairs[i].key->text, key) == 0)
			return n->pairs[i].value;
	return NULL;
}
