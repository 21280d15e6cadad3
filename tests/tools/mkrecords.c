/*
 * Session records to import: established TCP connections from one address to another, each of its own ports.
 *
 *   mkrecords SOURCE DESTINATION NUMBER >FILE
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fw/record_file.h"

int
main(int argc, char **argv)
{
	struct fw_record r = {
		.proto = IPPROTO_TCP,
		.direction = PK_EGRESS,
		.state = FW_RECORD_ESTABLISHED,
		.flags = FW_RECORD_SYN_R | FW_RECORD_WSCALE,
		.age_ms = 1000,
		.left_ms = 86400000,
		.side = { { 1000, 5000, 65000, 7 }, { 5000, 1000, 65000, 7 } },
	};
	struct fw_record_file *f;
	struct pk_diag diag;
	unsigned long nb;

	if (argc != 4 || pk_addr_parse(&r.src, argv[1], &diag) < 0 ||
	    pk_addr_parse(&r.dst, argv[2], &diag) < 0) {
		fprintf(stderr, "usage: mkrecords SOURCE DESTINATION NUMBER >FILE\n");
		return 2;
	}
	nb = strtoul(argv[3], NULL, 10);
	if (fw_record_file_begin(&f, STDOUT_FILENO) < 0)
		return 1;
	for (unsigned long i = 0; i < nb; i++) {
		r.sport = (uint16_t)(1024 + i % 64000);
		r.dport = r.selector = (uint16_t)(10000 + i / 64000);
		fw_record_file_add(f, &r);
	}
	if (fw_record_file_end(f, &diag) < 0) {
		fprintf(stderr, "mkrecords: %s\n", diag.text);
		return 1;
	}
	return 0;
}
