#pragma once

#include "policy/model_priv.h"

/*
 * Kubernetes objects as sources.
 *
 * `kubectl get -o yaml` dumps, and manifests, are read into the same objects as documents of our own:
 *
 *     Pod                         Workload of the tenant that has its namespace's name
 *     Namespace                   labels that all its Pods carry, with POLICY_K8S_NAMESPACE before them
 *     Node                        addresses that peers of kind `nodes` stand for
 *     NetworkPolicy               Policy of its namespace in tier `application`, after all of ours
 *     AdminNetworkPolicy          Policy of all tenants in tier POLICY_K8S_ADMIN
 *     ClusterNetworkPolicy        the same there, or in POLICY_K8S_BASELINE
 *     BaselineAdminNetworkPolicy  the same in POLICY_K8S_BASELINE
 *
 * Namespace labels thus are part of a workload's identity, and a namespaceSelector is a selector over
 * all tenants.  Every imported selector asks for the name of a namespace, so that it never matches a
 * workload that is none of Kubernetes'.  docs/policy.md has the whole mapping.
 */
#define POLICY_K8S_NAMESPACE "ns:" /* no key of ours has a colon, so nobody can forge one */
#define POLICY_K8S_NAME      POLICY_K8S_NAMESPACE "kubernetes.io/metadata.name"
#define POLICY_K8S_ADMIN     "kubernetes-admin"
#define POLICY_K8S_BASELINE  "kubernetes-baseline"

#define POLICY_K8S_NAME_MAX 253 /* a DNS subdomain, RFC 1123 */

/* Whether the document is for policy_k8s_read(): its apiVersion is none of ours. */
int policy_k8s_is(const struct policy_node *doc);

/* Read one document, a List with all its items, into `o`.  Errors are counted in r->errors. */
void policy_k8s_read(
    struct policy_reader *r, const struct policy_node *doc, struct policy_objects *o);

struct compile;

/*
 * The first step of a compilation: give workloads the labels of their namespaces, and turn relations
 * into selectors and networks.  Works on c->all.
 */
void policy_k8s_join(struct compile *c);

/*
 * A check once it is known who is the subject of what: two policies of equal priority that may decide
 * differently about one workload are refused, since the API leaves open which of them does.
 */
void policy_k8s_check(struct compile *c);

struct compile_identity;
/* The same for one workload's policies. */
void policy_k8s_check_identity(struct compile *c, const struct compile_identity *id);
