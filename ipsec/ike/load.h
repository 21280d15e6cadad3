/*
 * Texts with peers: from the files of the configuration, or from a file that came with a command, which is how
 * picket-agentd pushes what the policy server wants.
 */
#ifndef LOAD_H_
#define LOAD_H_

#include "lib/conf.h"
#include "lib/diag.h"
#include "policy/ike.h"

/**
 * Read files into one set of peers.  Context: any thread.
 *
 * @param out		peers, the caller's
 * @param files		their names; none makes an empty set
 * @return		0, or negative errno with diag
 */
int load_files(struct policy_ike **out, const struct pk_conf_list *files, struct pk_diag *diag);

/**
 * The same from an open file, from its beginning.
 */
int load_fd(struct policy_ike **out, int fd, struct pk_diag *diag);

#endif /* LOAD_H_ */
