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

#include "serve/connection_state.h"

struct progress;

/* How long a connection whose answer has reached its client waits for more bytes to throw away, or the FIN.
 * */
#define LINGER_USEC (2 * USEC_PER_SEC)

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

/* Closes and frees. `error` is a positive errno or 0, for the log. */
void connection_close(struct connection *connection, enum reason reason, int error);

/* Makes what its service says of it (service_describe). Same contract. */
size_t connection_describe(struct connection *connection, uint8_t out[static SERVICE_DESCRIPTION_SIZE]);
