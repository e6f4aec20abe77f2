/* tcpecho --bench --send and --receive: as many bytes as go one way, to discard or from chargen.
 *
 * Threads, each an event loop with its share of the connections. What they count is read by the coordinator
 * each second, and the rest when they have finished. */
#pragma once

#include "client/bench/load_result.h"
#include "client/bench/thread_cost.h"
#include "client/net/opening.h"
#include "client/session.h"

#include "base/event_loop.h"

#include <stdatomic.h>

struct transfer_plan {
    const struct session *session;
    uint64_t run_size; /* bytes at a time */
    uint64_t limit;    /* bytes of all connections together; 0: none */
    bool receives;
    uint64_t threads;
};

enum transfer_state {
    TRANSFER_CLOSED,
    TRANSFER_CONNECTING, /* or waiting for the greeting */
    TRANSFER_OPEN,
    TRANSFER_ENDING, /* we have half-closed, and the server is to do so, too */
};

struct transfer_connection {
    struct event_source source;
    struct transfer_thread *thread;
    enum transfer_state state;
    uint64_t number; /* from 0, of all */
    uint64_t bytes;  /* sent, or received and right */
    uint64_t limit;
    uint64_t began_nsec;
    struct opening_progress progress;
    size_t phase; /* of the pattern of chargen */
};

struct transfer_thread {
    const struct transfer_plan *plan;
    struct event_loop *coordinator;
    struct event_loop loop;
    pthread_t thread;
    struct transfer_connection *connections;
    size_t count, live;
    size_t loaded;         /* of those alive, not yet TRANSFER_ENDING */
    struct timer patience; /* to connect, and then with what is ending */
    struct thread_cost cost;
    struct load_result result;
    uint8_t *buffer;
    int first_fd;
    bool stopping;

    _Atomic bool stop; /* written by the coordinator, which wakes the loop */
    /* Written by the thread, read by the coordinator. */
    _Atomic bool finished;
    _Atomic int error;
    _Atomic uint64_t bytes, open;
};

/* Makes thread `index` and starts it; `first_fd` is its first connection, and taken, unless that is negative.
 * Returns 0, or a negative errno with nothing to release and first_fd still the caller's. */
int transfer_thread_new(const struct transfer_plan *plan, struct event_loop *coordinator, size_t index,
                        int first_fd, struct transfer_thread **out);

/* No more is sent or asked for. */
void transfer_thread_stop(struct transfer_thread *thread);

/* Waits for its end. */
void transfer_thread_free(struct transfer_thread *thread);
