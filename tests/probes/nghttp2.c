/*
 * probe: nghttp2
 * for: header compression of HTTP/2
 * pkg: libnghttp2
 * libs: 
 * debian: libnghttp2-dev
 * required: yes
 */
#include <nghttp2/nghttp2.h>

int
main(void)
{
	nghttp2_hd_inflater *hd;

	return nghttp2_hd_inflate_new(&hd);
}
