/* A client whose proxy has yet to say who it is: the stage before the connection, where a listener has
 * proxy_protocol.
 *
 *     queue --> header due --whole--> admission by the client in it --> connection
 *                  |    +--malformed, late, cut short----+--not welcome--> refused
 *                  +--left without a byte, as a check does--> closed
 *
 * Exactly the bytes of the header are received, so that the first byte of data is the connection's own. They
 * count as none of the client's.
 *
 * Everything runs on the worker's thread and is its worker's. */
#pragma once

#include "base/event_loop.h"
#include "base/list.h"
#include "serve/new_client.h"

#include <stddef.h>
#include <stdint.h>

struct progress;
struct worker;

/* One that waits costs this and at most twice what has come of its header: the greatest is of 65,551 bytes.
 */
struct proxy_arrival {
    struct event_source source;
    struct timer timer;
    struct list link; /* in its worker's list */
    struct worker *worker;
    struct new_client client;
    size_t have, size; /* of `bytes` */
    uint8_t *bytes;
};

/* Takes a client out of the queue, one that is new or that another process has waited for. Usually the header
 * is there at once, and the client a connection, or gone, when this returns. What `new_client` owns is
 * consumed always. */
void proxy_arrival_open(struct worker *worker, const struct new_client *new_client);

/* The daemon stops: looks once more, and closes whoever is still unknown. Frees it in either case. */
void proxy_arrival_drain(struct proxy_arrival *arrival);

/* Closes and frees it, as drained. */
void proxy_arrival_close(struct proxy_arrival *arrival);

/* Writes down what has come. The bytes and the references stay the arrival's. */
void proxy_arrival_save(const struct proxy_arrival *arrival, struct new_client *client,
                        struct progress *progress);
