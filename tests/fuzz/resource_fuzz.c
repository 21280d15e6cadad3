/*
 * What a server could send: a resource, and a change of it if it is a set.  Whatever passes the checks
 * must become messages that pass theirs.
 *
 * type(1) body_len(2, little-endian) body, then a picket.v1.SetDelta.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/proto/picket.pb-c.h"
#include "policy/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int
expect_valid(void *arg, const struct pk_msg *m)
{
	struct pk_diag diag;

	(void)arg;
	PK_ASSERT(pk_msg_check(m, sizeof(*m), &diag) == 0);
	return 0;
}

/* The key that belongs to a body, so that inputs do not have to guess it. */
static size_t
key_of(unsigned int type, const uint8_t *body, size_t len, uint8_t key[POLICY_KEY_MAX])
{
	uint64_t number = 0;
	size_t n = 8;

	if (type == POLICY_RESOURCE_ENDPOINT) {
		Picket__V1__Endpoint *m = picket__v1__endpoint__unpack(NULL, len, body);

		n = 0;
		if (m != NULL && m->address.len <= 16) {
			for (unsigned int i = 0; i < 4; i++)
				key[i] = (uint8_t)(m->vrf >> (24 - 8 * i));
			if (m->address.len != 0)
				memcpy(key + 4, m->address.data, m->address.len);
			n = 4 + m->address.len;
		}
		if (m != NULL)
			picket__v1__endpoint__free_unpacked(m, NULL);
		return n;
	}
	if (type == POLICY_RESOURCE_IDENTITY) {
		Picket__V1__Identity *m = picket__v1__identity__unpack(NULL, len, body);

		n = 4;
		if (m != NULL) {
			number = m->id;
			picket__v1__identity__free_unpacked(m, NULL);
		}
	} else if (type == POLICY_RESOURCE_SET) {
		Picket__V1__Set *m = picket__v1__set__unpack(NULL, len, body);

		if (m != NULL) {
			number = m->id;
			picket__v1__set__free_unpacked(m, NULL);
		}
	} else {
		Picket__V1__Program *m = picket__v1__program__unpack(NULL, len, body);

		if (m != NULL) {
			number = m->id;
			picket__v1__program__free_unpacked(m, NULL);
		}
	}
	for (size_t i = 0; i < n; i++)
		key[i] = (uint8_t)(number >> (8 * (n - 1 - i)));
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct policy_resource *r, *patched, *again;
	Picket__V1__SetDelta *delta;
	uint8_t key[POLICY_KEY_MAX] = { 0 };
	size_t body_len, key_len;
	struct pk_diag diag;

	if (len < 3)
		return 0;
	body_len = PK_MIN((size_t)(data[1] | data[2] << 8), len - 3);
	key_len = key_of(data[0], data + 3, body_len, key);
	if (policy_resource_create(&r, data[0], key, key_len, data + 3, body_len, &diag) != 0)
		return 0;
	PK_ASSERT(policy_resource_emit(NULL, r, "dpu1", expect_valid, NULL) == 0);
	PK_ASSERT(policy_resource_emit(r, NULL, "dpu1", expect_valid, NULL) == 0);
	delta = picket__v1__set_delta__unpack(NULL, len - 3 - body_len, data + 3 + body_len);
	if (delta != NULL) {
		delta->base_version = r->version;
		if (policy_resource_patch(&patched, r, delta, &diag) == 0) {
			PK_ASSERT(
			    policy_resource_emit(r, patched, "dpu1", expect_valid, NULL) == 0);
			PK_ASSERT(policy_resource_create(&again, patched->type, patched->key,
			              patched->key_len, patched->body, patched->len, &diag) == 0);
			policy_resource_put(again);
			policy_resource_put(patched);
		}
		picket__v1__set_delta__free_unpacked(delta, NULL);
	}
	policy_resource_put(r);
	return 0;
}
