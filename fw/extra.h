#pragma once

#include "fw/cookie.h"

/*
 * What few sessions have more of.  A session has no room for what only one in a thousand needs; so that is
 * kept here, found by the session's number, and the session has the flag FW_SESSION_EXTRA.  Such sessions do not
 * take the fast lane (fw/lane.h): each of their packets is seen by fw_extra_enter() and fw_extra_leave().
 *
 * The table is of fixed size and belongs to one lcore.
 */
enum fw_extra_what {
	FW_EXTRA_PROXY = 1 << 0, /* its handshake was done in the server's place: path_proxy.c */
	FW_EXTRA_FTP = 1 << 1,   /* a control connection: path_helper.c */
};

/*
 * A connection whose client was answered with a cookie.  The server, when asked, chose numbers of its own, so
 * from then on whatever passes is translated.  The session counts in the server's numbers.
 *
 *      client                          Picket                              server
 *      SYN  seq 100            ->      (cookie c, nothing kept)
 *      SYN-ACK seq c ack 101   <-      window 0: wait
 *      ACK  ack c+1            ->      cookie right: session           ->  SYN  seq 100
 *                                                                      <-  SYN-ACK seq 700 ack 101
 *      ACK  seq c+1, window    <-      delta = 700 - c                 ->  ACK  ack 701
 *      ACK  ack c+1+n          ->      + delta                         ->  ACK  ack 701+n
 *      data seq c+1            <-      - delta                         <-  data seq 701
 */
struct fw_proxy {
	uint32_t cookie;          /* what the client takes for the server's first number */
	uint32_t delta, ts_delta; /* server's number - client's */
	uint32_t ts_val, ts_ecr;  /* last of the client's; ts_ecr is ours, that it echoed */
	uint16_t mss, win;        /* of the client; the window as it stands in its ACK */
	int8_t scale;             /* of the client, or FW_COOKIE_NO_SCALE */
	uint8_t up_left, up_right, down_left,
	    down_right; /* shifts of windows, client to server and back */
	bool sack, timestamps;
	bool sack_off;         /* the server does not know SACK: the client's are taken out */
	bool waiting;          /* for the server's SYN-ACK */
	uint8_t tries;         /* SYNs sent */
	uint64_t again_ns;     /* when the next one is due */
	uint32_t older, newer; /* of those waiting */
};

/* How far one side of an FTP control connection has been read. */
struct fw_ftp_side {
	uint32_t next; /* sequence number that reading goes on at */
	bool known;    /* whether it is known */
	bool begins;   /* a line begins there */
};

struct fw_ftp {
	struct fw_ftp_side side[2]; /* client, server */
	bool asked;                 /* the client has asked the server for a port */
};

struct fw_extra {
	uint32_t session; /* index */
	uint32_t next;    /* in its chain, or in the list of free ones */
	uint8_t what;     /* enum fw_extra_what */
	struct fw_ftp ftp;
	struct fw_proxy proxy;
};

struct fw_extras {
	struct fw_extra *extra; /* [0] stands for none */
	uint32_t *head;
	uint32_t capacity, mask, nb, free, fresh;
	uint32_t oldest, newest; /* proxies that wait, in the order of again_ns */
};

/* Context: control thread.  Returns 0 or -ENOMEM. */
int fw_extras_init(struct fw_extras *t, uint32_t capacity);
void fw_extras_fini(struct fw_extras *t);

/* Of session i; NULL: there is none.  fw_extras_get() makes one then, and returns NULL when there is no room.
 * Borrowed until the session ends.  Context of all: the owning lcore. */
struct fw_extra *fw_extras_find(const struct fw_extras *t, uint32_t i);
struct fw_extra *fw_extras_get(struct fw_extras *t, uint32_t i);
void fw_extras_drop(struct fw_extras *t, uint32_t i);

/* Begin and cease to wait for a server. */
void fw_extras_wait(struct fw_extras *t, struct fw_extra *e, uint64_t again_ns);
void fw_extras_wait_no_more(struct fw_extras *t, struct fw_extra *e);
