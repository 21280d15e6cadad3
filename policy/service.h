#pragma once

#include "lib/msg.h"
#include "policy/schema.h"

/*
 * Services as people write them:
 *
 *     https                         built in, or a Service of the tenant
 *     tcp/8443  udp/53  sctp/38412  a port, or a range tcp/8443-8444; tcp alone is all of it
 *     icmp  icmp/echo-request       ICMP and ICMPv6 alike, by the names both have
 *     icmpv4/3/1  icmpv6/128        one of them, by type and code
 *     proto/47                      any IP protocol
 *     port/metrics  tcp/metrics     a port the destination has given a name
 */
enum policy_service_kind {
	POLICY_SERVICE_LITERAL = 0,
	POLICY_SERVICE_NAME, /* of a Service, to be found when everything is read */
	POLICY_SERVICE_PORT, /* a named port, to be found at each destination */
};

#define POLICY_SERVICE_LITERALS 2

struct policy_service_ref {
	enum policy_service_kind kind;
	uint8_t proto; /* of a named port; PK_PROTO_ANY: whatever the destination says */
	uint8_t nb;    /* literals */
	uint32_t line, column;
	const char *name;
	struct pk_service at[POLICY_SERVICE_LITERALS];
};

struct policy_services {
	int any;
	uint32_t nb;
	struct policy_service_ref *at;
};

/* A port with a name, of a workload. */
struct policy_port {
	const char *name;
	uint8_t proto;
	uint16_t port;
};

/* Read one word.  `name` in the result borrows from `text`.  Returns 0, or -EINVAL with *diag. */
int policy_service_parse(struct policy_service_ref *out, const char *text, struct pk_diag *diag);

/* Whether a user must not define it, because it is built in. */
int policy_service_builtin(const char *name);

/* Names of built-in services, sorted, for suggestions. */
const char *const *policy_service_names(size_t *nb);

/* "tcp/443", "icmp/8/0", "all" into buf; returns buf. */
const char *policy_service_text(char *buf, size_t size, const struct pk_service *s);

/* Sort, and join what overlaps or touches.  Returns the new count. */
uint32_t policy_services_normalise(struct pk_service *s, uint32_t nb);

/* Whether the nb_outer normalised services hold all of the inner ones. */
int policy_services_cover(const struct pk_service *outer, uint32_t nb_outer,
    const struct pk_service *inner, uint32_t nb_inner);

policy_decode policy_read_services; /* out: struct policy_services; a list, or `any` */

/* A port's name: like any name, but with a letter, so that it is not taken for a number. */
int policy_port_name_ok(const char *text);
/* out: struct policy_ports */
struct policy_ports {
	uint32_t nb;
	struct policy_port *at; /* by name */
};
policy_decode policy_read_ports;
