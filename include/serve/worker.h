/* A thread, its event loop and the connections that it serves until they close.
 *
 * Clients come out of the worker's own queue when its loop is woken. The main thread asks for things
 * through `command`, and the worker sees it at its next turn. */
#pragma once

#include "base/event_loop.h"
#include "base/list.h"
#include "serve/capacity_signal.h"
#include "serve/conn_queue.h"
#include "serve/counters.h"
#include "serve/splice_pipe.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the main thread wants of a worker; each state is final but for the next. */
enum worker_command {
    WORKER_SERVES,
    WORKER_DRAINS, /* answers what has arrived, closes every connection, and wakes the capacity signal's loop
                    */
    WORKER_STOPS,  /* stops turning, with its connections intact, and ends its thread */
};

struct admission;
struct new_client;
struct progress;

struct worker {
    struct event_loop loop;
    pthread_t thread;
    sem_t started;
    unsigned index; /* its queue, from 0 */
    struct conn_queue *queue;
    struct capacity_signal *capacity;
    struct admission *admission;
    struct list arrivals; /* serve/proxy_arrival.h */
    struct list connections;
    uint8_t *scratch; /* every read lands here, and every answer is made here */
    size_t scratch_size;
    struct splice_pipe splice_pipe;
    struct counters counters;
    _Atomic int command; /* enum worker_command; written by the main thread */
    bool draining;       /* the worker has seen WORKER_DRAINS */
    atomic_bool drained; /* and has no connection left */
    /* 0, or the negative errno that ended the loop unasked; the acceptor's loop is woken then */
    _Atomic int failure;
    _Atomic pid_t tid; /* for a person with a debugger; 0 before the start */
};

/* Returns 0 or a negative errno with nothing to release. What it is given must outlive the worker. Main
 * thread, like the rest but worker_scratch. */
int worker_init(struct worker *worker, unsigned index, struct conn_queue *queue,
                struct capacity_signal *capacity, struct admission *admission);

/* Starts the thread, and waits until it turns; again after worker_join, with the connections that it has.
 * Returns 0 or a negative errno (EAGAIN, pthread_create(3)). */
int worker_start(struct worker *worker);

void worker_command(struct worker *worker, enum worker_command wanted);

/* Waits for the thread of a worker that was asked to rest. Its connections are the caller's now. */
void worker_join(struct worker *worker);

/* Tells of each connection, and of each client in the queue, how far it has come, until `save` returns a
 * negative errno. Nothing changes hands. After worker_join. Returns 0 or that errno. */
int worker_save(struct worker *worker, void *user,
                int (*save)(void *user, const struct new_client *client, const struct progress *progress));

/* Closes every connection that is left, with reason `drained`, and releases the worker. After worker_join,
 * or without a start. */
void worker_deinit(struct worker *worker);

/* The worker's scratch buffer, at least `size` bytes, or NULL when memory is short. The worker's thread. */
uint8_t *worker_scratch(struct worker *worker, size_t size);

/* Counts a connection of this worker as closed, and tells whoever waits for that. The worker's thread, after
 * the descriptor's close. */
void worker_count_closed(struct worker *worker, enum reason reason);

/* Closes a client that never became a connection, and counts and logs it: who has left by itself is a probe.
 * Consumes what `new_client` owns. */
void worker_drop(struct worker *worker, const struct new_client *new_client, enum reason reason, int error);

/* The same for one that is not let in. `why` says more than the reason; NULL: nothing does. */
void worker_refuse(struct worker *worker, const struct new_client *new_client, enum reason reason,
                   const char *why);
