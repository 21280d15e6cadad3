#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dpi/heap.h"
#include "dpi/session.h"

/* Protocols of lines: SSH's banner (RFC 4253), SMTP (RFC 5321), FTP and its data sessions (RFC 959, 2428). */

#define LINE_MAX_BYTES 8192

struct text {
	struct dpi_tx *tx;
	struct dpi_pending side[2];
	bool quiet[2]; /* nothing of that direction is of interest any more */
	bool data;     /* SMTP: between DATA and the final dot */
	bool welcome;
	bool mail; /* SMTP: a message has begun */
	struct transfer *ftp;
};

/* What an FTP control session has announced. */
struct transfer {
	char last[32]; /* the command and its argument */
	char name[256];
	struct pk_addr data_addr;
	uint16_t data_port;
	bool data_active;
};

/* The next line without its end, or NULL; a line longer than LINE_MAX_BYTES comes in pieces. */
static const uint8_t *
line_of(struct dpi_pending *p, uint32_t *len, uint32_t *used)
{
	const uint8_t *end = p->len > 0 ? memchr(p->bytes, '\n', p->len) : NULL;

	if (end == NULL && p->len < LINE_MAX_BYTES)
		return NULL;
	*used = end != NULL ? (uint32_t)(end - p->bytes) + 1 : p->len;
	*len = end != NULL ? *used - 1 : p->len;
	if (*len > 0 && p->bytes[*len - 1] == '\r')
		(*len)--;
	return p->bytes;
}

static int
text_open(struct dpi_session *s)
{
	struct text *t = dpi_calloc(1, sizeof(*t));

	if (t == NULL || (t->tx = dpi_tx_new(s, s->layer)) == NULL) {
		dpi_free(t);
		return -1;
	}
	s->state = t;
	return 0;
}

/* Between two lines. */
static void
text_rest(struct dpi_session *s)
{
	struct text *t = s->state;

	for (unsigned int d = 0; d < 2; d++) {
		if (t->side[d].len == 0) {
			dpi_free(t->side[d].bytes);
			t->side[d] = (struct dpi_pending){ 0 };
		}
	}
}

static void
text_close(struct dpi_session *s)
{
	struct text *t = s->state;

	dpi_free(t->side[0].bytes);
	dpi_free(t->side[1].bytes);
	dpi_free(t->ftp);
	dpi_free(t);
}

/* ---- SSH ---- */

static void
ssh_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct text *t = s->state;
	struct dpi_pending *p = &t->side[dir];
	const uint8_t *line, *dash, *stop;
	uint32_t n, used;

	if (end) {
		dpi_tx_done(t->tx, dir);
		return;
	}
	if (t->quiet[dir] || !dpi_pending_add(p, bytes, len, 4 * LINE_MAX_BYTES))
		return;
	while (!t->quiet[dir] && (line = line_of(p, &n, &used)) != NULL) {
		if (n >= 4 && memcmp(line, "SSH-", 4) == 0) {
			dash = memchr(line + 4, '-', n - 4);
			if (dash == NULL) {
				dpi_tx_event(t->tx, DPI_EV_SSH_BANNER, dir);
			} else {
				dpi_tx_put(
				    t->tx, DPI_SSH_PROTO, dir, line + 4, (size_t)(dash - line - 4));
				stop = memchr(dash, ' ', (size_t)(line + n - dash));
				stop = stop != NULL ? stop : line + n;
				dpi_tx_put(t->tx, DPI_SSH_SOFTWARE, dir, dash + 1,
				    (size_t)(stop - dash - 1));
			}
			if (n > 255)
				dpi_tx_event(t->tx, DPI_EV_SSH_LONG, dir);
			t->quiet[dir] = true;
			s->finished = t->quiet[!dir];
		}
		dpi_pending_eat(p, used);
	}
}

const struct dpi_layer_ops dpi_ssh_ops = {
	.open = text_open, .bytes = ssh_bytes, .close = text_close, .rest = text_rest
};

/* ---- SMTP ---- */

/* The path of MAIL FROM:<x> and RCPT TO:<x>. */
static void
smtp_path(struct text *t, enum dpi_buf buf, const uint8_t *line, uint32_t n)
{
	const uint8_t *open = memchr(line, '<', n), *close;

	if (open == NULL)
		return;
	close = memchr(open, '>', (size_t)(line + n - open));
	if (close != NULL)
		dpi_tx_put(t->tx, buf, 0, open, (size_t)(close - open + 1));
}

static void
smtp_command(struct text *t, struct dpi_session *s, const uint8_t *line, uint32_t n)
{
	if (n >= 5 &&
	    (strncasecmp((const char *)line, "EHLO ", 5) == 0 ||
	        strncasecmp((const char *)line, "HELO ", 5) == 0)) {
		dpi_tx_put(t->tx, DPI_SMTP_HELO, 0, line + 5, n - 5);
	} else if (n >= 10 && strncasecmp((const char *)line, "MAIL FROM:", 10) == 0) {
		if (t->mail) { /* the next message */
			dpi_tx_done(t->tx, 0);
			dpi_tx_done(t->tx, 1);
			t->tx = dpi_tx_new(s, DPI_LAYER_SMTP);
			if (t->tx == NULL)
				return;
		}
		t->mail = true;
		smtp_path(t, DPI_SMTP_MAIL_FROM, line, n);
	} else if (n >= 8 && strncasecmp((const char *)line, "RCPT TO:", 8) == 0) {
		smtp_path(t, DPI_SMTP_RCPT_TO, line, n);
	} else if (n == 4 && strncasecmp((const char *)line, "DATA", 4) == 0) {
		t->data = true;
	} else if (n >= 8 && strncasecmp((const char *)line, "STARTTLS", 8) == 0) {
		t->quiet[0] = t->quiet[1] = true;
	}
}

static void
smtp_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct text *t = s->state;
	struct dpi_pending *p = &t->side[dir];
	const uint8_t *line;
	uint32_t n, used;

	if (end) {
		dpi_tx_done(t->tx, dir);
		return;
	}
	if (dir == 1 && !t->welcome) {
		t->welcome = true;
		if (len >= 3 && memcmp(bytes, "220", 3) != 0)
			dpi_tx_event(t->tx, DPI_EV_SMTP_NO_WELCOME, 1);
	}
	if (t->quiet[dir] || !dpi_pending_add(p, bytes, len, 1u << 18))
		return;
	while (t->tx != NULL && (line = line_of(p, &n, &used)) != NULL) {
		if (dir == 1) {
			if (n < 3 || line[0] < '0' || line[0] > '9')
				dpi_tx_event(t->tx, DPI_EV_SMTP_REPLY, 1);
			else if (line[0] != '3' && line[0] != '2' && t->data &&
			    memcmp(line, "354", 3) != 0)
				t->data = false;
		} else if (t->data) {
			const uint8_t *boundary = memmem(line, n, "boundary=", 9);

			t->data = !(n == 1 && line[0] == '.');
			/* RFC 2046, section 5.1.1: at most 70; nobody means more than 254. */
			if (boundary != NULL && line + n - boundary > 9 + 254)
				dpi_tx_event(t->tx, DPI_EV_SMTP_MIME_BOUNDARY, 0);
		} else {
			if (n > 510)
				dpi_tx_event(t->tx, DPI_EV_SMTP_COMMAND_LONG, 0);
			smtp_command(t, s, line, n);
		}
		dpi_pending_eat(p, used);
	}
}

const struct dpi_layer_ops dpi_smtp_ops = {
	.open = text_open, .bytes = smtp_bytes, .close = text_close, .rest = text_rest
};

/* ---- FTP ---- */

static void
expect(struct dpi_session *s, struct text *t)
{
	struct dpi_expect *e = s->expect;
	unsigned int i;

	if (e == NULL || t->ftp->data_port == 0 || t->ftp->last[0] == '\0')
		return;
	i = e->nb < DPI_EXPECT_MAX ? e->nb++ : 0;
	memset(&e->at[i], 0, sizeof(e->at[i]));
	e->at[i].addr = t->ftp->data_addr;
	e->at[i].port = t->ftp->data_port;
	e->at[i].to_client = t->ftp->data_active;
	snprintf((char *)e->at[i].what.command, sizeof(e->at[i].what.command), "%s", t->ftp->last);
	snprintf((char *)e->at[i].what.name, sizeof(e->at[i].what.name), "%s", t->ftp->name);
	t->ftp->data_port = 0;
}

/* "1,2,3,4,5,6" of PORT and of the answer to PASV. */
static bool
six_numbers(struct text *t, const char *at)
{
	unsigned int v[6];

	if (sscanf(at, "%u,%u,%u,%u,%u,%u", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]) != 6)
		return false;
	memset(&t->ftp->data_addr, 0, sizeof(t->ftp->data_addr));
	t->ftp->data_addr.family = 4;
	for (unsigned int i = 0; i < 4; i++)
		t->ftp->data_addr.bytes[i] = (uint8_t)v[i];
	t->ftp->data_port = (uint16_t)((v[4] & 255) << 8 | (v[5] & 255));
	return true;
}

static void
ftp_line(struct dpi_session *s, struct text *t, unsigned int dir, const char *line)
{
	unsigned int port;

	if (dir == 0) {
		if (strncasecmp(line, "PORT ", 5) == 0) {
			t->ftp->data_active = six_numbers(t, line + 5);
		} else if (strncasecmp(line, "EPRT ", 5) == 0) {
			const char *bar = strrchr(line, '|');

			while (bar != NULL && bar > line && bar[-1] != '|')
				bar--;
			if (bar != NULL && sscanf(bar, "%u", &port) == 1) {
				t->ftp->data_addr = s->addr[0];
				t->ftp->data_port = (uint16_t)port;
				t->ftp->data_active = true;
			}
		} else if (strncasecmp(line, "RETR ", 5) == 0 ||
		    strncasecmp(line, "STOR ", 5) == 0) {
			snprintf(t->ftp->last, sizeof(t->ftp->last), "%s",
			    strncasecmp(line, "RETR", 4) == 0 ? "retr" : "stor");
			snprintf(t->ftp->name, sizeof(t->ftp->name), "%.255s", line + 5);
			expect(s, t);
		}
	} else if (strncmp(line, "227", 3) == 0) {
		const char *open = strchr(line, '(');

		t->ftp->data_active = false;
		t->ftp->last[0] = '\0';
		if (open != NULL)
			six_numbers(t, open + 1);
	} else if (strncmp(line, "229", 3) == 0) {
		const char *bar = strstr(line, "|||");

		t->ftp->last[0] = '\0';
		if (bar != NULL && sscanf(bar + 3, "%u", &port) == 1) {
			t->ftp->data_addr = s->addr[1];
			t->ftp->data_port = (uint16_t)port;
			t->ftp->data_active = false;
		}
	}
}

static void
ftp_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct text *t = s->state;
	struct dpi_pending *p = &t->side[dir];
	const uint8_t *line;
	uint32_t n, used;
	char text[512];

	if (end) {
		dpi_tx_done(t->tx, dir);
		return;
	}
	if (!dpi_pending_add(p, bytes, len, 1u << 18))
		return;
	if (t->ftp == NULL && (t->ftp = dpi_calloc(1, sizeof(*t->ftp))) == NULL)
		return;
	while ((line = line_of(p, &n, &used)) != NULL) {
		snprintf(text, sizeof(text), "%.*s", (int)PK_MIN(n, 510u), (const char *)line);
		ftp_line(s, t, dir, text);
		dpi_pending_eat(p, used);
	}
}

const struct dpi_layer_ops dpi_ftp_ops = {
	.open = text_open, .bytes = ftp_bytes, .close = text_close, .rest = text_rest
};

static void
ftp_data_bytes(
    struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	const struct dpi_announced *what = s->announced;
	struct text *t = s->state;

	if (end) {
		dpi_tx_done(t->tx, dir);
		return;
	}
	for (unsigned int d = 0; d < 2 && what != NULL; d++)
		dpi_tx_put(t->tx, DPI_FTPDATA_COMMAND, d, what->command,
		    strlen((const char *)what->command));
	if (what != NULL && what->name[0] != '\0' && dpi_tx_slot(t->tx, DPI_FILE_NAME, dir) == NULL)
		dpi_tx_put(t->tx, DPI_FILE_NAME, dir, what->name, strlen((const char *)what->name));
	dpi_tx_grow(t->tx, DPI_FILE_DATA, dir, bytes, len, DPI_BODY_MAX);
}

const struct dpi_layer_ops dpi_ftp_data_ops = {
	.open = text_open, .bytes = ftp_data_bytes, .close = text_close, .rest = text_rest
};
