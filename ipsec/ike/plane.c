#include "ipsec/ike/plane.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <collections/array.h>
#include <collections/linked_list.h>
#include <kernel/kernel_interface.h>
#include <threading/condvar.h>
#include <threading/mutex.h>
#include <threading/thread.h>

#include "ipsec/ike/convert.h"
#include "lib/secret.h"

#define RETRY_MS 100		/* between attempts to connect */
#define ANSWER_MS 5000		/* picketd answers in microseconds, or it hangs */
#define QUEUE_MAX 8192		/* IKE packets nobody has taken yet */
#define BUFFER (4 << 20)	/* bytes of the socket */
#define LOCALS_MS 20		/* addresses follow HELLO at once, and nothing says which is the last */
#define LOCALS_MAX 1024

plane_t *picket_plane;

typedef struct private_plane_t private_plane_t;

/**
 * A request somebody waits for
 */
typedef struct {
	uint32_t seq;
	bool done;
	struct pk_sadb_answer answer;
	condvar_t *condvar;
} question_t;

struct private_plane_t {
	plane_t public;
	struct sockaddr_un addr;
	char program[32];
	uint64_t our_epoch;
	thread_t *reader;
	int wake;			/* eventfd: the end */
	plane_listener_t *listener;

	/** guards all below */
	mutex_t *mutex;
	bool ending;
	int fd;				/* -1: not connected */
	uint64_t epoch;			/* of the picketd that holds our SAs, 0: none yet */
	uint32_t seq;
	linked_list_t *questions;	/* question_t, on their askers' stacks */
	linked_list_t *packets;		/* packet_t */
	condvar_t *arrived;
	array_t *locals;		/* struct pk_sadb_local */
	plane_stats_t stats;

	/** the reading thread's: after HELLO, until all addresses are there */
	array_t *greeting;		/* struct pk_sadb_local, or NULL */
	bool fresh;

	/** guards order on the socket: a message is written whole.  Taken before mutex. */
	mutex_t *writing;
};

/**
 * Write a message and what follows it
 */
static bool write_message(private_plane_t *this, struct pk_sadb *m, chunk_t more, bool wait)
{
	struct iovec iov[] = { { m, sizeof(*m) }, { more.ptr, more.len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = more.len ? 2 : 1 };
	struct pollfd pfd = { .events = POLLOUT };
	ssize_t n = -1;
	int fd;

	m->h.more = (uint32_t)more.len;
	this->writing->lock(this->writing);
	this->mutex->lock(this->mutex);
	fd = this->fd;
	this->mutex->unlock(this->mutex);
	if (fd != -1)
	{
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == -1 && (errno == EAGAIN || errno == ENOBUFS) && wait)
		{
			pfd.fd = fd;
			if (poll(&pfd, 1, 1000) == 1)
			{
				n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
			}
		}
	}
	this->writing->unlock(this->writing);
	return n == (ssize_t)(sizeof(*m) + more.len);
}

METHOD(plane_t, ask, int,
	private_plane_t *this, struct pk_sadb *request, struct pk_sadb_answer *answer)
{
	question_t q = { .condvar = condvar_create(CONDVAR_TYPE_DEFAULT) };
	int rc = 0;

	this->mutex->lock(this->mutex);
	do
	{	/* 0 is nobody's */
		q.seq = ++this->seq;
	}
	while (!q.seq);
	request->h.seq = q.seq;
	this->stats.requests++;
	this->questions->insert_last(this->questions, &q);
	this->mutex->unlock(this->mutex);

	if (!write_message(this, request, chunk_empty, TRUE))
	{
		rc = -ENOTCONN;
	}
	this->mutex->lock(this->mutex);
	while (rc == 0 && !q.done)
	{
		if (q.condvar->timed_wait(q.condvar, this->mutex, ANSWER_MS) && !q.done)
		{
			rc = -ETIMEDOUT;
		}
	}
	this->questions->remove(this->questions, &q, NULL);
	if (rc == 0)
	{
		rc = q.answer.error;
	}
	if (rc != 0)
	{
		this->stats.refused++;
	}
	this->mutex->unlock(this->mutex);

	if (rc != 0)
	{
		DBG1(DBG_KNL, "%s refused: %s", pk_sadb_type_name(request->h.type),
			 q.done && q.answer.text[0] ? q.answer.text : strerror(-rc));
	}
	if (answer)
	{
		*answer = q.answer;
	}
	pk_wipe(request, sizeof(*request));
	q.condvar->destroy(q.condvar);
	return rc;
}

/**
 * Find a local address in a list; returns its index, or -1
 */
static int find_local(array_t *locals, const struct pk_addr *addr, struct pk_sadb_local *out)
{
	static const uint8_t none[sizeof(addr->bytes)] = {};
	bool any = memeq(addr->bytes, none, sizeof(none));
	struct pk_sadb_local local;
	int i;

	for (i = 0; i < array_count(locals); i++)
	{
		array_get(locals, i, &local);
		if (local.addr.family == addr->family &&
			(any || memeq(local.addr.bytes, addr->bytes, sizeof(none))))
		{
			if (out)
			{
				*out = local;
			}
			return i;
		}
	}
	return -1;
}

METHOD(plane_t, get_local, bool,
	private_plane_t *this, const struct pk_addr *addr, struct pk_sadb_local *out)
{
	bool found;

	this->mutex->lock(this->mutex);
	found = find_local(this->locals, addr, out) != -1;
	this->mutex->unlock(this->mutex);
	return found;
}

METHOD(plane_t, create_local_enumerator, enumerator_t*,
	private_plane_t *this)
{
	array_t *copy = array_create(sizeof(struct pk_sadb_local), 0);
	struct pk_sadb_local local;
	int i;

	this->mutex->lock(this->mutex);
	for (i = 0; i < array_count(this->locals); i++)
	{
		array_get(this->locals, i, &local);
		array_insert(copy, ARRAY_TAIL, &local);
	}
	this->mutex->unlock(this->mutex);
	return enumerator_create_cleaner(array_create_enumerator(copy), (void*)array_destroy, copy);
}

METHOD(plane_t, send_packet, bool,
	private_plane_t *this, packet_t *packet)
{
	host_t *src = packet->get_source(packet), *dst = packet->get_destination(packet);
	chunk_t data = packet->get_data(packet);
	struct pk_sadb_local local;
	struct pk_sadb m;
	bool sent = FALSE;

	pk_sadb_init(&m, PK_SADB_IKE, 0);
	m.ike.src = convert_host(src);
	m.ike.dst = convert_host(dst);
	m.ike.sport = src->get_port(src);
	m.ike.dport = dst->get_port(dst);
	m.ike.dscp = packet->get_dscp(packet);
	if (m.ike.src.family == 0)
	{	/* charon leaves the choice to the kernel */
		m.ike.src.family = m.ike.dst.family;
	}
	if (m.ike.src.family != m.ike.dst.family || !m.ike.sport || !m.ike.dport)
	{
		DBG1(DBG_NET, "nothing can be sent from %#H to %#H", src, dst);
	}
	else if (!data.len || data.len > PK_SADB_IKE_MAX)
	{
		DBG1(DBG_NET, "IKE packet of %zu bytes is too long to be sent (at most %d); "
			 "does the peer lack RFC 7383?", data.len, PK_SADB_IKE_MAX);
	}
	else if (!_get_local(this, &m.ike.src, &local))
	{
		DBG1(DBG_NET, "%H is no address of this DPU: nothing sent to %H", src, dst);
	}
	else
	{
		m.ike.src = local.addr;
		m.ike.wire = local.wire;
		m.ike.vrf = local.vrf;
		sent = write_message(this, &m, data, FALSE);
	}
	this->mutex->lock(this->mutex);
	if (sent)
	{
		this->stats.ike_out++;
	}
	else
	{
		this->stats.ike_dropped++;
	}
	this->mutex->unlock(this->mutex);
	return sent;
}

METHOD(plane_t, receive_packet, packet_t*,
	private_plane_t *this)
{
	packet_t *packet = NULL;
	bool old;

	this->mutex->lock(this->mutex);
	thread_cleanup_push((void*)this->mutex->unlock, this->mutex);
	while (!this->ending &&
		   this->packets->remove_first(this->packets, (void**)&packet) != SUCCESS)
	{
		old = thread_cancelability(TRUE);
		this->arrived->wait(this->arrived, this->mutex);
		thread_cancelability(old);
	}
	thread_cleanup_pop(TRUE);
	return packet;
}

/* ---- what arrives ---------------------------------------------------------------------------------- */

static void take_answer(private_plane_t *this, const struct pk_sadb *m)
{
	enumerator_t *enumerator;
	question_t *q;

	enumerator = this->questions->create_enumerator(this->questions);
	while (enumerator->enumerate(enumerator, &q))
	{
		if (q->seq == m->h.seq && !q->done)
		{
			q->answer = m->answer;
			q->done = TRUE;
			q->condvar->signal(q->condvar);
			break;
		}
	}
	enumerator->destroy(enumerator);
}

static void take_packet(private_plane_t *this, const struct pk_sadb *m, chunk_t data)
{
	packet_t *packet;

	if (this->packets->get_count(this->packets) >= QUEUE_MAX)
	{
		this->stats.ike_dropped++;
		return;
	}
	packet = packet_create_from_data(convert_addr(&m->ike.src, m->ike.sport),
									 convert_addr(&m->ike.dst, m->ike.dport),
									 chunk_clone(data));
	packet->set_dscp(packet, m->ike.dscp);
	this->stats.ike_in++;
	this->packets->insert_last(this->packets, packet);
	this->arrived->signal(this->arrived);
}

/**
 * Put an address into a list, or replace it there.  Returns TRUE if that changes anything.
 */
static bool put_local(array_t *locals, const struct pk_sadb_local *local)
{
	struct pk_sadb_local known;
	int i;

	i = find_local(locals, &local->addr, &known);
	if (i != -1)
	{
		if (memeq(&known, local, sizeof(*local)))
		{
			return FALSE;
		}
		array_remove(locals, i, NULL);
	}
	else if (array_count(locals) >= LOCALS_MAX)
	{
		return FALSE;
	}
	known = *local;
	array_insert(locals, ARRAY_TAIL, &known);
	return TRUE;
}

static void take_expire(const struct pk_sadb_expire *e)
{
	host_t *dst = convert_addr(&e->id.dst, 0);

	charon->kernel->expire(charon->kernel, IPPROTO_ESP, htonl(e->id.spi), dst, e->hard);
	dst->destroy(dst);
}

static void take_mapping(const struct pk_sadb_mapping *e)
{
	host_t *dst, *remote;

	if (e->src.family != e->id.dst.family)
	{	/* whatever a NAT does, it does not do that: the SA could not be moved there */
		return;
	}
	dst = convert_addr(&e->id.dst, 0);
	remote = convert_addr(&e->src, e->sport);
	charon->kernel->mapping(charon->kernel, IPPROTO_ESP, htonl(e->id.spi), dst, remote);
	dst->destroy(dst);
	remote->destroy(remote);
}

static traffic_selector_t *packet_selector(const struct pk_addr *addr, uint8_t proto, uint16_t port)
{
	chunk_t bytes = chunk_create((u_char*)addr->bytes, addr->family == 4 ? 4 : 16);

	return traffic_selector_create_from_bytes(proto,
							addr->family == 4 ? TS_IPV4_ADDR_RANGE : TS_IPV6_ADDR_RANGE,
							bytes, port, bytes, port ?: 0xffff);
}

static void take_acquire(const struct pk_sadb_acquire *e)
{
	kernel_acquire_data_t data = {};

	if (!e->reqid)
	{	/* rules want protection, but no peer of ours is there for it */
		DBG1(DBG_KNL, "a packet of protocol %u wants protection, and there is no tunnel for it", e->proto);
		return;
	}
	data.src = packet_selector(&e->src, e->proto, e->sport);
	data.dst = packet_selector(&e->dst, e->proto, e->dport);
	charon->kernel->acquire(charon->kernel, e->reqid, &data);
	data.src->destroy(data.src);
	data.dst->destroy(data.dst);
}

static void take_hello(private_plane_t *this, const struct pk_sadb_hello *hello)
{
	this->mutex->lock(this->mutex);
	this->fresh = this->epoch != hello->epoch;
	this->epoch = hello->epoch;
	this->stats.connected = TRUE;
	this->stats.connections++;
	this->stats.epoch = hello->epoch;
	this->stats.nb_sas_max = hello->nb_sas_max;
	snprintf(this->stats.instance, sizeof(this->stats.instance), "%s", hello->instance);
	this->mutex->unlock(this->mutex);
	DBG1(DBG_KNL, "picketd \"%s\" is there: room for %u SAs%s", hello->instance,
		 hello->nb_sas_max, this->fresh ? ", none of them ours yet" : "");
	array_destroy(this->greeting);
	this->greeting = array_create(sizeof(struct pk_sadb_local), 0);
	if (this->fresh)
	{	/* what another key maker has left behind is nobody's any more */
		struct pk_sadb m;

		pk_sadb_init(&m, PK_SADB_FLUSH, 0);
		m.flush.what = PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES;
		write_message(this, &m, chunk_empty, TRUE);
	}
}

/**
 * All addresses are there: they replace those of the connection before as a whole, or an IKE SA might be moved from
 * one that is only yet to come.
 */
static void end_greeting(private_plane_t *this)
{
	array_t *locals = this->greeting, *old;
	struct pk_sadb_local local;
	bool news;
	int i;

	if (!locals)
	{
		return;
	}
	this->greeting = NULL;
	this->mutex->lock(this->mutex);
	old = this->locals;
	news = array_count(old) != array_count(locals);
	for (i = 0; i < array_count(locals); i++)
	{
		array_get(locals, i, &local);
		news = put_local(old, &local) || news;
	}
	this->locals = locals;
	this->mutex->unlock(this->mutex);
	array_destroy(old);
	if (news)
	{
		charon->kernel->roam(charon->kernel, TRUE);
	}
	if (this->listener)
	{
		this->listener->up(this->listener, this->fresh);
	}
}

static void take_local(private_plane_t *this, const struct pk_sadb_local *local)
{
	bool news;

	if (this->greeting)
	{
		put_local(this->greeting, local);
		return;
	}
	this->mutex->lock(this->mutex);
	news = put_local(this->locals, local);
	this->mutex->unlock(this->mutex);
	if (news)
	{
		charon->kernel->roam(charon->kernel, TRUE);
	}
}

/**
 * Handle a message that is well-formed.  Returns FALSE if it makes no sense from picketd.
 */
static bool take(private_plane_t *this, const struct pk_sadb *m, chunk_t more)
{
	if (m->h.type != PK_SADB_LOCAL)
	{
		end_greeting(this);
	}
	switch (m->h.type)
	{
		case PK_SADB_HELLO:
			take_hello(this, &m->hello);
			return TRUE;
		case PK_SADB_LOCAL:
			take_local(this, &m->local);
			return TRUE;
		case PK_SADB_ANSWER:
			this->mutex->lock(this->mutex);
			take_answer(this, m);
			this->mutex->unlock(this->mutex);
			return TRUE;
		case PK_SADB_IKE:
			this->mutex->lock(this->mutex);
			take_packet(this, m, more);
			this->mutex->unlock(this->mutex);
			return TRUE;
		case PK_SADB_EXPIRE:
			take_expire(&m->expire);
			return TRUE;
		case PK_SADB_MAPPING:
			take_mapping(&m->mapping);
			return TRUE;
		case PK_SADB_ACQUIRE:
			take_acquire(&m->acquire);
			return TRUE;
		case PK_SADB_BAD_SPI:
			/* RFC 7296 section 1.5 lets us tell the sender, unprotected, which would make us an
			 * amplifier; a peer that has lost its mind finds out by its own liveness checks */
			DBG2(DBG_KNL, "ESP for SPI %08x, which is not there", m->bad_spi.id.spi);
			return TRUE;
		default:
			return FALSE;
	}
}

/* ---- the connection ---------------------------------------------------------------------------------- */

static void hang_up(private_plane_t *this)
{
	enumerator_t *enumerator;
	question_t *q;

	this->writing->lock(this->writing);
	this->mutex->lock(this->mutex);
	if (this->fd != -1)
	{
		close(this->fd);
		this->fd = -1;
		this->stats.connected = FALSE;
	}
	enumerator = this->questions->create_enumerator(this->questions);
	while (enumerator->enumerate(enumerator, &q))
	{
		if (!q->done)
		{
			q->answer.error = -ENOTCONN;
			q->done = TRUE;
			q->condvar->signal(q->condvar);
		}
	}
	enumerator->destroy(enumerator);
	this->mutex->unlock(this->mutex);
	this->writing->unlock(this->writing);
}

static bool dial(private_plane_t *this)
{
	struct pk_sadb m;
	int fd, buffer = BUFFER;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd == -1)
	{
		return FALSE;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	if (connect(fd, (struct sockaddr*)&this->addr, sizeof(this->addr)) != 0)
	{
		close(fd);
		return FALSE;
	}
	this->mutex->lock(this->mutex);
	this->fd = fd;
	this->mutex->unlock(this->mutex);

	pk_sadb_init(&m, PK_SADB_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "%s", this->program);
	m.hello.epoch = this->our_epoch;
	m.hello.pid = getpid();
	return write_message(this, &m, chunk_empty, TRUE);
}

/**
 * Read until the connection ends
 */
static void serve(private_plane_t *this)
{
	struct {
		struct pk_sadb m;
		uint8_t more[PK_SADB_IKE_MAX];
	} in;
	struct pollfd pfd[] = {
		{ .fd = this->fd, .events = POLLIN },
		{ .fd = this->wake, .events = POLLIN },
	};
	struct pk_diag diag;
	ssize_t n;

	while (TRUE)
	{
		n = poll(pfd, countof(pfd), this->greeting ? LOCALS_MS : -1);
		if (n == -1 && errno != EINTR)
		{
			return;
		}
		if (n == 0)
		{
			end_greeting(this);
		}
		if (pfd[1].revents)
		{
			return;
		}
		n = recv(this->fd, &in, sizeof(in), MSG_DONTWAIT | MSG_TRUNC);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
		{
			continue;
		}
		if (n <= 0)
		{
			DBG1(DBG_KNL, "connection to picketd ended: %s",
				 n == 0 ? "closed by picketd" : strerror(errno));
			return;
		}
		if (n > (ssize_t)sizeof(in) || pk_sadb_check(&in.m, n, &diag) < 0 ||
			!take(this, &in.m, chunk_create(in.more, n - sizeof(in.m))))
		{
			this->mutex->lock(this->mutex);
			this->stats.malformed++;
			this->mutex->unlock(this->mutex);
			DBG1(DBG_KNL, "connection to picketd ended: it does not speak our protocol");
			return;
		}
	}
}

static void *read_socket(private_plane_t *this)
{
	struct pollfd pfd = { .fd = this->wake, .events = POLLIN };
	bool said = FALSE;

	thread_cancelability(FALSE);
	do
	{
		if (dial(this))
		{
			said = FALSE;
			serve(this);
		}
		else if (!said)
		{
			DBG1(DBG_KNL, "picketd cannot be reached at %s: %s; trying on",
				 this->addr.sun_path, strerror(errno));
			said = TRUE;
		}
		hang_up(this);
	}
	while (poll(&pfd, 1, RETRY_MS) == 0);
	return NULL;
}

METHOD(plane_t, set_listener, void,
	private_plane_t *this, plane_listener_t *listener)
{
	this->listener = listener;
}

METHOD(plane_t, start, void,
	private_plane_t *this)
{
	this->reader = thread_create((thread_main_t)read_socket, this);
}

METHOD(plane_t, get_stats, void,
	private_plane_t *this, plane_stats_t *stats)
{
	this->mutex->lock(this->mutex);
	*stats = this->stats;
	this->mutex->unlock(this->mutex);
}

METHOD(plane_t, destroy, void,
	private_plane_t *this)
{
	eventfd_write(this->wake, 1);
	if (this->reader)
	{
		this->reader->join(this->reader);
	}
	hang_up(this);
	this->mutex->lock(this->mutex);
	this->ending = TRUE;
	this->arrived->broadcast(this->arrived);
	this->mutex->unlock(this->mutex);
	this->packets->destroy_offset(this->packets, offsetof(packet_t, destroy));
	this->questions->destroy(this->questions);
	this->arrived->destroy(this->arrived);
	this->mutex->destroy(this->mutex);
	this->writing->destroy(this->writing);
	close(this->wake);
	array_destroy(this->locals);
	array_destroy(this->greeting);
	free(this);
}

plane_t *plane_create(const char *path, const char *program)
{
	private_plane_t *this;

	INIT(this,
		.public = {
			.ask = _ask,
			.send_packet = _send_packet,
			.receive_packet = _receive_packet,
			.get_local = _get_local,
			.create_local_enumerator = _create_local_enumerator,
			.set_listener = _set_listener,
			.start = _start,
			.get_stats = _get_stats,
			.destroy = _destroy,
		},
		.addr.sun_family = AF_UNIX,
		.fd = -1,
		.wake = eventfd(0, EFD_CLOEXEC),
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.writing = mutex_create(MUTEX_TYPE_DEFAULT),
		.arrived = condvar_create(CONDVAR_TYPE_DEFAULT),
		.questions = linked_list_create(),
		.packets = linked_list_create(),
		.locals = array_create(sizeof(struct pk_sadb_local), 0),
	);
	snprintf(this->addr.sun_path, sizeof(this->addr.sun_path), "%s", path);
	snprintf(this->program, sizeof(this->program), "%s", program);
	if (getrandom(&this->our_epoch, sizeof(this->our_epoch), 0) != sizeof(this->our_epoch))
	{
		this->our_epoch = time(NULL);
	}
	return &this->public;
}
