#include "ctl/pcapng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/wire.h"

#define INTERFACES_MAX 256

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_SIMPLE = 3,
	BLOCK_PACKET = 6,
	BLOCK_SECTION = 0x0a0d0d0a,
	OPTION_END = 0,
	OPTION_COMMENT = 1,
	OPTION_NAME = 2,
	OPTION_TSRESOL = 9,
	ORDER_MAGIC = 0x1a2b3c4d,
};

struct interface {
	char name[64];
	uint64_t units_per_s;
	uint32_t snaplen;
	uint16_t link_type;
};

struct ctl_capture {
	const uint8_t *map;
	size_t len;
	struct pk_wire at;
	const char *path;
	int swapped; /* numbers are not big-endian */
	int classic;
	int modified; /* classic, with eight bytes more in each record */
	uint64_t classic_unit_ns;
	unsigned int nb_interfaces;
	struct interface interface[INTERFACES_MAX];
};

static uint32_t
number32(const struct ctl_capture *c, struct pk_wire *w)
{
	return c->swapped ? pk_wire_le32(w) : pk_wire_be32(w);
}

static uint16_t
number16(const struct ctl_capture *c, struct pk_wire *w)
{
	return c->swapped ? pk_wire_le16(w) : pk_wire_be16(w);
}

static int
broken(const struct ctl_capture *c, const uint8_t *where, struct pk_diag *diag, const char *want)
{
	pk_diag_set(diag, "%s: byte %zu: want %s", c->path, (size_t)(where - c->map), want);
	return -EINVAL;
}

/* Link type and time unit of a classic file. */
static int
classic_header(struct ctl_capture *c, uint32_t magic, struct pk_diag *diag)
{
	c->classic = 1;
	c->swapped = magic == 0xd4c3b2a1 || magic == 0x4d3cb2a1 || magic == 0x34cdb2a1;
	c->modified = magic == 0xa1b2cd34 || magic == 0x34cdb2a1;
	c->classic_unit_ns = magic == 0xa1b23c4d || magic == 0x4d3cb2a1 ? 1 : 1000;
	pk_wire_skip(&c->at, 20);
	strcpy(c->interface[0].name, "inside0");
	if (!pk_wire_ok(&c->at))
		return broken(c, c->map, diag, "a whole pcap header");
	c->at.at -= 4;
	c->interface[0].link_type = (uint16_t)number32(c, &c->at);
	return 0;
}

int
ctl_capture_open(struct ctl_capture **out, const char *path, struct pk_diag *diag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	struct ctl_capture *c = calloc(1, sizeof(*c));
	struct stat st;
	uint32_t magic;
	void *map = MAP_FAILED;

	if (c == NULL || fd < 0 || fstat(fd, &st) < 0) {
		rc = c == NULL ? -ENOMEM : -errno;
	} else if (st.st_size < 24) {
		pk_diag_set(diag, "%s: too short for a capture; want pcapng or pcap", path);
		rc = -EINVAL;
	} else {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		rc = map == MAP_FAILED ? -errno : 0;
	}
	if (fd >= 0)
		close(fd);
	if (rc < 0) {
		if (rc != -EINVAL)
			pk_diag_set(diag, "%s: %s", path, strerror(-rc));
		free(c);
		return rc;
	}
	c->map = map;
	c->len = (size_t)st.st_size;
	c->path = path;
	c->at = pk_wire_from(c->map, c->len);
	magic = pk_wire_be32(&c->at);
	switch (magic) {
	case 0xa1b2c3d4:
	case 0xd4c3b2a1:
	case 0xa1b23c4d:
	case 0x4d3cb2a1:
	case 0xa1b2cd34:
	case 0x34cdb2a1:
		rc = classic_header(c, magic, diag);
		break;
	case BLOCK_SECTION:
		c->at = pk_wire_from(c->map, c->len);
		break;
	default:
		rc = broken(c, c->map, diag, "the magic number of pcapng or pcap");
	}
	if (rc < 0) {
		ctl_capture_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void
ctl_capture_close(struct ctl_capture *c)
{
	if (c == NULL)
		return;
	munmap((void *)(uintptr_t)c->map, c->len);
	free(c);
}

static int
read_interface(struct ctl_capture *c, struct pk_wire *body, struct pk_diag *diag)
{
	const uint8_t *start = body->at;
	struct interface *i = &c->interface[c->nb_interfaces];
	uint16_t link_type = number16(c, body);

	if (c->nb_interfaces == INTERFACES_MAX)
		return broken(c, start, diag, "at most 256 interfaces");
	i->link_type = link_type;
	pk_wire_skip(body, 2);
	i->snaplen = number32(c, body);
	i->units_per_s = 1000000;
	snprintf(i->name, sizeof(i->name), "%u", c->nb_interfaces);
	while (pk_wire_ok(body) && pk_wire_left(body) >= 4) {
		uint16_t code = number16(c, body), len = number16(c, body);
		const uint8_t *value = pk_wire_bytes(body, (len + 3u) & ~3u);

		if (code == OPTION_END || value == NULL)
			break;
		if (code == OPTION_NAME) {
			snprintf(i->name, sizeof(i->name), "%.*s", (int)PK_MIN(len, (uint16_t)63),
			    (const char *)value);
		} else if (code == OPTION_TSRESOL && len >= 1) {
			unsigned int power = value[0] & 0x7f;

			/* 2^-n or 10^-n seconds; what is finer than a nanosecond is not for us. */
			if (((value[0] & 0x80) != 0 && power > 30) ||
			    ((value[0] & 0x80) == 0 && power > 9))
				return broken(
				    c, value, diag, "a time resolution of a nanosecond or coarser");
			i->units_per_s = 1;
			for (unsigned int n = 0; n < power; n++)
				i->units_per_s *= (value[0] & 0x80) != 0 ? 2 : 10;
		}
	}
	if (!pk_wire_ok(body))
		return broken(c, start, diag, "a whole interface description");
	c->nb_interfaces++;
	return 0;
}

static int
next_classic(struct ctl_capture *c, struct ctl_packet *out, struct pk_diag *diag)
{
	const uint8_t *start = c->at.at;
	uint64_t seconds, fraction;

	if (pk_wire_left(&c->at) == 0)
		return 0;
	seconds = number32(c, &c->at);
	fraction = number32(c, &c->at);
	out->len = number32(c, &c->at);
	out->wire_len = number32(c, &c->at);
	if (c->modified)
		pk_wire_skip(&c->at, 8);
	out->bytes = pk_wire_bytes(&c->at, out->len);
	if (!pk_wire_ok(&c->at))
		return broken(c, start, diag, "a whole packet record");
	out->time_ns = seconds * PK_NS_PER_S + fraction * c->classic_unit_ns;
	out->interface = c->interface[0].name;
	out->link_type = c->interface[0].link_type;
	return 1;
}

static int
read_packet(
    struct ctl_capture *c, struct pk_wire *body, struct ctl_packet *out, struct pk_diag *diag)
{
	const uint8_t *start = body->at;
	uint32_t number = number32(c, body);
	uint64_t time = (uint64_t)number32(c, body) << 32;
	const struct interface *i = &c->interface[PK_MIN(number, (uint32_t)INTERFACES_MAX - 1)];

	time |= number32(c, body);
	out->len = number32(c, body);
	out->wire_len = number32(c, body);
	out->bytes = pk_wire_bytes(body, out->len);
	if (!pk_wire_ok(body) || number >= c->nb_interfaces)
		return broken(c, start, diag, "a whole packet of a known interface");
	out->interface = i->name;
	out->link_type = i->link_type;
	out->time_ns = time / i->units_per_s * PK_NS_PER_S +
	    time % i->units_per_s * PK_NS_PER_S / i->units_per_s;
	return 1;
}

int
ctl_capture_next(struct ctl_capture *c, struct ctl_packet *out, struct pk_diag *diag)
{
	if (c->classic)
		return next_classic(c, out, diag);
	while (pk_wire_left(&c->at) > 0) {
		const uint8_t *start = c->at.at;
		struct pk_wire peek = c->at, body;
		uint32_t type = pk_wire_be32(&peek), len;

		if (type == BLOCK_SECTION) { /* the same in either byte order */
			struct pk_wire magic = peek;

			pk_wire_skip(&magic, 4);
			c->swapped = pk_wire_be32(&magic) != ORDER_MAGIC;
			c->nb_interfaces = 0;
		} else if (c->swapped) {
			type = __builtin_bswap32(type);
		}
		len = number32(c, &peek);
		if (!pk_wire_ok(&peek) || len < 12 || len % 4 != 0 ||
		    pk_wire_bytes(&c->at, len) == NULL)
			return broken(c, start, diag, "a whole block");
		body = pk_wire_from(start + 8, len - 12);
		if (type == BLOCK_INTERFACE) {
			int rc = read_interface(c, &body, diag);

			if (rc < 0)
				return rc;
		} else if (type == BLOCK_PACKET) {
			return read_packet(c, &body, out, diag);
		} else if (type == BLOCK_SIMPLE) {
			return broken(
			    c, start, diag, "packets with times; simple packet blocks have none");
		}
	}
	return 0;
}

/* ---- writing ---- */

struct ctl_capture_writer {
	FILE *f;
};

struct option {
	uint16_t code, len;
	const void *value;
};

/* One block in our own byte order; `body` is padded, options follow it. */
static void
write_block(FILE *f, uint32_t type, const void *head, uint32_t head_len, const void *body,
    uint32_t body_len, const struct option *options, unsigned int n)
{
	static const uint8_t zero[4];
	uint32_t padding = (4 - body_len % 4) % 4, total = 12 + head_len + body_len + padding;

	for (unsigned int i = 0; i < n; i++)
		total += 4 + (options[i].len + 3u) / 4 * 4;
	total += n > 0 ? 4 : 0;
	fwrite(&type, 4, 1, f);
	fwrite(&total, 4, 1, f);
	fwrite(head, 1, head_len, f);
	fwrite(body, 1, body_len, f);
	fwrite(zero, 1, padding, f);
	for (unsigned int i = 0; i < n; i++) {
		fwrite(&options[i].code, 2, 1, f);
		fwrite(&options[i].len, 2, 1, f);
		fwrite(options[i].value, 1, options[i].len, f);
		fwrite(zero, 1, (4 - options[i].len % 4) % 4, f);
	}
	if (n > 0)
		fwrite(zero, 1, 4, f);
	fwrite(&total, 4, 1, f);
}

int
ctl_capture_create(struct ctl_capture_writer **out, const char *path, const char *const *names,
    unsigned int n, struct pk_diag *diag)
{
	static const struct {
		uint32_t magic;
		uint16_t major, minor;
		int64_t len;
	} section = { ORDER_MAGIC, 1, 0, -1 };
	static const struct {
		uint16_t type, zero;
		uint32_t snaplen;
	} interface = { CTL_LINK_ETHERNET, 0, 0 };
	static const uint8_t nanoseconds = 9;
	struct ctl_capture_writer *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -ENOMEM;
	w->f = fopen(path, "we");
	if (w->f == NULL) {
		int rc = -errno;

		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		free(w);
		return rc;
	}
	write_block(w->f, BLOCK_SECTION, &section, sizeof(section), NULL, 0, NULL, 0);
	for (unsigned int i = 0; i < n; i++) {
		struct option options[] = { { OPTION_NAME, (uint16_t)strlen(names[i]), names[i] },
			{ OPTION_TSRESOL, 1, &nanoseconds } };

		write_block(
		    w->f, BLOCK_INTERFACE, &interface, sizeof(interface), NULL, 0, options, 2);
	}
	*out = w;
	return 0;
}

void
ctl_capture_write(struct ctl_capture_writer *w, unsigned int i, uint64_t time_ns, const void *bytes,
    uint32_t len, uint32_t wire_len, const char *comment)
{
	struct {
		uint32_t interface, time_high, time_low, len, wire_len;
	} head = { i, (uint32_t)(time_ns >> 32), (uint32_t)time_ns, len, wire_len };
	struct option option = { OPTION_COMMENT, (uint16_t)(comment != NULL ? strlen(comment) : 0),
		comment };

	write_block(w->f, BLOCK_PACKET, &head, sizeof(head), bytes, len, &option, comment != NULL);
}

int
ctl_capture_finish(struct ctl_capture_writer *w)
{
	int rc = ferror(w->f) != 0 ? -EIO : 0;

	if (fclose(w->f) != 0)
		rc = -EIO;
	free(w);
	return rc;
}
