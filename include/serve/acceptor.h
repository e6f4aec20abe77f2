/* Takes clients off the listening sockets, decides whether to admit them, and gives them to the pool.
 *
 *     listener --accept4--> acceptor --admitted--> worker_pool (queue) --> worker
 *                              +------refused----> closed, counted, logged
 *
 * Full, under overload = "wait": the acceptor stops polling its listeners, and the kernel's backlog holds the
 * clients; the capacity signal tells it when there is room. Under "refuse" it goes on accepting and closes
 * each client at once. It never polls or retries busily in either case.
 *
 * Main thread. The acceptor owns the descriptor from accept4(2) until it gives it away or closes it. */
#pragma once

#include "base/event_set.h"
#include "base/list.h"
#include "serve/accept_coalescing.h"
#include "serve/admission.h"
#include "serve/capacity_signal.h"
#include "serve/listener.h"
#include "serve/reason.h"
#include "serve/worker_pool.h"

#include <stdbool.h>
#include <stdint.h>

struct acceptor {
    struct event_loop *loop;
    struct event_set *set; /* the listeners' */
    struct worker_pool *pool;
    struct admission *admission;
    struct capacity_signal *capacity;
    struct list listeners;
    struct list retired;     /* between acceptor_retire and acceptor_close_retired */
    unsigned listener_count; /* of both */

    bool refuses;             /* overload = "refuse" */
    uint64_t max_connections; /* at once */
    enum reason max_reason;   /* what set that bound: REASON_MAX_CONNECTIONS or REASON_DESCRIPTOR_LIMIT */

    bool paused;                /* no listener is polled */
    struct timer retry;         /* after an error that only time mends */
    uint64_t same_stretch_usec; /* a pause before then is the same stretch of overload as the last one */
    int spare_fd; /* given up for a moment to accept and close a client when there are no descriptors */
    uint64_t last_id;
    struct accept_coalescing coalescing;

    uint64_t accepted;              /* admitted */
    uint64_t refused[REASON_COUNT]; /* closed at once */
    uint64_t waits[REASON_COUNT];   /* times that new clients had to wait */
};

/* Returns 0 or a negative errno with nothing to release. Everything it is given must outlive it; the set is
 * empty, polled, and the acceptor's alone. */
int acceptor_init(struct acceptor *acceptor, struct event_set *set, struct worker_pool *pool,
                  struct admission *admission, struct capacity_signal *capacity);

/* Before it only the queue's room counts. */
void acceptor_limit(struct acceptor *acceptor, bool refuses, uint64_t max_connections,
                    enum reason max_reason);

/* Starts to poll the listener, which has its configuration. Returns 0 with the listener owned by the
 * acceptor, or a negative errno with nothing changed. */
int acceptor_add(struct acceptor *acceptor, struct listener *listener);

/* No handshake begins on the listener any more. Follow it, and others, with acceptor_close_retired. */
void acceptor_retire(struct acceptor *acceptor, struct listener *listener);

/* Closes those listeners; waits milliseconds, once for all. Clients who are in a backlog are served, unless
 * its socket was passed: they stay there for whoever has it next. */
void acceptor_close_retired(struct acceptor *acceptor);

/* Polls the listeners again when there is room. Call when the capacity signal's loop was woken. */
void acceptor_resume(struct acceptor *acceptor);

/* Takes in a client whom a process before has admitted: counted with its source, given to a worker, never
 * refused. Waits for room in the queue. Consumes what `client` owns; its network is not set yet. Counts as
 * accepted there and not here. */
void acceptor_take_over(struct acceptor *acceptor, struct new_client *client);

/* Another process goes on with the listening sockets: they are closed here, as if passed. */
void acceptor_leave(struct acceptor *acceptor);

/* The daemon stops: every listener is retired and closed. */
void acceptor_stop(struct acceptor *acceptor);

void acceptor_deinit(struct acceptor *acceptor);
