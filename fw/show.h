#pragma once

#include "fw/eve.h"
#include "fw/link.h"
#include "fw/macsec_link.h"
#include "fw/mesh_link.h"
#include "fw/posture.h"
#include "fw/sadb_link.h"
#include "fw/signatures.h"
#include "fw/worker.h"

struct event_base;
struct pk_control;
struct pk_program;

/*
 * What picketd answers on its control socket: `show ...` and `monitor`.  Reads what lcores publish and
 * never makes them wait.
 */
struct fw_show;

struct fw_show_conf {
	struct event_base *base;
	struct fw_workers *workers;
	const struct fw_link *link;
	const struct fw_posture_link *posture;
	const struct fw_esp *esp; /* NULL: no IPsec */
	const struct fw_sadb_link *sadb;
	const struct fw_mesh_link *mesh;     /* NULL: no mesh mode */
	const struct fw_macsec_link *macsec; /* NULL: no port has it */
	struct fw_signatures *signatures;
	struct fw_eve *eve; /* NULL: there is no event log */
	const struct fw_wire *wires;
	uint16_t nb_wires;
	const char *instance;
	const struct pk_program *program; /* whose options `values` holds */
	const void *values;
	const char *path; /* of the socket */
};

/* All pointers are borrowed.  Context: control thread.  Returns 0 or negative errno with *diag. */
int fw_show_create(struct fw_show **out, const struct fw_show_conf *conf, struct pk_diag *diag);
void fw_show_destroy(struct fw_show *s);
