/* What has become of a load: of one thread's share, or of all. */
#pragma once

#include "client/check/diagnosis.h"
#include "client/report/histogram.h"

#define LOAD_FAULTS 8 /* told in full by each thread; further ones are only counted */

struct load_fault {
    uint64_t connection;
    struct fault fault;
};

struct load_result {
    uint64_t messages, bytes; /* answered, every byte right */
    uint64_t unanswered;      /* messages begun and not answered, but for those after a wrong byte; with a
                                 rate also those that were due on a connection that was gone */
    uint64_t unsent;          /* with a rate: due, but the client could not keep up; in no histogram */
    uint64_t connected, unconnected;
    uint64_t broken;  /* connections that the server ended or reset */
    uint64_t wrong;   /* connections given up for a wrong byte */
    uint64_t unended; /* not closed by the server after we had half-closed; no mistake in itself */
    int connect_error, break_error; /* the first errno of each; a plain FIN, in a greeting or later, is 0 */
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

/* load_result.connect_error in words. */
const char *load_connect_reason(int error);

/* Adds a thread's result to that of all. */
void load_result_add(struct load_result *into, const struct load_result *from);
