#pragma once

#include "policy/k8s.h"

/* What the readers of Kubernetes kinds share. */

/* A value that is there and says something; null is as good as absent, as in the API. */
const struct policy_node *policy_k8s_get(const struct policy_node *n, const char *key);

/* The same, and a map, a list or a scalar; NULL also when it is something else, which is reported. */
const struct policy_node *policy_k8s_map(
    struct policy_reader *r, const struct policy_node *n, const char *key);
const struct policy_node *policy_k8s_list(
    struct policy_reader *r, const struct policy_node *n, const char *key);
const struct policy_node *policy_k8s_word(
    struct policy_reader *r, const struct policy_node *n, const char *key);

/* Whether `n` is a map, said in a sentence if not; `key` is what it is called. */
int policy_k8s_is_map(struct policy_reader *r, const struct policy_node *n, const char *key);

/* Report each key of `n` that is not known. */
void policy_k8s_keys(
    struct policy_reader *r, const struct policy_node *n, const char *const *known, size_t nb);

/* The first key of `n` that is not known and not null, or NULL. */
const struct policy_node *policy_k8s_stranger(
    const struct policy_node *n, const char *const *known, size_t nb);

/* A whole number from `low` to `high` at `key`; -1 if it is not there, or is reported as wrong. */
int64_t policy_k8s_number(struct policy_reader *r, const struct policy_node *n, const char *key,
    int64_t low, int64_t high);

/* Names as Kubernetes checks them: a DNS label (RFC 1123), and a DNS subdomain of such labels. */
int policy_k8s_label_ok(const char *text);
int policy_k8s_subdomain_ok(const char *text);

/*
 * metadata: name and namespace.  `namespaced`: 1 if the kind has a namespace.  Labels are not read.
 * Returns 0, or -1 when something was reported.
 */
int policy_k8s_meta(
    struct policy_reader *r, const struct policy_node *doc, struct policy_meta *m, int namespaced);

/* Labels at `key` of metadata into `l`, each key with `prefix` before it, and room for one more. */
void policy_k8s_labels(struct policy_reader *r, const struct policy_node *n, const char *prefix,
    struct policy_labels *l);

/*
 * A selector under construction.  policy_k8s_select() adds what a LabelSelector asks for to it; NULL
 * and {} ask for nothing.  policy_k8s_select_name() asks for a namespace: of this name, or any (NULL).
 * policy_k8s_select_end() sorts.
 */
void policy_k8s_select(struct policy_reader *r, const struct policy_node *n, const char *prefix,
    struct policy_selector *s);
void policy_k8s_select_name(struct policy_reader *r, const char *name, struct policy_selector *s);
void policy_k8s_select_end(struct policy_selector *s);
/* The one namespace that a selector asks for by name, or NULL. */
const char *policy_k8s_selected_name(const struct policy_selector *s);

/* "10.0.0.0/8"; host bits are cut off, as the API server does.  Returns 0, or -1 and a report. */
int policy_k8s_prefix(struct policy_reader *r, const struct policy_node *n, struct pk_prefix *out);

/* A protocol's number from "TCP", "UDP" or "SCTP"; TCP when `n` is NULL, 0 and a report otherwise. */
uint8_t policy_k8s_protocol(struct policy_reader *r, const struct policy_node *n);

/* Whether a port may be called so: an IANA service name, RFC 6335 section 5.1. */
int policy_k8s_port_name_ok(const char *text);

/* Add ports to a rule that has room for them. */
void policy_k8s_add_range(struct policy_services *s, const struct policy_node *at, uint8_t proto,
    uint16_t low, uint16_t high);
void policy_k8s_add_named(
    struct policy_services *s, const struct policy_node *at, uint8_t proto, const char *name);

/* The readers, one per kind. */
typedef void policy_k8s_reader(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o);
policy_k8s_reader policy_k8s_read_pod;
policy_k8s_reader policy_k8s_read_namespace;
policy_k8s_reader policy_k8s_read_node;
policy_k8s_reader policy_k8s_read_netpol;
policy_k8s_reader policy_k8s_read_anp;
policy_k8s_reader policy_k8s_read_banp;
policy_k8s_reader policy_k8s_read_cnp;

/* Put an object into its vector.  r->nomem when there is no room. */
#define POLICY_K8S_FILE(r, vector, object)                        \
	do {                                                      \
		void *slot_ = POLICY_PUSH(vector);                \
		if (slot_ == NULL)                                \
			(r)->nomem = 1;                           \
		else                                              \
			memcpy(slot_, &(object), sizeof(object)); \
	} while (0)
