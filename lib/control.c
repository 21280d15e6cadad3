#include "lib/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "lib/local.h"

#define REQUESTS_MAX 64          /* at once; picketctl is for people and scripts */
#define OUT_LOW      (64 * 1024) /* bytes: ask for more rows below this */
#define ROW_MAX      (16 * 1024) /* bytes of one rowf() */

struct pk_control_request {
	LIST_ENTRY(pk_control_request) link;
	struct pk_control *control;
	struct bufferevent *bev; /* NULL until the first bytes are there */
	struct event *first;
	int fd; /* that came with the request, or -1 */
	void (*more)(struct pk_control_request *r, void *state);
	void (*gone)(void *state);
	void *state;
	unsigned int running : 1; /* a command is at work on it */
	unsigned int ended   : 1; /* the last line is written; close when it is out */
};

struct pk_control {
	struct event_base *base;
	struct pk_listener *listener;
	const struct pk_control_command *commands;
	void *arg;
	unsigned int nb_requests;
	LIST_HEAD(, pk_control_request) requests;
};

const char *
pk_json_string(const char *s, char *buf, size_t size)
{
	size_t at = 0;

	PK_ASSERT(size >= 3);
	buf[at++] = '"';
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (at + 8 > size)
			break;
		if (c == '"' || c == '\\') {
			buf[at++] = '\\';
			buf[at++] = (char)c;
		} else if (c < 0x20) {
			at += (size_t)snprintf(buf + at, size - at, "\\u%04x", c);
		} else {
			buf[at++] = (char)c;
		}
	}
	buf[at++] = '"';
	buf[at] = '\0';
	return buf;
}

static void
request_free(struct pk_control_request *r)
{
	LIST_REMOVE(r, link);
	r->control->nb_requests--;
	if (r->gone != NULL)
		r->gone(r->state);
	if (r->first != NULL) {
		close(event_get_fd(r->first));
		event_free(r->first);
	}
	if (r->bev != NULL)
		bufferevent_free(r->bev);
	if (r->fd >= 0)
		close(r->fd);
	free(r);
}

void
pk_control_row(struct pk_control_request *r, const char *json)
{
	struct evbuffer *out = bufferevent_get_output(r->bev);

	if (r->ended)
		return;
	evbuffer_add(out, json, strlen(json));
	evbuffer_add(out, "\n", 1);
}

void
pk_control_rowf(struct pk_control_request *r, const char *fmt, ...)
{
	char row[ROW_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(row, sizeof(row), fmt, ap);
	va_end(ap);
	pk_control_row(r, row);
}

void
pk_control_done(struct pk_control_request *r)
{
	pk_control_row(r, "{\"done\":0}");
	r->ended = 1;
}

void
pk_control_refuse(struct pk_control_request *r, const char *fmt, ...)
{
	char text[PK_DIAG_MAX], json[2 * PK_DIAG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pk_control_rowf(r, "{\"done\":1,\"error\":%s}", pk_json_string(text, json, sizeof(json)));
	r->ended = 1;
}

void
pk_control_stream(struct pk_control_request *r,
    void (*more)(struct pk_control_request *r, void *state), void (*gone)(void *state), void *state)
{
	r->more = more;
	r->gone = gone;
	r->state = state;
}

size_t
pk_control_backlog(const struct pk_control_request *r)
{
	return evbuffer_get_length(bufferevent_get_output(r->bev));
}

static const struct pk_control_command *
match(const struct pk_control_command *commands, int argc, char **argv, int *used)
{
	const struct pk_control_command *best = NULL;

	*used = 0;
	for (const struct pk_control_command *c = commands; c->words != NULL; c++) {
		const char *w = c->words;
		int n = 0;

		for (; n < argc && *w != '\0'; n++) {
			size_t len = strcspn(w, " ");

			if (strlen(argv[n]) != len || strncmp(argv[n], w, len) != 0)
				break;
			w += len + strspn(w + len, " ");
		}
		if (*w == '\0' && n > *used) {
			best = c;
			*used = n;
		}
	}
	return best;
}

static void
help(struct pk_control_request *r)
{
	char words[256], args[512], text[1024];

	for (const struct pk_control_command *c = r->control->commands; c->words != NULL; c++)
		pk_control_rowf(r, "{\"command\":%s,\"args\":%s,\"help\":%s}",
		    pk_json_string(c->words, words, sizeof(words)),
		    pk_json_string(c->args, args, sizeof(args)),
		    pk_json_string(c->help, text, sizeof(text)));
	pk_control_done(r);
}

static void
run(struct pk_control_request *r, char *line)
{
	char *argv[PK_CONTROL_WORDS_MAX + 1];
	const struct pk_control_command *c;
	int argc = 0, used;

	for (char *save = NULL, *w = strtok_r(line, " \t\r", &save); w != NULL;
	     w = strtok_r(NULL, " \t\r", &save)) {
		if (argc == PK_CONTROL_WORDS_MAX) {
			pk_control_refuse(r, "more than %d words", PK_CONTROL_WORDS_MAX);
			return;
		}
		argv[argc++] = w;
	}
	argv[argc] = NULL;
	if (argc == 1 && strcmp(argv[0], "help") == 0) {
		help(r);
		return;
	}
	c = match(r->control->commands, argc, argv, &used);
	if (c == NULL) {
		const char *names[128], *near;
		char said[128];
		size_t n = 0;

		for (c = r->control->commands; c->words != NULL && n < PK_COUNT(names); c++)
			names[n++] = c->words;
		snprintf(said, sizeof(said), "%s%s%s", argc > 0 ? argv[0] : "", argc > 1 ? " " : "",
		    argc > 1 ? argv[1] : "");
		near = pk_suggest(said, names, n);
		pk_control_refuse(r, "there is no command \"%s\"; %s%s%s", said,
		    near != NULL ? "did you mean \"" : "",
		    near != NULL ? near : "\"help\" lists them", near != NULL ? "\"?" : "");
		return;
	}
	c->run(r, argc - used, argv + used, r->control->arg);
}

/* Keep the output filled while a stream has more, and close after the last line is out. */
static void
pump(struct pk_control_request *r)
{
	while (!r->ended && r->running && r->more != NULL && pk_control_backlog(r) < OUT_LOW) {
		size_t before = pk_control_backlog(r);

		r->more(r, r->state);
		if (!r->ended && pk_control_backlog(r) == before)
			break; /* nothing to say now: the producer will call again by itself */
	}
	if (r->ended && pk_control_backlog(r) == 0)
		request_free(r);
}

void
pk_control_resume(struct pk_control_request *r)
{
	pump(r);
}

int
pk_control_fd(const struct pk_control_request *r)
{
	return r->fd;
}

static void
on_write(struct bufferevent *bev, void *arg)
{
	(void)bev;
	pump(arg);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	struct pk_control_request *r = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	char *line;

	if (r->running) {
		evbuffer_drain(
		    in, evbuffer_get_length(in)); /* one line is a request; the rest is noise */
		return;
	}
	line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF);
	if (line == NULL) {
		if (evbuffer_get_length(in) <= PK_CONTROL_LINE_MAX)
			return;
		r->running = 1;
		pk_control_refuse(
		    r, "a request is one line of at most %d bytes", PK_CONTROL_LINE_MAX);
	} else {
		r->running = 1;
		run(r, line);
		free(line);
	}
	pump(r);
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	struct pk_control_request *r = arg;

	(void)bev;
	/* A client that only shut down its sending side still wants the answer. */
	if ((what & BEV_EVENT_EOF) != 0 && r->running && (what & BEV_EVENT_WRITING) == 0) {
		char c;

		if (recv(bufferevent_getfd(bev), &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0 &&
		    !r->ended && r->more == NULL) {
			bufferevent_disable(bev, EV_READ);
			return;
		}
	}
	request_free(r);
}

/* A file comes with the first byte, and only recvmsg() sees it; the bytes are left for the bufferevent. */
static int
take_fd(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)) }; /* room for one */
	const struct cmsghdr *c;
	struct stat st;
	int fd = -1;

	if (recvmsg(socket, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -1;
	c = CMSG_FIRSTHDR(&msg);
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
on_first(evutil_socket_t fd, short what, void *arg)
{
	struct pk_control_request *r = arg;

	(void)what;
	r->fd = take_fd(fd);
	r->bev = bufferevent_socket_new(
	    r->control->base, fd, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (r->bev == NULL) {
		request_free(r);
		return;
	}
	event_free(r->first);
	r->first = NULL;
	bufferevent_setcb(r->bev, on_read, on_write, on_event, r);
	bufferevent_setwatermark(r->bev, EV_WRITE, OUT_LOW / 2, 0);
	bufferevent_enable(r->bev, EV_READ | EV_WRITE);
}

static void
on_accept(void *arg, int fd)
{
	struct pk_control *c = arg;
	struct pk_control_request *r;

	r = c->nb_requests < REQUESTS_MAX ? calloc(1, sizeof(*r)) : NULL;
	if (r == NULL) {
		close(fd);
		return;
	}
	r->control = c;
	r->fd = -1;
	r->first = event_new(c->base, fd, EV_READ, on_first, r);
	if (r->first == NULL || event_add(r->first, NULL) < 0) {
		if (r->first != NULL)
			event_free(r->first);
		close(fd);
		free(r);
		return;
	}
	LIST_INSERT_HEAD(&c->requests, r, link);
	c->nb_requests++;
}

int
pk_control_create(struct pk_control **out, struct event_base *base, const char *path,
    const struct pk_control_command *commands, void *arg, struct pk_diag *diag)
{
	struct pk_control *c = calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return -ENOMEM;
	c->base = base;
	c->commands = commands;
	c->arg = arg;
	LIST_INIT(&c->requests);
	rc = pk_listener_create(&c->listener, base, path, SOCK_STREAM, on_accept, c, diag);
	if (rc < 0) {
		free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void
pk_control_destroy(struct pk_control *c)
{
	if (c == NULL)
		return;
	while (!LIST_EMPTY(&c->requests))
		request_free(LIST_FIRST(&c->requests));
	pk_listener_destroy(c->listener);
	free(c);
}

/* ---- the client ---- */

static int
connect_to(const char *path, struct pk_diag *diag)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		pk_diag_set(diag, "%s: a socket's path has at most %zu bytes", path,
		    sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rc = -errno;
		pk_diag_set(diag, "%s: no daemon answers there: %s", path, strerror(-rc));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	return fd;
}

/* The closing line ends the exchange: 1 when it was one, with the status in *rc. */
static int
closing(const char *json, int *rc, struct pk_diag *diag)
{
	static const char error[] = "{\"done\":1,\"error\":\"";
	size_t at = 0;

	if (strcmp(json, "{\"done\":0}") == 0) {
		*rc = 0;
		return 1;
	}
	if (strncmp(json, error, sizeof(error) - 1) != 0)
		return 0;
	*rc = -EREMOTEIO;
	if (diag == NULL)
		return 1;
	for (const char *s = json + sizeof(error) - 1; *s != '\0' && at < sizeof(diag->text) - 1;
	     s++) {
		if (*s == '"')
			break;
		if (*s == '\\' && s[1] != '\0')
			s++;
		diag->text[at++] = *s;
	}
	diag->text[at] = '\0';
	return 1;
}

/* A line, with a file at its first byte. */
static int
send_line(int socket, const char *line, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov[2] = { { (void *)(uintptr_t)line, strlen(line) },
		{ (void *)(uintptr_t) "\n", 1 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int
pk_control_ask(const char *path, const char *line, int (*row)(void *arg, const char *json),
    void *arg, struct pk_diag *diag)
{
	return pk_control_ask_with(path, line, -1, row, arg, diag);
}

int
pk_control_ask_with(const char *path, const char *line, int with,
    int (*row)(void *arg, const char *json), void *arg, struct pk_diag *diag)
{
	int fd = connect_to(path, diag), rc = -EPROTO;
	size_t room = 0;
	char *text = NULL;
	FILE *f;

	if (fd < 0)
		return fd;
	f = fdopen(fd, "r+");
	if (f == NULL) {
		close(fd);
		return -ENOMEM;
	}
	pk_diag_set(diag, "%s: the daemon ended the connection", path);
	if (send_line(fd, line, with) < 0) {
		rc = -errno;
	} else {
		while (getline(&text, &room, f) > 0) {
			text[strcspn(text, "\n")] = '\0';
			if (closing(text, &rc, diag))
				break;
			if (row != NULL && row(arg, text) != 0) {
				rc = 0;
				break;
			}
		}
	}
	free(text);
	fclose(f);
	return rc;
}
