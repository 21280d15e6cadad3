#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dpi/app.h"

/* The sessions of tests/data/dpi/vectors.txt. */
struct dpi_message {
	unsigned int dir; /* 0: client's */
	uint16_t len;
	uint8_t *bytes;
};

struct dpi_vector {
	enum dpi_app app;
	enum dpi_transport transport;
	unsigned int line, nb;
	struct dpi_message message[16];
};

/* Read all of them from SRCDIR; *nb of them.  Fails the test when the file is not as it should be. */
struct dpi_vector *dpi_vectors_read(size_t *nb);
void dpi_vectors_free(struct dpi_vector *v, size_t nb);
