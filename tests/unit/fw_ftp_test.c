/* Lines of FTP control connections: what they announce, and what only looks like it. */
#include <stdlib.h>

#include "fw/ftp.h"
#include "tests/unit/test.h"

struct line {
	const char *text;
	bool from_client;
	enum fw_ftp_line what;
	const char *addr; /* NULL: none named */
	uint16_t port;
};

static const struct line lines[] = {
	/* RFC 959 section 4.1.2 */
	{ "PORT 192,0,2,10,156,65", true, FW_FTP_ACTIVE, "192.0.2.10", 40001 },
	{ "port 192,0,2,10,0,0", true, FW_FTP_ACTIVE, "192.0.2.10", 0 },
	{ "PORT 192,0,2,10,156", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT 192,0,2,256,156,65", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT 192.0.2.10.156.65", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT  192,0,2,10,156,65", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT -1,0,2,10,156,65", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORTAL 192,0,2,10,156,65", true, FW_FTP_OTHER, NULL, 0 },
	{ "PASV", true, FW_FTP_PASSIVE, NULL, 0 },
	{ "PASVX", true, FW_FTP_OTHER, NULL, 0 },
	{ "USER PASV", true, FW_FTP_OTHER, NULL, 0 },
	{ "", true, FW_FTP_OTHER, NULL, 0 },
	/* the server's words mean nothing from the client, and the other way round */
	{ "227 ok (192,0,2,10,1,2)", true, FW_FTP_OTHER, NULL, 0 },
	{ "PORT 192,0,2,10,156,65", false, FW_FTP_OTHER, NULL, 0 },
	/* RFC 2428 section 2 */
	{ "EPRT |1|192.0.2.10|6275|", true, FW_FTP_ACTIVE, "192.0.2.10", 6275 },
	{ "EPRT |2|2001:db8::10|5282|", true, FW_FTP_ACTIVE, "2001:db8::10", 5282 },
	{ "eprt x2x2001:db8::10x5282x", true, FW_FTP_ACTIVE, "2001:db8::10", 5282 },
	{ "EPRT |1|2001:db8::10|5282|", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT |2|192.0.2.10|5282|", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT |3|192.0.2.10|5282|", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT |1|192.0.2.10|65536|", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT |1|192.0.2.10|6275", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT |1|192.0.2.10", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPRT ", true, FW_FTP_OTHER, NULL, 0 },
	{ "EPSV", true, FW_FTP_PASSIVE, NULL, 0 },
	{ "EPSV 2", true, FW_FTP_PASSIVE, NULL, 0 },
	{ "epsv all", true, FW_FTP_OTHER, NULL, 0 }, /* section 4: asks for nothing yet */
	/* RFC 959 section 4.2, RFC 1123 section 4.1.2.6 */
	{ "227 Entering Passive Mode (192,0,2,10,78,32).", false, FW_FTP_PORT, "192.0.2.10",
	    20000 },
	{ "227 =192,0,2,10,78,32", false, FW_FTP_PORT, "192.0.2.10", 20000 },
	{ "227 Entering Passive Mode", false, FW_FTP_REPLY, NULL, 0 },
	{ "227 (192,0,2,10,78)", false, FW_FTP_REPLY, NULL, 0 },
	{ "227-(192,0,2,10,78,32)", false, FW_FTP_OTHER, NULL, 0 },
	{ "2270 (192,0,2,10,78,32)", false, FW_FTP_OTHER, NULL, 0 },
	{ "27 (192,0,2,10,78,32)", false, FW_FTP_OTHER, NULL, 0 },
	{ " 227 (192,0,2,10,78,32)", false, FW_FTP_OTHER, NULL, 0 },
	/* RFC 2428 section 3 */
	{ "229 Entering Extended Passive Mode (|||6446|)", false, FW_FTP_PORT, NULL, 6446 },
	{ "229 ok (!!!6446!)", false, FW_FTP_PORT, NULL, 6446 },
	{ "229 ok (||6446|)", false, FW_FTP_REPLY, NULL, 0 },
	{ "229 ok (|||6446|", false, FW_FTP_REPLY, NULL, 0 },
	{ "229 ok (|||6446)", false, FW_FTP_REPLY, NULL, 0 },
	{ "229 ok (", false, FW_FTP_REPLY, NULL, 0 },
	{ "229 ok (|1|192.0.2.10|6446|)", false, FW_FTP_REPLY, NULL, 0 },
	/* other replies: 1xx is not the last */
	{ "150 here it comes", false, FW_FTP_OTHER, NULL, 0 },
	{ "226 done", false, FW_FTP_REPLY, NULL, 0 },
	{ "500 no", false, FW_FTP_REPLY, NULL, 0 },
	{ "500", false, FW_FTP_OTHER, NULL, 0 },
};

static void
test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < PK_COUNT(lines); i++) {
		const struct line *l = &lines[i];
		struct fw_ftp_port port;
		struct pk_diag diag;
		struct pk_addr addr = { .family = 0 };
		size_t len = strlen(l->text);
		/* no longer than it is, for the sanitizer to see what is read behind it */
		uint8_t *copy = malloc(len != 0 ? len : 1);
		enum fw_ftp_line what;

		assert_non_null(copy);
		memcpy(copy, l->text, len);
		what = fw_ftp_read(copy, len, l->from_client, &port);
		if (what != l->what)
			fail_msg("\"%s\": %d, not %d", l->text, what, l->what);
		if (what != FW_FTP_ACTIVE && what != FW_FTP_PORT) {
			free(copy);
			continue;
		}
		if (l->addr != NULL)
			assert_int_equal(pk_addr_parse(&addr, l->addr, &diag), 0);
		assert_memory_equal(&port.addr, &addr, sizeof(addr));
		assert_int_equal(port.port, l->port);
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines) };

	return cmocka_run_group_tests_name("fw_ftp", tests, NULL, NULL);
}
