#include "fw/shared.h"

#include <errno.h>
#include <stdlib.h>

#include "fw/lease.h"
#include "fw/meter.h"
#include "fw/names.h"
#include "fw/related.h"

int
fw_shared_create(struct fw_shared **out, const struct fw_path_conf *conf)
{
	struct fw_shared *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return -ENOMEM;
	rc = fw_meters_create(&s->meters);
	if (rc == 0 && (conf->ftp || conf->tftp))
		rc = fw_related_create(&s->related, conf->seed);
	if (rc == 0 && conf->nb_dhcp_servers != 0)
		rc = fw_leases_create(&s->leases, conf->seed);
	if (rc == 0 && conf->nb_names != 0)
		rc = fw_names_create(&s->names, conf->nb_names, conf->seed);
	if (rc < 0) {
		fw_shared_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void
fw_shared_destroy(struct fw_shared *s)
{
	if (s == NULL)
		return;
	fw_names_destroy(s->names);
	fw_leases_destroy(s->leases);
	fw_related_destroy(s->related);
	fw_meters_destroy(s->meters);
	free(s);
}
