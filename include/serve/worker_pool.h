/* The fixed pool of workers and the queue in front of it. It gives each client to the worker that holds the
 * fewest connections, so that they stay evenly spread however slowly they arrive.
 *
 * Main thread, all of it but worker_pool_ping and worker_pool_stuck. */
#pragma once

#include "serve/capacity_signal.h"
#include "serve/new_client.h"
#include "serve/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker_pool {
    struct worker *workers;
    unsigned count;   /* initialised */
    unsigned started; /* running */
    struct conn_queue *queue;
    uint64_t *assigned; /* for each worker, the clients it was ever given */
    bool *waiting;      /* for each worker, whether clients wait that it was not woken for */
};

/* Returns 0, or a negative errno with nothing to release. The last two must outlive the pool. */
int worker_pool_init(struct worker_pool *pool, unsigned workers, size_t queue_depth,
                     struct capacity_signal *capacity, struct admission *admission);

/* Starts the threads; all their loops are ready. Returns 0 or a negative errno (EAGAIN). Call
 * worker_pool_stop in either case. */
int worker_pool_start(struct worker_pool *pool);

/* How long each loop polls before it sleeps, base/event_loop.h. */
void worker_pool_busy_poll(struct worker_pool *pool, uint32_t usec);

/* Puts a client into the queue. Returns false when that is full; what `new_client` owns passes to the pool on
 * success only. The worker hears of it at worker_pool_flush. */
bool worker_pool_give(struct worker_pool *pool, const struct new_client *new_client);

/* Wakes each worker that was given clients, once for all of them. */
void worker_pool_flush(struct worker_pool *pool);

bool worker_pool_queue_is_full(const struct worker_pool *pool);

/* Given and not yet closed, those in the queue among them. */
uint64_t worker_pool_connections(const struct worker_pool *pool);
uint64_t worker_pool_connections_of(const struct worker_pool *pool, unsigned worker);

/* Each worker answers what has arrived and closes its connections; the acceptor's loop is woken as each is
 * done. */
void worker_pool_drain(struct worker_pool *pool);
bool worker_pool_is_drained(const struct worker_pool *pool);

/* Asks every worker for a sign of life: see event_loop_ping. Any thread, while the pool runs, like the next.
 */
void worker_pool_ping(struct worker_pool *pool);

/* The first worker that has not given it, or NULL. */
const struct worker *worker_pool_stuck(const struct worker_pool *pool);

/* The first failure that ended a worker's loop unasked: 0, or a negative errno and *worker set. */
int worker_pool_failure(const struct worker_pool *pool, unsigned *worker);

/* What all workers have done. */
struct totals worker_pool_totals(const struct worker_pool *pool);

/* Counts what the workers of a process before have done. Before worker_pool_start. */
void worker_pool_restore_totals(struct worker_pool *pool, const struct totals *totals);

/* Stops every loop with its connections intact, and joins the threads: worker_pool_start turns them again. */
void worker_pool_stop(struct worker_pool *pool);

/* worker_save for all of them, after worker_pool_stop. */
int worker_pool_save(struct worker_pool *pool, void *user,
                     int (*save)(void *user, const struct new_client *client,
                                 const struct progress *progress));

/* Closes what connections are left. After worker_pool_stop. */
void worker_pool_deinit(struct worker_pool *pool);
