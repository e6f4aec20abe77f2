/* A client at its worker, from the queue to the closed descriptor.
 *
 *     SERVING ----> FINISHING ----> LINGERING ----> closed
 *        |  reason known   | all sent,       | the client's FIN,
 *        |                 | FIN sent        | or LINGER_USEC
 *        +---- reset, timeout, error --------+----------------> closed
 *
 * SERVING    reads only while nothing is unsent: a client that does not read is not read from, and costs at
 *            most one read of at most unsent_limit bytes.
 * FINISHING  answers nothing more, and sends what is unsent.
 * LINGERING  has half-closed, waits until the client has taken all, and throws away what still arrives:
 *            closing a socket with unread bytes, or one that more bytes reach, makes the kernel send RST,
 *            which may destroy the answer on its way (RFC 1122, 4.2.2.13). A client that has half-closed
 *            itself needs none of this and is closed at once.
 *
 * Of a listener that misbehaves, what the service says is held back, changed and cut on its way to the
 * socket, and the connection may end before its time: serve/connection_misbehaving.h. FINISHING lasts until
 * nothing is held any more, and LINGERING may last until the client leaves.
 *
 * Everything runs on the worker's thread and is its worker's. The whole state is the socket, a few numbers
 * and the unsent bytes, and no state is in the kernel but the socket's own. */
#pragma once

#include "base/event_loop.h"
#include "base/list.h"
#include "serve/new_client.h"
#include "serve/reason.h"
#include "serve/service.h"

#include <stdbool.h>

struct progress;
struct worker;

/* How long a connection whose answer has reached its client waits for more bytes to throw away, or the FIN.
 * */
#define LINGER_USEC (2 * USEC_PER_SEC)

/* The rest of an answer that the kernel did not take. */
struct unsent {
    size_t start, end;
    int64_t taken; /* bytes that the client had acknowledged at the last look; -1: nobody has looked */
    uint8_t bytes[];
};

/* About 180 bytes: this is what an idle client costs. */
struct connection {
    struct event_source source;
    struct timer timer;
    struct list link; /* in its worker's list */
    struct worker *worker;
    struct service_config *config;
    struct peer_network *network;
    uint64_t id;
    uint64_t bytes_in, bytes_out;
    uint64_t accepted_usec;
    uint64_t active_usec; /* when bytes last moved, or the lingering began */
    struct service_state state;
    struct unsent *unsent; /* NULL: nothing */
    struct address client;
    union {
        uint32_t due;            /* draining: bytes that had arrived and are still to be answered */
        uint32_t unacknowledged; /* after the last byte: what the client had yet to take, at the last look */
    };
    uint8_t reason;         /* enum reason; REASON_NONE: SERVING */
    uint8_t timeout;        /* enum timeout: what the timer was armed for */
    bool client_closed : 1; /* its FIN has been read */
    bool draining : 1;
    bool lingering : 1;
    bool in_bulk : 1;    /* the last read says that the next is better spliced than copied */
    bool misbehaves : 1; /* more follows in the same piece of memory */
};

/* Makes a connection of a client that came out of the queue and serves it for the first time, or goes on with
 * it; it may be closed already when this returns. What `new_client` owns is consumed always. */
void connection_open(struct worker *worker, const struct new_client *new_client);

/* The daemon stops: answers what has arrived by now, half-closes and lingers. May close and free the
 * connection. */
void connection_drain(struct connection *connection);

/* Writes down how far it has come. The unsent bytes and the references stay the connection's. */
void connection_save(const struct connection *connection, struct new_client *client,
                     struct progress *progress);

/* The other way: for a connection that is new. Returns 0 or -ENOMEM. */
int connection_restore(struct connection *connection, const struct progress *progress);

/* NULL: memory is short. */
struct unsent *unsent_new(const uint8_t *bytes, size_t length);

/* Closes and frees. `error` is a positive errno or 0, for the log. */
void connection_close(struct connection *connection, enum reason reason, int error);

/* Likewise, with a RST: what the kernel still holds for the client is gone (socket(7), SO_LINGER). */
void connection_reset(struct connection *connection, enum reason reason);

/* Closes and frees after recv(2) or send(2) has failed with `error`, a positive errno. */
void connection_fail(struct connection *connection, int error);

/* Sends bytes to a client for whom nothing is unsent, and keeps what the kernel does not take. Returns
 * whether the connection is still there. */
bool connection_send(struct connection *connection, const uint8_t *bytes, size_t length);

/* What the kernel knows of its socket: */

/* Bytes of the client that are still to be read. 0 when the kernel does not say. */
uint32_t connection_arrived(const struct connection *connection);

/* Bytes that the kernel holds for the client: sent and not acknowledged, or not yet sent (tcp(7), SIOCOUTQ).
 * 0 when it does not say. */
uint32_t connection_unacknowledged(const struct connection *connection);

/* Whether the client has yet to acknowledge bytes that the kernel took; false for a Unix socket. */
bool connection_left_unread(const struct connection *connection);

/* Whether a client that leaves for this reason has neither sent a byte nor taken one of the service's own. */
bool connection_is_probe(const struct connection *connection, enum reason reason);
