#include "attest/pcr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/wire.h"

/* The file of tpm2-tools is their C structures as they lie in memory, hence these sizes. */
#define TOOLS_SELECTIONS   16
#define TOOLS_DIGESTS      8
#define TOOLS_DIGEST_BYTES 64
#define TOOLS_LISTS_MAX    64

const struct attest_bank *
attest_pcrs_bank(const struct attest_pcrs *pcrs, uint16_t alg)
{
	for (unsigned int i = 0; i < pcrs->nb_banks; i++)
		if (pcrs->bank[i].alg == alg)
			return &pcrs->bank[i];
	return NULL;
}

uint32_t
attest_selection_mask(const struct attest_selection *s, uint16_t alg)
{
	for (unsigned int i = 0; i < s->nb_banks; i++)
		if (s->bank[i].alg == alg)
			return s->bank[i].mask;
	return 0;
}

void
attest_bank_reset(struct attest_bank *b, uint16_t alg)
{
	*b = (struct attest_bank){ .alg = alg };
	for (unsigned int i = 17; i <= 22; i++)
		memset(b->value[i], 0xff, sizeof(b->value[i]));
}

static struct attest_bank *
bank_of(struct attest_pcrs *pcrs, uint16_t alg)
{
	for (unsigned int i = 0; i < pcrs->nb_banks; i++)
		if (pcrs->bank[i].alg == alg)
			return &pcrs->bank[i];
	if (pcrs->nb_banks == ATTEST_BANKS_MAX)
		return NULL;
	pcrs->bank[pcrs->nb_banks] = (struct attest_bank){ .alg = alg };
	return &pcrs->bank[pcrs->nb_banks++];
}

static int
parse_json(struct attest_pcrs *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	json_error_t error;
	json_t *root = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &error);
	json_t *bank, *value;
	const char *name, *index;
	int rc = -EINVAL;

	if (!json_is_object(root)) {
		pk_diag_set(d, "PCR values: line %d: %s", root == NULL ? error.line : 1,
		    root == NULL ? error.text : "not an object of banks");
		goto out;
	}
	json_object_foreach(root, name, bank)
	{
		uint16_t alg = attest_alg_find(name, strlen(name));
		struct attest_bank *b;

		if (alg == 0)
			continue;
		if ((b = bank_of(out, alg)) == NULL || !json_is_object(bank)) {
			pk_diag_set(d, "PCR values: bank %.16s is not an object", name);
			goto out;
		}
		json_object_foreach(bank, index, value)
		{
			const char *hex = json_string_value(value);
			char *end;
			unsigned long i = strtoul(index, &end, 10);

			if (index[0] == '\0' || *end != '\0' || i >= ATTEST_NB_PCRS ||
			    hex == NULL) {
				pk_diag_set(
				    d, "PCR values: %.16s has no PCR \"%.16s\"", name, index);
				goto out;
			}
			if (strncmp(hex, "0x", 2) == 0)
				hex += 2;
			if (attest_unhex(hex, strlen(hex), b->value[i], attest_alg_size(alg)) < 0) {
				pk_diag_set(d, "PCR values: %.16s:%lu is not %zu bytes in hex",
				    name, i, attest_alg_size(alg));
				goto out;
			}
			b->mask |= UINT32_C(1) << i;
		}
	}
	rc = 0;
out:
	json_decref(root);
	return rc;
}

static int
parse_tools(struct attest_pcrs *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	struct {
		uint16_t alg;
		uint8_t pcr;
	} slot[TOOLS_SELECTIONS * 32];
	size_t nb_slots = 0, at = 0;
	uint32_t count = pk_wire_le32(&w), lists;

	if (count > TOOLS_SELECTIONS)
		goto bad;
	for (uint32_t i = 0; i < TOOLS_SELECTIONS; i++) {
		uint16_t alg = pk_wire_le16(&w);
		uint8_t size = pk_wire_u8(&w);
		const uint8_t *select = pk_wire_bytes(&w, 4);

		pk_wire_skip(&w, 1);
		if (!pk_wire_ok(&w) || (i < count && size > 4))
			goto bad;
		if (i >= count)
			continue;
		for (unsigned int bit = 0; bit < size * 8U; bit++) {
			if ((select[bit / 8] >> bit % 8 & 1) == 0)
				continue;
			if (bit >= ATTEST_NB_PCRS)
				goto bad;
			slot[nb_slots].alg = alg;
			slot[nb_slots++].pcr = (uint8_t)bit;
		}
	}
	lists = pk_wire_le32(&w);
	if (!pk_wire_ok(&w) || lists > TOOLS_LISTS_MAX)
		goto bad;
	for (uint32_t l = 0; l < lists; l++) {
		uint32_t n = pk_wire_le32(&w);

		if (n > TOOLS_DIGESTS)
			goto bad;
		for (uint32_t i = 0; i < TOOLS_DIGESTS; i++) {
			uint16_t size = pk_wire_le16(&w);
			const uint8_t *value = pk_wire_bytes(&w, TOOLS_DIGEST_BYTES);
			struct attest_bank *b;

			if (!pk_wire_ok(&w))
				goto bad;
			if (i >= n)
				continue;
			if (at == nb_slots)
				goto bad;
			if (attest_alg_size(slot[at].alg) != 0) {
				b = bank_of(out, slot[at].alg);
				if (b == NULL || size != attest_alg_size(slot[at].alg) ||
				    (b->mask >> slot[at].pcr & 1) != 0)
					goto bad;
				memcpy(b->value[slot[at].pcr], value, size);
				b->mask |= UINT32_C(1) << slot[at].pcr;
			}
			at++;
		}
	}
	if (pk_wire_ok(&w) && at == nb_slots && pk_wire_left(&w) == 0)
		return 0;
bad:
	pk_diag_set(d, "PCR values: not the file of tpm2_quote -o, at byte %zu of %zu",
	    len - pk_wire_left(&w), len);
	return -EINVAL;
}

int
attest_pcrs_parse(struct attest_pcrs *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	size_t i = 0;

	*out = (struct attest_pcrs){ 0 };
	while (i < len && (bytes[i] == ' ' || bytes[i] == '\n' || bytes[i] == '\t'))
		i++;
	if (i < len && bytes[i] == '{')
		return parse_json(out, bytes, len, d);
	return parse_tools(out, bytes, len, d);
}
