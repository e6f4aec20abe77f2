/* One checked connection in an event loop: messages whose answers are compared byte by byte, and how it came
 * to its end. The load of --bench and both sides of --watch are made of these.
 *
 *     connection_init -> connection_start -> connected() -> received() ... -> ended()
 *                        connection_send ...    connection_finish
 *
 * One thread, that of its loop. */
#pragma once

#include "client/check/checked_stream.h"
#include "client/net/opening.h"
#include "client/net/target.h"

#include "base/event_loop.h"

#include <string.h>

enum connection_end {
    CONNECTION_SERVED, /* finished: everything was answered, and the server closed after us or was reset */
    CONNECTION_UNCONNECTED, /* with an errno */
    CONNECTION_TIMED_OUT,   /* not connected, or not at its end, in time */
    CONNECTION_BROKEN, /* with an errno: reset; 0: closed before it was finished and everything answered, or,
                          where !was_connected, before its greeting was whole */
    CONNECTION_WRONG,  /* with connection->fault and connection->wrong_bytes */
    CONNECTION_GIVEN_UP, /* by connection_give_up */
};
#define CONNECTION_ENDS (CONNECTION_GIVEN_UP + 1)

enum connection_state {
    CONNECTION_CLOSED,     /* no socket: not started, or ended */
    CONNECTION_CONNECTING, /* or connected, and waiting for the greeting */
    CONNECTION_OPEN,
    CONNECTION_JUDGING, /* a wrong byte came; what follows it is evidence */
};

/* CONNECTION_BROKEN in words. */
static inline const char *connection_break_reason(int error)
{
    return error == 0 ? "closed by the server" : strerror(error);
}

struct connection;

/* What its owner is told. `received` and `wrong` must not start, drop or give up the connection. */
struct connection_events {
    void (*connected)(struct connection *connection); /* NULL: need not be told */
    /* So many right bytes came, and so many messages are answered with them; either may be 0. NULL: the same.
     */
    void (*received)(struct connection *connection, size_t bytes, uint64_t messages);
    /* The first wrong byte came. Returns whether to wait for more, which says what happened to it: nothing
     * more is sent then, and ended() is called in a second at most. NULL: do not. */
    bool (*wrong)(struct connection *connection);
    /* The socket is closed, and the connection may be started again. `error` is 0 or an errno. */
    void (*ended)(struct connection *connection, enum connection_end end, int error);
};

/* Where bytes are received: one for all connections of a thread. */
#define CONNECTION_SCRATCH ((size_t)256 << 10)

struct connection_terms {
    const struct endpoint *endpoint; /* only looked at by connection_start, as are the next two */
    const struct source *source;     /* from where; NULL: anywhere */
    uint64_t number;                 /* takes one of several such addresses */
    struct pattern pattern;
    enum expectation expect;
    uint64_t size;         /* of a message */
    uint64_t connect_usec; /* patience until it is connected */
    uint64_t serve_usec;   /* and from then on until its end; USEC_NEVER: as long as it takes */
    bool resets; /* ends with a reset, which keeps no local port (TIME_WAIT), and not a half-close */
};

struct connection_evidence;

struct connection {
    struct event_source source;
    struct timer timer;
    struct event_loop *loop;
    const struct connection_events *events;
    uint8_t *scratch;
    struct connection_evidence *evidence; /* JUDGING */
    struct checked_stream stream;
    uint64_t size;     /* of a message */
    uint64_t answered; /* messages */
    uint64_t serve_usec;
    enum connection_state state;
    const struct opening *opening;
    struct opening_progress progress; /* CONNECTING */
    bool was_connected;               /* in `ended`, too */
    bool is_finishing, resets;
    struct fault fault;
    uint64_t wrong_bytes;
};

void connection_init(struct connection *connection, struct event_loop *loop, uint8_t *scratch,
                     const struct connection_events *events);

/* Begins to connect, or takes the connected `fd`, whose greeting is over, in any case (negative: none).
 * Returns 0; or a negative errno, after which nothing is told and it may be started again (-EAGAIN: a Unix
 * socket's backlog is full).
 */
int connection_start(struct connection *connection, const struct connection_terms *terms, int fd);

/* One more message; it leaves as soon as there is a connection. */
void connection_send(struct connection *connection);

/* Looks whether it is connected by now, in place of the loop: on this host a handshake takes no time. */
void connection_look(struct connection *connection);

/* No more messages: when all is answered, half-closes, and is served when the server has closed, too; or
 * resets it. */
void connection_finish(struct connection *connection);

/* Whether all that is due has come. */
static inline bool connection_is_answered(const struct connection *connection)
{
    return connection->answered > 0 && connection->stream.received == connection->stream.due;
}

/* Ends it with CONNECTION_TIMED_OUT after so long, in place of what the terms said. */
void connection_limit(struct connection *connection, uint64_t usec);

/* Closes it, told to nobody. */
void connection_drop(struct connection *connection);

/* Ends it now: with CONNECTION_WRONG where a wrong byte came, else with CONNECTION_GIVEN_UP and ECANCELED.
 * Does nothing when it is closed. */
void connection_give_up(struct connection *connection);
