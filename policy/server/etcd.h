#pragma once

#include "lib/diag.h"
#include "policy/proto/etcd.pb-c.h"

/*
 * etcd, as far as a store needs it: its KV service (API version 3) over gRPC with mutual TLS.
 *
 * There are several members, any of which will do.  A call goes to the one that answered last; when it cannot be
 * reached, or has lost its cluster, the next is asked, until ETCD_PATIENCE_NS have passed.  So a call may be carried out
 * twice, and who writes has to write so that it does not matter.
 *
 * Context: one thread at a time, which may wait.  Calls return 0, -ETIMEDOUT when nobody answered in time, -EIO when
 * etcd refused it, or -ENOMEM, all with *diag.
 */
#define ETCD_PATIENCE_NS (15 * PK_NS_PER_S)
#define ETCD_REQUEST_MAX \
	(512U << 10) /* bytes of a value: etcd takes 1.5 MiB a request, unless told otherwise */
#define ETCD_MEMBERS_MAX 9
#define ETCD_PREFIX_MAX  128
#define ETCD_KEY_MAX     (ETCD_PREFIX_MAX + 192)

struct etcd;

/* "https://HOST:PORT[,https://...][/PREFIX]".  Nothing is connected yet.  `tls` is read now. */
struct etcd_tls {
	const char *cert, *key, *ca;
};
int etcd_create(
    struct etcd **out, const char *urls, const struct etcd_tls *tls, struct pk_diag *diag);
void etcd_destroy(struct etcd *e);

/* "HOST:PORT" of each URL into out[ETCD_MEMBERS_MAX], and PREFIX.  Returns their number, or -EINVAL with *diag. */
int etcd_parse(
    const char *urls, char out[][256], char prefix[ETCD_PREFIX_MAX], struct pk_diag *diag);

const char *etcd_prefix(const struct etcd *e);

/* *out is the caller's, to be freed with etcd__...__free_unpacked(). */
int etcd_range(
    struct etcd *e, const Etcd__RangeRequest *m, Etcd__RangeResponse **out, struct pk_diag *diag);
int etcd_txn(
    struct etcd *e, const Etcd__TxnRequest *m, Etcd__TxnResponse **out, struct pk_diag *diag);
int etcd_put(struct etcd *e, const char *key, const void *value, size_t len, struct pk_diag *diag);
int etcd_delete(struct etcd *e, const char *key, const char *end, struct pk_diag *diag);
/* Forget what was before `revision`. */
int etcd_compact(struct etcd *e, int64_t revision, struct pk_diag *diag);

/* The first key that does not begin with `prefix`: the end of a range of all that do. */
void etcd_prefix_end(const char *prefix, char out[ETCD_KEY_MAX]);
