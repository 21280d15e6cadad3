#pragma once

#include "fw/nft/plane.h"
#include "fw/nft/track.h"
#include "fw/record.h"

/*
 * Sessions of the kernel as records (fw/record.h), and records as entries of conntrack: how a host goes from one data
 * plane to the other with its connections alive.
 *
 * Conntrack tells how far a connection has got and how its windows are scaled, but not at what numbers it is; nor can it
 * be told these.  So such a record says that they are not known, and who takes the session over, picketd or conntrack,
 * learns them from its next segment.
 * Context of all: control thread.
 */

/* False: not worth carrying: still being opened (its SYN will be repeated), or over.  `rule_id`, `generation`: of the
 * policy that allowed it last. */
bool nft_record_of(
    const struct nft_session *s, uint64_t rule_id, uint64_t generation, struct fw_record *out);

enum nft_install {
	NFT_INSTALL_DONE = 0,
	NFT_INSTALL_THERE,     /* conntrack has it already, and it stays */
	NFT_INSTALL_REFUSED,   /* by policy, or the workload is not behind this DPU */
	NFT_INSTALL_TRANSIENT, /* being opened, or over */
	NFT_INSTALL_RELATED, /* announced by another session: nobody here knows what that one announces */
	NFT_INSTALL_FULL,   /* conntrack has no room */
	NFT_INSTALL_FAULTY, /* the kernel does not take it */
	NFT_INSTALL_COUNT,
};
const char *nft_install_name(unsigned int result);

/*
 * Installs many: records are judged and collected, and given to the kernel when there are enough of them.
 */
struct nft_installer;

/* Returns 0 or negative errno with *diag. */
int nft_installer_create(
    struct nft_installer **out, struct nft_plane *plane, uint16_t nb_wires, struct pk_diag *diag);
void nft_installer_destroy(struct nft_installer *n); /* what is still collected is left out */

/* Policy has to be in force.  Returns 0 or negative errno with *diag: the kernel cannot be asked. */
int nft_installer_add(struct nft_installer *n, const struct fw_record *r, struct pk_diag *diag);
int nft_installer_flush(struct nft_installer *n, struct pk_diag *diag);

/* How many of each result; complete after a flush. */
const uint64_t *nft_installer_counts(const struct nft_installer *n);
