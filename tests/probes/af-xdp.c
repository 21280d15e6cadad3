/*
 * probe: af-xdp
 * for: kernel interfaces by AF_XDP that survive a crash of picketd
 * pkg: libbpf
 * libs:
 * debian: libbpf-dev
 * required: no
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stddef.h>

int
main(void)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);

	return bpf_xdp_query(1, 0, &query) > 0;
}
