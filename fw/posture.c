#include "fw/posture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/posture.h"

struct fw_posture_link {
	struct fw_workers *workers;
	struct pk_posture_ear *ear;
	bool attested;
	uint64_t epoch, changes;
};

static void
take(void *arg, const struct pk_msg_posture *p)
{
	struct fw_posture_link *l = arg;
	uint64_t start = pk_clock_mono_ns();
	bool was = fw_workers_lease_ns(l->workers) != 0;
	bool attested = p->attested && p->until_mono_ns > start;

	fw_workers_posture(l->workers, attested ? p->until_mono_ns - start : 0);
	l->epoch = p->epoch;
	if (was == attested && l->attested == attested)
		return;
	l->attested = attested;
	l->changes++;
	pk_notice("host %s: %s (epoch %" PRIu64 ", in force after %" PRIu64 " us)%s%s", p->host,
	    attested ? "attested" : "not attested", p->epoch,
	    (pk_clock_mono_ns() - start) / PK_NS_PER_US, p->text[0] != '\0' ? ": " : "", p->text);
}

int
fw_posture_link_create(struct fw_posture_link **out, struct event_base *base, const char *path,
    struct fw_workers *workers, struct pk_diag *diag)
{
	struct fw_posture_link *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->workers = workers;
	rc = pk_posture_listen(&l->ear, base, path, take, l, diag);
	if (rc < 0) {
		free(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_posture_link_destroy(struct fw_posture_link *l)
{
	if (l == NULL)
		return;
	pk_posture_ear_destroy(l->ear);
	free(l);
}

void
fw_posture_link_status(const struct fw_posture_link *l, struct fw_posture_status *out)
{
	uint64_t lease = fw_workers_lease_ns(l->workers);

	*out = (struct fw_posture_status){ .connected = pk_posture_ear_connected(l->ear),
		.attested = lease != 0,
		.epoch = l->epoch,
		.lease_ns = lease,
		.changes = l->changes };
}
