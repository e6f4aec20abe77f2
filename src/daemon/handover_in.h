/* What a process before has left (daemon/handover_out.h): found among the passed descriptors, read, and gone
 * on with.
 *
 *     handover_in_find -> handover_in_restore -> (workers start, listeners are set) -> handover_in_resume
 *
 * Restored listeners are in the acceptor under their old settings; the settings of this process come over
 * them as a reload does. Main thread. */
#pragma once

#include "daemon/daemon_log.h"
#include "daemon/passed_sockets.h"
#include "handover/state.h"
#include "serve/acceptor.h"
#include "serve/worker_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct handover_in {
    bool has_state; /* one came */
    struct saved_state state;
    int error; /* why it could not be read: a positive errno, or 0 */
    struct passed_sockets *passed;
    int *queue_ends; /* -1: taken; owned */
    size_t queue_count;
    struct taken_over taken;
};

/* Takes the state and the queue out of the passed descriptors, if they are there, and reads the state. What
 * cannot be read is logged, and closes the connections that come. Returns 0 or -ENOMEM. */
int handover_in_find(struct handover_in *in, struct passed_sockets *passed);

/* Takes the listeners that there is a record of out of the passed descriptors and gives them to the acceptor;
 * and the totals. Before the workers start. Returns 0 or a negative errno with a message. */
int handover_in_restore(struct handover_in *in, struct acceptor *acceptor, struct worker_pool *pool);

/* Gives the connections to the workers. Those of a listener that is gone end with what has arrived. Where
 * there is no room for all of them, all are drained, as many at a time as there is room for, until
 * `deadline_usec`; what is left then is lost. */
void handover_in_resume(struct handover_in *in, struct acceptor *acceptor, uint64_t room,
                        uint64_t deadline_usec);

/* How many there are to come. */
uint64_t handover_in_connections(const struct handover_in *in);

/* For a process that cannot start and is not started again: half-closes the connections that were left to it,
 * and says how many. */
void handover_in_give_up(struct handover_in *in, struct problems *problems);

/* The same for one that has not even received them. */
void handover_in_refuse(struct problems *problems);

void handover_in_clear(struct handover_in *in); /* also for CLEANUP() */
