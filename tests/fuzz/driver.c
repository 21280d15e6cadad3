/*
 * Runs a fuzz target without libFuzzer: on every file of a directory, and on a bounded number of random
 * changes of them.  `make check` does this in every build; `make fuzz` links libFuzzer instead.
 *
 *   X_fuzz DIRECTORY [NUMBER]
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t rng = 0x2545f4914f6cdd1d;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* Exactly as long as its bytes, so that a sanitizer sees the first byte read beyond. */
static void
run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static size_t
mutate(uint8_t *data, size_t len)
{
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xfe, 0xff };
	unsigned int n = 1 + rnd(6);

	while (n-- > 0 && len > 0) {
		uint32_t at = rnd((uint32_t)len);

		switch (rnd(5)) {
		case 0:
			data[at] ^= (uint8_t)(1 << rnd(8));
			break;
		case 1:
			data[at] = edges[rnd(sizeof(edges))];
			break;
		case 2:
			data[at] = (uint8_t)rnd(256);
			break;
		case 3: /* cut */
			len = rnd(4) == 0 ? at : len;
			break;
		case 4: /* double a piece */
			if (len < INPUT_MAX - 64) {
				size_t piece = 1 + rnd(64);

				piece = piece < len - at ? piece : len - at;
				memmove(data + at + piece, data + at, len - at);
				len += piece;
			}
			break;
		}
	}
	return len;
}

int
main(int argc, char **argv)
{
	static uint8_t seeds[512][INPUT_MAX], work[INPUT_MAX];
	static size_t lens[512];
	unsigned long number = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000;
	unsigned int nb = 0;
	struct dirent *e;
	DIR *d;

	d = argc > 1 ? opendir(argv[1]) : NULL;
	if (d == NULL) {
		fprintf(stderr, "usage: %s DIRECTORY [NUMBER]\n", argv[0]);
		return 2;
	}
	while ((e = readdir(d)) != NULL && nb < 512) {
		char path[1024];
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], e->d_name);
		f = fopen(path, "r");
		if (f == NULL)
			continue;
		lens[nb] = fread(seeds[nb], 1, INPUT_MAX, f);
		fclose(f);
		run(seeds[nb], lens[nb]);
		nb++;
	}
	closedir(d);
	if (nb == 0) {
		fprintf(stderr, "%s: no seeds in %s\n", argv[0], argv[1]);
		return 2;
	}
	for (unsigned long i = 0; i < number; i++) {
		unsigned int s = rnd(nb);

		memcpy(work, seeds[s], lens[s]);
		run(work, mutate(work, lens[s]));
	}
	printf("%u seeds, %lu changes of them: nothing broke\n", nb, number);
	return 0;
}
