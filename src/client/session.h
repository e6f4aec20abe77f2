/* What every mode begins with: addresses, Ctrl-C, stdout and, but for a chat, a connection. Main thread.
 *
 *     CLEANUP(session_close) struct session session;
 *     int status = session_connect(&session, options);
 *     if (status != 0)
 *         return status; */
#pragma once

#include "client/net/dial.h"
#include "client/options.h"
#include "client/report/output.h"

struct session {
    const struct client_options *options;
    struct source source;
    struct target target;
    int interrupt_fd; /* interrupt_open */
    struct output output;
    int fd; /* the connection, or -1; does not block */
    uint64_t connect_nsec;
    char tried[DIAL_TRIED_SIZE]; /* other addresses, and what came of them; "": none was tried */
    struct endpoint endpoint;    /* the other side */
    char peer[ENDPOINT_TEXT_SIZE];
};

/* With nothing to close. */
#define SESSION_NONE ((struct session){.source = SOURCE_ANY, .interrupt_fd = -1, .fd = -1})

/* The parts of session_open: from where to connect, a host, and then signals and stdout. Each returns 0, or
 * an exit status after one line on stderr. */
int session_begin(struct session *session, const struct client_options *options);
int session_look_up(const struct session *session, const char *host, struct target *out);
int session_start(struct session *session);

/* Looks up the host, or the address of --listen, and makes all but the connection. Returns 0, or an exit
 * status after one line on stderr. Either way *session is to be closed. */
int session_open(struct session *session, const struct client_options *options);

/* The same, with a connection. EXIT_INTERRUPTED when the user interrupts it, of which nothing is told. */
int session_dial(struct session *session, const struct client_options *options);

/* The same, but does not return when the user interrupts it: nothing has been measured yet. */
int session_connect(struct session *session, const struct client_options *options);

/* Takes a connection with this endpoint. */
void session_set_peer(struct session *session, int fd, const struct endpoint *endpoint);

void session_close(struct session *session); /* also for CLEANUP() */

/* Raises the limit of descriptors (getrlimit(2)) as far as that goes. Returns how many connections it has
 * room for beside `own` descriptors and those that every process has; *limit is the one in force. */
uint64_t session_raise_descriptors(uint64_t own, uint64_t *limit);

/* "cannot WHAT: REASON" on stderr. Returns EXIT_SYSTEM. */
int session_fail(const char *what, int error);
