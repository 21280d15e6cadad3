/*
 * probe: pcre2
 * for: regular expressions of signatures
 * pkg: libpcre2-8
 * libs: 
 * debian: libpcre2-dev
 * required: yes
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

int
main(void)
{
	return pcre2_config(PCRE2_CONFIG_JIT, NULL) < 0;
}
