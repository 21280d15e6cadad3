/* Answers of DNS as policy's names are learnt of them, and patterns: what is read is bounded and of its form. */
#include <string.h>

#include "fw/dns.h"
#include "lib/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
pattern(const uint8_t *data, size_t len)
{
	char text[300], form[PK_NAME_PATTERN_MAX], again[PK_NAME_PATTERN_MAX];

	len = PK_MIN(len, sizeof(text) - 1);
	memcpy(text, data, len);
	text[len] = '\0';
	if (pk_name_pattern(form, text, NULL) < 0)
		return;
	PK_ASSERT(pk_name_is_pattern(form));
	PK_ASSERT(pk_name_pattern(again, form, NULL) == 0 && strcmp(form, again) == 0);
	PK_ASSERT(strlen(pk_name_fixed(form)) <= strlen(form));
	if (strcspn(form, "*+") == strlen(form))
		PK_ASSERT(pk_name_match(form, form) && pk_name_fixed(form) == form);
	(void)pk_name_match(form, "a.b.example.com");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fw_dns m;

	if (len < 1)
		return 0;
	if (data[0] % 4 == 3) {
		pattern(data + 1, len - 1);
		return 0;
	}
	if (!fw_dns_read(data + 1, len - 1, &m))
		return 0;
	PK_ASSERT(m.nb_names >= 1 && m.nb_names <= FW_DNS_CHAIN);
	PK_ASSERT(m.nb_addrs >= 1 && m.nb_addrs <= FW_DNS_ADDRS);
	for (unsigned int i = 0; i < m.nb_names; i++)
		PK_ASSERT(memchr(m.name[i], '\0', PK_NAME_TEXT) != NULL);
	return 0;
}
