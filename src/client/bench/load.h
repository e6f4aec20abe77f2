/* The load of tcpecho --bench: threads, each an event loop that drives its share of the connections, checks
 * every byte and times every answer.
 *
 *     load_init -> (all threads settled) -> load_run -> (load_is_finished, or load_stop) -> load_deinit
 *
 * The coordinator, whose loop is woken whenever a thread has something to tell, calls these; nothing of a
 * thread's result is read before load_is_finished. */
#pragma once

#include "client/check/diagnosis.h"
#include "client/report/histogram.h"
#include "client/net/target.h"

#include "base/event_loop.h"

#include <stdatomic.h>

struct load_plan {
    struct endpoint endpoint;
    enum expectation expect;
    uint64_t run;  /* makes the bytes of this run its own */
    uint64_t size; /* bytes of a message */
    uint64_t connections;
    uint64_t threads;
    uint64_t count; /* messages of all connections together; 0: no limit */
    uint64_t rate;  /* messages a second of all together; 0: the next as soon as the answer is there */
    uint64_t duration_usec;      /* with `rate`, what is due after it is not sent */
    uint64_t connect_usec;       /* patience for a connection to be made */
    uint64_t first_connect_nsec; /* what the first one took, which the caller made */
    uint64_t wait_usec;          /* patience for the last answers */
};

#define LOAD_FAULTS 8 /* told in full by each thread; further ones are only counted */

struct load_fault {
    uint64_t connection;
    struct fault fault;
};

struct load_result {
    uint64_t messages, bytes; /* answered, every byte right */
    uint64_t unanswered;      /* messages begun and not answered, but for those behind a wrong byte; with a
                                 rate also those that were due on a connection that was gone */
    uint64_t unsent;          /* with a rate: due, but the client could not keep up; in no histogram */
    uint64_t connected, unconnected;
    uint64_t broken;  /* connections that the server ended or reset */
    uint64_t wrong;   /* connections given up for a wrong byte */
    uint64_t unended; /* not closed by the server after we had half-closed; no mistake in itself */
    int connect_error, break_error; /* the first errno of each; a plain FIN is 0 */
    struct load_fault faults[LOAD_FAULTS];
    unsigned fault_count;
    uint64_t last_answer_nsec;
    uint64_t over_nsec; /* when the last connection was done with, or the load was stopped */

    /* From the first message until the load is stopped or over, of this thread. */
    uint64_t wall_nsec, cpu_nsec;
    uint64_t queued_nsec; /* ready to run and without a CPU; 0 where the kernel does not say */
    double busy;          /* the busiest thread's share of its wall time: CPU and waiting for it */

    struct histogram latency;
    struct histogram connect; /* how long it took to be connected */
    struct histogram lag;     /* with a rate: how late the client itself sent a message */
};

enum load_phase {
    LOAD_CONNECT,
    LOAD_RUN,
    LOAD_STOP, /* nothing new; the answers under way */
};

struct load_thread;

struct load {
    struct load_plan plan;
    struct event_loop *coordinator;
    _Atomic unsigned phase;
    uint64_t start_nsec; /* set before LOAD_RUN */
    uint64_t stop_nsec;  /* UINT64_MAX: not before all is over */
    struct load_thread **threads;
    size_t thread_count;
};

/* Begins to connect. `first_fd` is the first connection, made already and taken in any case. Returns 0, or a
 * negative errno with nothing to release. */
int load_init(struct load *load, const struct load_plan *plan, struct event_loop *coordinator, int first_fd);

/* Every connection has been made or has failed; how many were made so far. */
bool load_is_settled(const struct load *load);
uint64_t load_connected(const struct load *load);

void load_run(struct load *load);
void load_stop(struct load *load);
bool load_is_finished(const struct load *load);

/* Answered so far. Any time. */
struct load_progress {
    uint64_t messages, bytes, connections; /* open ones */
};
struct load_progress load_progress(const struct load *load);

/* Adds up all threads. Returns 0, or a negative errno when a thread could not go on. */
int load_collect(const struct load *load, struct load_result *out);

/* Waits for the threads, which have finished or are about to. */
void load_deinit(struct load *load);
