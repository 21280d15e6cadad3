#include <stdlib.h>
#include <string.h>

#include "fw/nft/code.h"
#include "tests/unit/test.h"

/* What earlier calls leave where the next ones have their variables. */
static void __attribute__((noinline)) litter(uint8_t with)
{
	volatile uint8_t stack[65536];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = with;
}

/* One rule of everything whose attributes need padding: names, single bytes, 16-bit numbers. */
static void __attribute__((noinline)) write_rule(struct nft_code *c)
{
	nft_code_begin(c, "picket", "p1");
	nft_meta(c, NFT_META_NFPROTO, 0);
	nft_test8(c, 0, NFT_CMP_EQ, 2);
	nft_ct_dir(c, NFT_CT_PROTO_DST, false, 1);
	nft_test16(c, 1, NFT_CMP_EQ, 443);
	nft_in_set(c, 2, "s12-4");
	nft_option4(c, 131);
	nft_count(c, "r100007");
	nft_log(c, 9035, "deny", 1400);
	nft_goto(c, "allow");
	nft_rule_end(c);
	assert_int_equal(nft_code_end(c), 0);
}

/* A change of policy sends the chains that are not equal byte for byte: padding must not make them differ. */
static void
test_equal_rules_are_equal_bytes(void **state)
{
	struct nft_code a, b;

	(void)state;
	litter(0x00);
	write_rule(&a);
	litter(0xa5);
	write_rule(&b);
	assert_int_equal(a.nb_rules, 1);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.bytes, b.bytes, a.len);
	free(a.bytes);
	free(b.bytes);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_rules_are_equal_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
