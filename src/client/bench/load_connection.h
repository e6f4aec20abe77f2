/* One connection of a load: it sends its messages, and counts for its thread what becomes of them.
 *
 *     load_connection_start -> load_connection_go_on, or _send_scheduled ... -> its end -> load_thread_finish
 *
 * Thread: that of its load_thread, but for the fields that say otherwise. */
#pragma once

#include "client/bench/load_plan.h"
#include "client/bench/load_result.h"
#include "client/bench/thread_cost.h"
#include "client/net/connection.h"
#include "client/net/precise_timer.h"

#include <stdatomic.h>

#define LOAD_RETRY_USEC (20 * USEC_PER_MSEC)

enum load_phase {
    LOAD_CONNECT,
    LOAD_RUN,
    LOAD_STOP, /* nothing new; the answers under way */
};

/* What the coordinator tells its threads; each is woken after a change. */
struct load_control {
    struct load_plan plan;
    struct event_loop *coordinator; /* woken whenever a thread has something to tell */
    _Atomic unsigned phase;
    uint64_t start_nsec; /* set before LOAD_RUN */
    uint64_t stop_nsec;  /* UINT64_MAX: not before all is over */
};

enum load_thread_state {
    LOAD_THREAD_CONNECTING,
    LOAD_THREAD_SETTLED, /* each connection has been made or has failed */
    LOAD_THREAD_FINISHED,
};

struct load_connection {
    struct connection connection;
    uint64_t number;     /* from 0, in the whole load */
    uint64_t due;        /* messages */
    uint64_t limit;      /* messages that it has to get answered */
    uint64_t left;       /* messages, each on a further connection */
    uint64_t began_nsec; /* to connect, or the message under way when there is no rate */
    bool is_working;     /* open, and neither ending nor wrong */
    bool is_waiting;     /* to connect again a little later */
    bool is_told;        /* what was wrong with it is one of the faults that are told */
};

struct load_thread {
    const struct load_control *control;
    struct event_loop loop;
    pthread_t thread;
    struct load_connection *connections;
    size_t count;
    size_t next_connect, connecting;
    size_t live;           /* have a connected socket */
    size_t working;        /* is_working */
    struct timer retry;    /* a Unix socket whose backlog is full */
    struct timer again;    /* for those that are waiting to connect again */
    struct timer patience; /* for the last answers */
    struct precise_timer schedule;
    uint64_t schedule_round;
    size_t schedule_next; /* the connection whose message is due next */
    bool running, stopping, measured;
    struct thread_cost cost;
    unsigned faults_taken; /* of the result's, told already or still being looked at */
    int first_fd;
    struct load_result result;
    uint8_t scratch[CONNECTION_SCRATCH];

    /* Written by the thread, read by the coordinator. */
    _Atomic unsigned state; /* enum load_thread_state */
    _Atomic int error;
    _Atomic uint64_t messages, bytes, open, connected;
};

/* With nothing connected yet. */
void load_connection_init(struct load_connection *connection, struct load_thread *thread, uint64_t number);

/* Begins to connect, or takes the connected `fd`. Returns 0, also when it has failed, which is counted; or
 * -EAGAIN: try this one again a little later. Of a further connection it returns any errno. */
int load_connection_start(struct load_connection *connection, int fd);

/* Connects again for the next message, when that has failed a moment ago. */
void load_connection_try_again(struct load_connection *connection);

/* The next message, or the end. */
void load_connection_go_on(struct load_connection *connection);

/* One more message of the schedule. Returns whether it is sent; on a connection that is gone it has no
 * answer. */
bool load_connection_send_scheduled(struct load_connection *connection);

/* What the thread has taken of the CPUs is measured until here, the first time. */
void load_thread_measure(struct load_thread *thread);

/* No connection is left: the loop ends. */
void load_thread_finish(struct load_thread *thread);
