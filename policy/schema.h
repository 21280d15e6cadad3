#pragma once

#include "policy/yaml.h"

#define POLICY_IGNORED_MAX 32 /* kinds of which only the first object is reported */

/*
 * Reading a map by a table: one row per key, which says what its value must be and how to read it.
 * Unknown keys, missing keys, wrong types and words outside a vocabulary thus get the same sentence
 * everywhere, and a key of a later version is one row that is never read.
 */
struct policy_reader {
	struct policy_arena *arena; /* everything read goes here */
	struct policy_findings *findings;
	const char *file;
	const char *key;  /* what is being read, for sentences */
	const char *want; /* what it must be: "a name", "a list of peers" */
	unsigned int errors;
	int nomem;
	const char *ignored[POLICY_IGNORED_MAX]; /* kinds that have been said to be left out */
	unsigned int nb_ignored;
};

/* Beyond this many errors a source is not worth reading on. */
#define POLICY_ERRORS_MAX 100

/* Read `n` into *out.  Errors are reported through `r`; then *out does not matter any more. */
typedef void policy_decode(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg);

struct policy_field {
	const char *key;
	const char *want;      /* goes on after `"key" must be ` */
	policy_decode *decode; /* NULL: of a later version */
	const void *arg;
	size_t offset; /* of the result in the struct that the table describes */
	uint8_t required;
};

struct policy_schema {
	const char *what; /* "a policy's spec" */
	const struct policy_field *fields;
	size_t nb;
};

#define POLICY_SCHEMA(what, fields)            \
	{                                      \
		what, fields, PK_COUNT(fields) \
	}

/* Read a map into the struct at `out`, which the caller has zeroed. */
void policy_schema_read(
    struct policy_reader *r, const struct policy_node *n, const struct policy_schema *s, void *out);

/* Decoders for fields. */
policy_decode policy_read_schema; /* arg: struct policy_schema; out: the struct itself */
policy_decode policy_read_text;   /* out: const char *; any scalar but null */
policy_decode policy_read_name;   /* out: const char *; see policy_name_ok() */
policy_decode policy_read_word;   /* arg: struct policy_words; out: uint8_t */
policy_decode policy_read_uint;   /* arg: struct policy_range; out: uint32_t */
policy_decode policy_read_ignore; /* a map of texts for people: checked, not kept */

struct policy_words {
	const char *const *at;
	size_t nb;
	const uint8_t *values; /* what each word stands for; NULL: its index */
};

struct policy_range {
	uint32_t low, high;
};

/* Letters, digits, and -_. inside; 1 to 63 of them.  Such a name is safe in logs and keys. */
#define POLICY_NAME_MAX 63
int policy_name_ok(const char *text);

/* One error at `n`. */
void policy_reader_error(struct policy_reader *r, const struct policy_node *n, const char *code,
    const char *fmt, ...) PK_PRINTF(4, 5);
void policy_reader_warn(struct policy_reader *r, const struct policy_node *n, const char *code,
    const char *fmt, ...) PK_PRINTF(4, 5);
void policy_reader_note(struct policy_reader *r, const struct policy_node *n, const char *code,
    const char *fmt, ...) PK_PRINTF(4, 5);
/* `"key" must be WANT, not ...` for the field being read. */
void policy_reader_mismatch(struct policy_reader *r, const struct policy_node *n);
/* `"WHAT" is not supported by this version`. */
void policy_reader_unsupported(
    struct policy_reader *r, const struct policy_node *n, const char *what);
/*
 * `unknown WHAT "word"; did you mean "near"?` or, when nothing is near, `; known: ...`.
 */
void policy_reader_unknown(struct policy_reader *r, const struct policy_node *n, const char *code,
    const char *what, const char *const *known, size_t nb);
/* Memory from the arena; sets r->nomem when there is none. */
void *policy_reader_alloc(struct policy_reader *r, size_t nb, size_t size);

/* Join words as "a, b, c" into buf; cut with "..." when they do not fit.  Returns buf. */
const char *policy_words_text(char *buf, size_t size, const char *const *words, size_t nb);
