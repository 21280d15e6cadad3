#include "ipsec/ike/kernel_sadb.h"

#include <errno.h>

#include <collections/array.h>
#include <collections/hashtable.h>
#include <crypto/crypters/crypter.h>
#include <crypto/signers/signer.h>
#include <threading/mutex.h>

#include "ipsec/ike/convert.h"
#include "ipsec/ike/plane.h"
#include "lib/secret.h"

typedef struct private_kernel_sadb_t private_kernel_sadb_t;

struct private_kernel_sadb_t {
	kernel_ipsec_t public;

	/** guards policies, and orders what picketd is told of them */
	mutex_t *mutex;

	/** policy_t, by its message */
	hashtable_t *policies;
};

/**
 * What libcharon has asked of one pair of prefixes.
 *
 * Every CHILD_SA installs and removes its policies, and after a rekeying two of them have the same.  picketd has one,
 * so it goes with the last of its users, and while there are some the newest decides which SA is used: one with an SPI
 * before a trap.
 */
typedef struct {
	struct pk_sadb_policy key;	/* all that names it, the rest zero */
	array_t *uses;			/* use_t, oldest first */
} policy_t;

typedef struct {
	uint32_t spi;			/* 0: a trap, or an inbound policy */
	uint32_t priority;
	struct pk_addr sa_dst;
} use_t;

static u_int policy_hash(const void *key)
{
	return chunk_hash(chunk_create((u_char*)key, sizeof(struct pk_sadb_policy)));
}

static bool policy_equals(const void *a, const void *b)
{
	return memeq(a, b, sizeof(struct pk_sadb_policy));
}

static struct pk_sadb_id make_id(const kernel_ipsec_sa_id_t *id)
{
	return (struct pk_sadb_id){
		.src = convert_host(id->src),
		.dst = convert_host(id->dst),
		.spi = ntohl(id->spi),
	};
}

static status_t to_status(int rc)
{
	switch (rc)
	{
		case 0:
			return SUCCESS;
		case -ENOENT:
			return NOT_FOUND;
		case -EEXIST:
			return ALREADY_DONE;
		case -ENOTSUP:
			return NOT_SUPPORTED;
		case -ENOSPC:
		case -ENOMEM:
			return OUT_OF_RES;
		default:
			return FAILED;
	}
}

METHOD(kernel_ipsec_t, get_features, kernel_feature_t,
	private_kernel_sadb_t *this)
{
	return KERNEL_ESP_V3_TFC | KERNEL_NO_POLICY_UPDATES | KERNEL_POLICY_SPI;
}

/* ---- SAs ------------------------------------------------------------------------------------------- */

METHOD(kernel_ipsec_t, get_spi, status_t,
	private_kernel_sadb_t *this, host_t *src, host_t *dst, uint8_t protocol, uint32_t *spi)
{
	struct pk_sadb_answer answer;
	struct pk_sadb m;
	int rc;

	if (protocol != IPPROTO_ESP)
	{
		return NOT_SUPPORTED;
	}
	pk_sadb_init(&m, PK_SADB_GET_SPI, 0);
	m.get_spi.id.src = convert_host(src);
	m.get_spi.id.dst = convert_host(dst);
	rc = picket_plane->ask(picket_plane, &m, &answer);
	*spi = htonl(answer.spi);
	return to_status(rc);
}

METHOD(kernel_ipsec_t, get_cpi, status_t,
	private_kernel_sadb_t *this, host_t *src, host_t *dst, uint16_t *cpi)
{
	return NOT_SUPPORTED;
}

/**
 * Octets of salt behind the key, which libcharon hands over with it
 */
static size_t salt_len(uint16_t encr)
{
	switch (encr)
	{
		case ENCR_AES_CTR:
		case ENCR_AES_GCM_ICV8:
		case ENCR_AES_GCM_ICV12:
		case ENCR_AES_GCM_ICV16:
		case ENCR_NULL_AUTH_AES_GMAC:
		case ENCR_CHACHA20_POLY1305:
			return 4;
		case ENCR_AES_CCM_ICV8:
		case ENCR_AES_CCM_ICV12:
		case ENCR_AES_CCM_ICV16:
			return 3;
		default:
			return 0;
	}
}

static void set_lifetime(struct pk_sadb_life *life, const lifetime_cfg_t *cfg)
{
	life->soft_ns = cfg->time.rekey * PK_NS_PER_S;
	life->hard_ns = cfg->time.life * PK_NS_PER_S;
	life->soft_bytes = cfg->bytes.rekey;
	life->hard_bytes = cfg->bytes.life;
	life->soft_packets = cfg->packets.rekey;
	life->hard_packets = cfg->packets.life;
}

static void set_header_copies(struct pk_sadb_add_sa *sa, const kernel_ipsec_add_sa_t *data)
{
	bool out = data->copy_dscp == DSCP_COPY_OUT_ONLY || data->copy_dscp == DSCP_COPY_YES;
	bool in = data->copy_dscp == DSCP_COPY_IN_ONLY || data->copy_dscp == DSCP_COPY_YES;

	sa->df = data->copy_df ? PK_SADB_DF_COPY : PK_SADB_DF_CLEAR;
	if (!data->copy_ecn)
	{
		sa->flags |= PK_SADB_NO_ECN;
	}
	if (!out)
	{
		sa->flags |= PK_SADB_NO_DSCP_COPY;
	}
	if (in && data->inbound)
	{
		sa->flags |= PK_SADB_DSCP_DECAP;
	}
}

METHOD(kernel_ipsec_t, add_sa, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	struct pk_sadb_local local;
	struct pk_sadb_add_sa *sa;
	struct pk_sadb m;
	size_t salt = salt_len(data->enc_alg);

	if (id->proto != IPPROTO_ESP || data->ipcomp != IPCOMP_NONE ||
		(data->mode != MODE_TUNNEL && data->mode != MODE_TRANSPORT))
	{
		DBG1(DBG_KNL, "an SA of protocol %u, mode %N%s is not offered by picketd", id->proto,
			 ipsec_mode_names, data->mode, data->ipcomp != IPCOMP_NONE ? ", compressed," : "");
		return NOT_SUPPORTED;
	}
	if (data->enc_key.len > PK_SADB_KEY_MAX || data->int_key.len > PK_SADB_KEY_MAX ||
		data->enc_key.len < salt)
	{
		DBG1(DBG_KNL, "keys of %zu and %zu octets do not fit into a message to picketd",
			 data->enc_key.len, data->int_key.len);
		return NOT_SUPPORTED;
	}
	pk_sadb_init(&m, PK_SADB_ADD_SA, 0);
	sa = &m.add_sa;
	sa->id = make_id(id);
	if (!picket_plane->get_local(picket_plane, data->inbound ? &sa->id.dst : &sa->id.src, &local))
	{
		DBG1(DBG_KNL, "%H is no address of this DPU", data->inbound ? id->dst : id->src);
		return FAILED;
	}
	sa->wire = local.wire;
	sa->vrf = local.vrf;
	sa->reqid = data->reqid;
	sa->direction = data->inbound ? PK_SADB_IN : PK_SADB_OUT;
	sa->mode = data->mode == MODE_TUNNEL ? PK_SADB_TUNNEL : PK_SADB_TRANSPORT;
	set_header_copies(sa, data);
	if (data->esn)
	{
		sa->flags |= PK_SADB_ESN;
	}
	if (data->initiator)
	{
		sa->flags |= PK_SADB_INITIATOR;
	}
	if (data->encap)
	{
		sa->flags |= PK_SADB_ENCAP;
		sa->sport = id->src->get_port(id->src);
		sa->dport = id->dst->get_port(id->dst);
	}
	sa->encr = data->enc_alg;
	sa->encr_bits = (uint16_t)((data->enc_key.len - salt) * 8);
	if (data->enc_alg == ENCR_CHACHA20_POLY1305 || data->enc_alg == ENCR_NULL)
	{	/* of one length, so IKE has no attribute for it */
		sa->encr_bits = 0;
	}
	/* AUTH_UNDEFINED, as 1024, is outside of the registry: none */
	sa->integ = data->int_key.len ? data->int_alg : 0;
	sa->encr_key_len = (uint8_t)data->enc_key.len;
	sa->integ_key_len = (uint8_t)data->int_key.len;
	memcpy(sa->encr_key, data->enc_key.ptr, data->enc_key.len);
	memcpy(sa->integ_key, data->int_key.ptr, data->int_key.len);
	if (data->inbound)
	{
		sa->replay_window = data->replay_window;
	}
	else
	{	/* -1 says: as long as the link takes */
		sa->tfc = (uint16_t)min(data->tfc, local.mtu);
	}
	set_lifetime(&sa->life, data->lifetime);
	return to_status(picket_plane->ask(picket_plane, &m, NULL));
}

METHOD(kernel_ipsec_t, update_sa, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_update_sa_t *data)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_UPDATE_SA, 0);
	m.update_sa.id = make_id(id);
	m.update_sa.src = convert_host(data->new_src);
	m.update_sa.dst = convert_host(data->new_dst);
	m.update_sa.encap = data->new_encap;
	if (m.update_sa.src.family != m.update_sa.dst.family)
	{
		return NOT_SUPPORTED;
	}
	if (data->new_encap)
	{
		m.update_sa.sport = data->new_src->get_port(data->new_src);
		m.update_sa.dport = data->new_dst->get_port(data->new_dst);
	}
	return to_status(picket_plane->ask(picket_plane, &m, NULL));
}

METHOD(kernel_ipsec_t, query_sa, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_query_sa_t *data,
	uint64_t *bytes, uint64_t *packets, time_t *used)
{
	struct pk_sadb_answer answer;
	struct pk_sadb m;
	int rc;

	pk_sadb_init(&m, PK_SADB_QUERY_SA, 0);
	m.sa.id = make_id(id);
	rc = picket_plane->ask(picket_plane, &m, &answer);
	if (rc == 0)
	{
		if (bytes)
		{
			*bytes = answer.bytes;
		}
		if (packets)
		{
			*packets = answer.packets;
		}
		if (used)
		{
			*used = answer.idle_ns == UINT64_MAX ?
							0 : time_monotonic(NULL) - (time_t)(answer.idle_ns / PK_NS_PER_S);
		}
	}
	return to_status(rc);
}

METHOD(kernel_ipsec_t, del_sa, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_del_sa_t *data)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_DEL_SA, 0);
	m.sa.id = make_id(id);
	return to_status(picket_plane->ask(picket_plane, &m, NULL));
}

static status_t flush(uint32_t what)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_FLUSH, 0);
	m.flush.what = what;
	return to_status(picket_plane->ask(picket_plane, &m, NULL));
}

METHOD(kernel_ipsec_t, flush_sas, status_t,
	private_kernel_sadb_t *this)
{
	return flush(PK_SADB_FLUSH_SAS);
}

/* ---- policies -------------------------------------------------------------------------------------- */

/**
 * The narrower, the earlier: prefixes first, then protocol and ports.  Classes of libcharon's stay apart.
 */
static uint32_t get_priority(const struct pk_sadb_policy *p, const kernel_ipsec_manage_policy_t *data)
{
	uint32_t priority = 0;

	if (data->manual_prio)
	{
		return data->manual_prio;
	}
	switch (data->prio)
	{
		case POLICY_PRIORITY_FALLBACK:
			priority += 100000;
			/* fall-through */
		case POLICY_PRIORITY_ROUTED:
			priority += 100000;
			/* fall-through */
		case POLICY_PRIORITY_DEFAULT:
			priority += 100000;
			/* fall-through */
		case POLICY_PRIORITY_PASS:
			break;
	}
	priority += 4 * (256 - p->src.len - p->dst.len);
	priority += p->proto ? 0 : 2;
	priority += p->sport_high - p->sport_low == 0xffff && p->dport_high - p->dport_low == 0xffff;
	return priority;
}

/**
 * The use that counts: the newest that has an SA, else the newest
 */
static use_t *find_current(policy_t *policy)
{
	use_t *use = NULL;
	int i;

	for (i = array_count(policy->uses) - 1; i >= 0; i--)
	{
		array_get(policy->uses, i, &use);
		if (use->spi)
		{
			return use;
		}
	}
	array_get(policy->uses, ARRAY_TAIL, &use);
	return use;
}

static int tell(policy_t *policy, enum pk_sadb_type type)
{
	struct pk_sadb m;
	use_t *use;

	pk_sadb_init(&m, type, 0);
	m.policy = policy->key;
	if (type == PK_SADB_ADD_POLICY)
	{
		use = find_current(policy);
		m.policy.spi = use->spi;
		m.policy.sa_dst = use->sa_dst;
		m.policy.priority = use->priority;
	}
	return picket_plane->ask(picket_plane, &m, NULL);
}

static void destroy_policy(policy_t *policy)
{
	array_destroy_function(policy->uses, (void*)free, NULL);
	free(policy);
}

/**
 * One pair of prefixes more; mutex held
 */
static int add_one(private_kernel_sadb_t *this, const struct pk_sadb_policy *key, const use_t *use)
{
	policy_t *policy;
	use_t *copy;
	int rc;

	policy = this->policies->get(this->policies, key);
	if (!policy)
	{
		INIT(policy,
			.key = *key,
			.uses = array_create(0, 0),
		);
		this->policies->put(this->policies, &policy->key, policy);
	}
	copy = malloc_thing(use_t);
	*copy = *use;
	array_insert(policy->uses, ARRAY_TAIL, copy);
	rc = tell(policy, PK_SADB_ADD_POLICY);
	if (rc != 0)
	{
		array_remove(policy->uses, ARRAY_TAIL, NULL);
		free(copy);
		if (!array_count(policy->uses))
		{
			this->policies->remove(this->policies, &policy->key);
			destroy_policy(policy);
		}
	}
	return rc;
}

/**
 * One pair of prefixes less; mutex held
 */
static int del_one(private_kernel_sadb_t *this, const struct pk_sadb_policy *key, const use_t *use)
{
	policy_t *policy;
	use_t *current, *old = NULL, *each;
	int i, rc = 0;

	policy = this->policies->get(this->policies, key);
	if (!policy)
	{
		return -ENOENT;
	}
	current = find_current(policy);
	for (i = 0; i < array_count(policy->uses); i++)
	{
		array_get(policy->uses, i, &each);
		if (each->spi == use->spi && each->sa_dst.family == use->sa_dst.family)
		{
			old = each;
			array_remove(policy->uses, i, NULL);
			break;
		}
	}
	if (!old)
	{	/* its SA has changed its address since: any will do, they are counted */
		array_remove(policy->uses, ARRAY_HEAD, &old);
	}
	if (!array_count(policy->uses))
	{
		rc = tell(policy, PK_SADB_DEL_POLICY);
		this->policies->remove(this->policies, &policy->key);
		destroy_policy(policy);
	}
	else if (old == current)
	{
		rc = tell(policy, PK_SADB_ADD_POLICY);
	}
	free(old);
	return rc;
}

/**
 * Do something with each pair of prefixes that a pair of traffic selectors stands for
 */
static status_t each_pair(private_kernel_sadb_t *this, kernel_ipsec_policy_id_t *id,
	kernel_ipsec_manage_policy_t *data,
	int (*handle)(private_kernel_sadb_t *this, const struct pk_sadb_policy *key, const use_t *use))
{
	struct pk_prefix src[CONVERT_PREFIXES], dst[CONVERT_PREFIXES];
	int nb_src, nb_dst, i, j, rc = 0, failed;
	struct pk_sadb_policy key;
	use_t use = {};

	if (id->dir == POLICY_FWD)
	{	/* picketd always forwards: `in` says it all */
		return SUCCESS;
	}
	if (data->type != POLICY_IPSEC || !data->sa)
	{
		DBG1(DBG_KNL, "policies that pass or drop packets are not picketd's to take from IKE");
		return NOT_SUPPORTED;
	}
	/* zeroed with its padding: it is a key */
	memset(&key, 0, sizeof(key));
	key.direction = id->dir == POLICY_IN ? PK_SADB_POLICY_IN : PK_SADB_POLICY_OUT;
	key.mode = data->sa->mode == MODE_TRANSPORT ? PK_SADB_TRANSPORT : PK_SADB_TUNNEL;
	key.proto = max(id->src_ts->get_protocol(id->src_ts), id->dst_ts->get_protocol(id->dst_ts));
	key.reqid = data->sa->reqid;
	key.sport_low = id->src_ts->get_from_port(id->src_ts);
	key.sport_high = id->src_ts->get_to_port(id->src_ts);
	key.dport_low = id->dst_ts->get_from_port(id->dst_ts);
	key.dport_high = id->dst_ts->get_to_port(id->dst_ts);
	nb_src = convert_selector(id->src_ts, src);
	nb_dst = convert_selector(id->dst_ts, dst);
	if (!nb_src || !nb_dst || key.sport_low > key.sport_high || key.dport_low > key.dport_high)
	{
		DBG1(DBG_KNL, "selectors %R === %R are nothing that picketd can match", id->src_ts,
			 id->dst_ts);
		return NOT_SUPPORTED;
	}
	if (id->dir == POLICY_OUT)
	{
		use.spi = ntohl(data->sa->esp.spi);
		if (use.spi)
		{
			use.sa_dst = convert_host(data->dst);
		}
	}
	this->mutex->lock(this->mutex);
	for (i = 0; i < nb_src; i++)
	{
		for (j = 0; j < nb_dst; j++)
		{
			key.src = src[i];
			key.dst = dst[j];
			use.priority = get_priority(&key, data);
			failed = handle(this, &key, &use);
			rc = rc ?: failed;
		}
	}
	this->mutex->unlock(this->mutex);
	return to_status(rc);
}

METHOD(kernel_ipsec_t, add_policy, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	return each_pair(this, id, data, add_one);
}

METHOD(kernel_ipsec_t, del_policy, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	return each_pair(this, id, data, del_one);
}

/** the one there is, for kernel_sadb_resync() */
static private_kernel_sadb_t *instance;

void kernel_sadb_resync()
{
	enumerator_t *enumerator;
	struct pk_sadb m;
	policy_t *policy;

	if (!instance)
	{
		return;
	}
	instance->mutex->lock(instance->mutex);
	enumerator = instance->policies->create_enumerator(instance->policies);
	while (enumerator->enumerate(enumerator, NULL, &policy))
	{
		pk_sadb_init(&m, PK_SADB_ADD_POLICY, 0);
		m.policy = policy->key;
		m.policy.priority = find_current(policy)->priority;
		picket_plane->ask(picket_plane, &m, NULL);
	}
	enumerator->destroy(enumerator);
	instance->mutex->unlock(instance->mutex);
}

METHOD(kernel_ipsec_t, query_policy, status_t,
	private_kernel_sadb_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_query_policy_t *data,
	time_t *used)
{	/* asked only of those who cannot tell when an SA was used */
	return NOT_SUPPORTED;
}

METHOD(kernel_ipsec_t, flush_policies, status_t,
	private_kernel_sadb_t *this)
{
	enumerator_t *enumerator;
	policy_t *policy;
	status_t status;

	this->mutex->lock(this->mutex);
	status = flush(PK_SADB_FLUSH_POLICIES);
	enumerator = this->policies->create_enumerator(this->policies);
	while (enumerator->enumerate(enumerator, NULL, &policy))
	{
		this->policies->remove_at(this->policies, enumerator);
		destroy_policy(policy);
	}
	enumerator->destroy(enumerator);
	this->mutex->unlock(this->mutex);
	return status;
}

METHOD(kernel_ipsec_t, bypass_socket, bool,
	private_kernel_sadb_t *this, int fd, int family)
{
	return TRUE;
}

METHOD(kernel_ipsec_t, enable_udp_decap, bool,
	private_kernel_sadb_t *this, int fd, int family, uint16_t port)
{	/* picketd sees UDP before any socket does */
	return TRUE;
}

METHOD(kernel_ipsec_t, destroy, void,
	private_kernel_sadb_t *this)
{
	enumerator_t *enumerator;
	policy_t *policy;

	enumerator = this->policies->create_enumerator(this->policies);
	while (enumerator->enumerate(enumerator, NULL, &policy))
	{
		destroy_policy(policy);
	}
	enumerator->destroy(enumerator);
	instance = NULL;
	this->policies->destroy(this->policies);
	this->mutex->destroy(this->mutex);
	free(this);
}

kernel_ipsec_t *kernel_sadb_create()
{
	private_kernel_sadb_t *this;

	INIT(this,
		.public = {
			.get_features = _get_features,
			.get_spi = _get_spi,
			.get_cpi = _get_cpi,
			.add_sa = _add_sa,
			.update_sa = _update_sa,
			.query_sa = _query_sa,
			.del_sa = _del_sa,
			.flush_sas = _flush_sas,
			.add_policy = _add_policy,
			.query_policy = _query_policy,
			.del_policy = _del_policy,
			.flush_policies = _flush_policies,
			.bypass_socket = _bypass_socket,
			.enable_udp_decap = _enable_udp_decap,
			.destroy = _destroy,
		},
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.policies = hashtable_create(policy_hash, policy_equals, 64),
	);
	instance = this;
	return &this->public;
}
