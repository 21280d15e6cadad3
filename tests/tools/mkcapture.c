/*
 * A capture from words, for tests of `picketctl replay`: reads lines `TIME in|out WORDS...` as
 * tests/replay/README.md has them, writes a pcapng file with the interfaces inside0 and outside0.
 *
 *   mkcapture FILE <lines
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/pcapng.h"
#include "tests/unit/packet.h"

#define WORDS_MAX 64

int
main(int argc, char **argv)
{
	static const char *const names[] = { "inside0", "outside0" };
	const struct packet_stage stage = { .family = 4, .client_port = 40000, .server_port = 443 };
	struct ctl_capture_writer *w;
	struct pk_diag diag;
	char line[1024], err[256];

	if (argc != 2) {
		fprintf(stderr, "usage: mkcapture FILE <lines\n");
		return 2;
	}
	if (ctl_capture_create(&w, argv[1], names, 2, &diag) < 0) {
		fprintf(stderr, "mkcapture: %s\n", diag.text);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) != NULL) {
		static struct packet p;
		char *words[WORDS_MAX], *save = NULL;
		unsigned int n = 0;

		for (char *t = strtok_r(line, " \t\n", &save); t != NULL && n < WORDS_MAX;
		     t = strtok_r(NULL, " \t\n", &save))
			words[n++] = t;
		if (n < 2)
			continue;
		if (packet_build(&p, &stage, words + 1, n - 1, err, sizeof(err)) < 0) {
			fprintf(stderr, "mkcapture: %s\n", err);
			return 1;
		}
		ctl_capture_write(w, p.side == PACKET_IN ? 0 : 1,
		    (uint64_t)(strtod(words[0], NULL) * 1e9) + PK_NS_PER_S, p.bytes,
		    (uint32_t)p.len, (uint32_t)p.len, NULL);
	}
	return ctl_capture_finish(w) < 0;
}
