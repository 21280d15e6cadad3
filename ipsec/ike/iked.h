/*
 * What the parts of picket-iked share.  Nothing of libcharon's here, since its configuration is read without it.
 */
#ifndef IKED_H_
#define IKED_H_

#include <stdbool.h>

#include "lib/conf.h"

struct iked_conf {
	char *user, *run_dir, *credentials_dir;
	struct pk_conf_list peers;
	uint64_t threads, table_size;
	bool dos_protection;
	uint64_t cookie_threshold, block_threshold, half_open_max;
	uint64_t retransmit_ns, retransmit_tries;
	uint64_t fragment_size;
	uint64_t rekeyed_delay_ns, keepalive_ns;
};

extern const struct pk_conf_option iked_options[];
extern const size_t iked_nb_options;

#endif /* IKED_H_ */
