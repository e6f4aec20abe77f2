/* Between load_thread.c, a thread with its loop and schedule, and load_connection.c, one of its connections.
 * Thread: its own, but for the fields that say otherwise. */
#pragma once

#include "client/check/checked_stream.h"
#include "client/bench/load.h"
#include "client/net/precise_timer.h"

#define LOAD_SCRATCH ((size_t)256 << 10)

/* What a server may take to close after we half-closed, and how long bytes behind a wrong one are waited for.
 */
#define LOAD_END_USEC (1 * USEC_PER_SEC)

enum load_state {
    LOAD_IDLE, /* no socket yet */
    LOAD_CONNECTING,
    LOAD_OPEN,
    LOAD_ENDING, /* all is answered and we have half-closed; the server's FIN is due */
    LOAD_WRONG,  /* a wrong byte came; what follows it is evidence */
    LOAD_CLOSED,
};

struct load_evidence {
    size_t length;
    uint8_t bytes[FAULT_EVIDENCE];
};

struct load_connection {
    struct event_source source;
    struct timer timer; /* CONNECTING, ENDING, WRONG: the end of patience */
    struct load_thread *thread;
    struct load_evidence *evidence;
    struct checked_stream stream;
    uint64_t number;        /* from 0, in the whole load */
    uint64_t due, answered; /* messages */
    uint64_t limit;         /* messages that it has to get answered */
    uint64_t began_nsec;    /* to connect, or the message under way when there is no rate */
    enum load_state state;
};

struct load_thread {
    struct load *load;
    struct event_loop loop;
    pthread_t thread;
    struct load_connection *connections;
    size_t count;
    size_t next_connect, connecting;
    size_t live;           /* have a connected socket */
    size_t working;        /* are LOAD_OPEN */
    struct timer retry;    /* a Unix socket whose backlog is full */
    struct timer patience; /* for the last answers */
    struct precise_timer schedule;
    uint64_t schedule_round;
    size_t schedule_next; /* the connection whose message is due next */
    bool running, stopping, measured;
    uint64_t run_nsec, run_cpu_nsec, run_queued_nsec;
    int time_fd; /* of the thread's counts, while it runs; negative without */
    unsigned faults_taken;
    int first_fd;
    struct load_result result;
    uint8_t scratch[LOAD_SCRATCH];

    /* Written by the thread, read by the coordinator. */
    atomic_bool settled, finished;
    _Atomic int error;
    _Atomic uint64_t messages, bytes, open, connected;
};

/* When a message of the schedule is due; the messages of all connections take turns. */
uint64_t load_due_nsec(const struct load *load, uint64_t message);

/* How many messages of the schedule are due by then. */
uint64_t load_due_until(const struct load *load, uint64_t until_nsec);

/* ---- load_connection.c ---- */

/* Begins to connect, or takes a connected socket. Returns 0 or -EAGAIN: try this one again a little later. */
int load_connection_start(struct load_connection *connection, int fd);

void load_connection_begin(struct load_connection *connection); /* LOAD_RUN */
void load_connection_stop(struct load_connection *connection);  /* LOAD_STOP */

/* One more message of the schedule. Returns whether it is sent; on a connection that is gone it has no
 * answer.
 */
bool load_connection_due(struct load_connection *connection);
void load_connection_give_up(struct load_connection *connection);

/* ---- load_thread.c ---- */

void load_thread_connected(struct load_thread *thread); /* or not; either way one connects less */
void load_thread_left(struct load_thread *thread);      /* a connection is not LOAD_OPEN any more */
void load_thread_closed(struct load_thread *thread);

/* Makes thread `index` of the load and its share of the connections, the first of which is `first_fd` unless
 * that is negative. Returns 0, or a negative errno with nothing to release and first_fd still the caller's.
 */
int load_thread_new(struct load *load, size_t index, int first_fd, struct load_thread **out);

/* How many of the first `due` messages of the schedule were for the thread to send, and it never came to
 * them. When it has finished. */
uint64_t load_thread_not_sent(const struct load_thread *thread, uint64_t due);

/* Waits for its end. */
void load_thread_free(struct load_thread *thread);
