#pragma once

#include "fw/nft/plan.h"
#include "lib/diag.h"

/*
 * The kernel's end of a plan: one netlink transaction from one to the next.
 *
 * A transaction is taken as a whole or not at all (nfnetlink batches), whenever this program or the machine
 * ends.  It speaks of our two tables by name and of nothing else; what others have in nftables is not read, let
 * alone changed.
 *
 * Where the kernel can (6.9), our tables are owned by the socket of this process, so that nobody changes them by
 * accident, and persist, so that they stay in force when it ends.  Older kernels know an owner without
 * persistence, which would open the gates when we die; there they have none.
 */
struct nft_kernel;

/*
 * Context of all: control thread.  `table` is borrowed.  `wires` stands for the ports that the rulesets are about,
 * and is noted in the tables.  Returns 0 or negative errno with *diag.
 */
int nft_kernel_open(
    struct nft_kernel **out, const char *table, uint64_t wires, struct pk_diag *diag);
void nft_kernel_close(struct nft_kernel *k);

/*
 * Which tables of our name there are: NFT_KERNEL_NONE; _SAME, whole and about the same wires; _OTHER, ours, but about
 * others.  -EEXIST with *diag: somebody else's.
 */
enum {
	NFT_KERNEL_NONE = 0,
	NFT_KERNEL_SAME,
	NFT_KERNEL_OTHER,
};
int nft_kernel_there(struct nft_kernel *k, struct pk_diag *diag);

struct nft_kernel_cost {
	uint32_t messages, elements, rules;
	size_t bytes;
};

/*
 * From `from` to `to`.  `from` NULL: whatever is there under our name goes, and `to` takes its place, in the same
 * transaction.  Returns when no packet is judged by `from` any more.  `cost` may be NULL.
 * Returns 0, or negative errno with *diag, and the kernel is as before.
 */
int nft_kernel_apply(struct nft_kernel *k, const struct nft_plan *from, const struct nft_plan *to,
    struct nft_kernel_cost *cost, struct pk_diag *diag);

/* Take both tables out.  Nothing is guarded from then on. */
int nft_kernel_remove(struct nft_kernel *k, struct pk_diag *diag);

/* All counters of a table. */
int nft_kernel_counters(struct nft_kernel *k, enum nft_table table,
    void (*each)(void *arg, const char *name, uint64_t packets, uint64_t bytes), void *arg);
