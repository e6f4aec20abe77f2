/* What this process leaves for the next: its sockets, and how far each connection has come.
 *
 *     workers at rest -> handover_out_prepare -> to the service manager's store, or across execve(2)
 *                                (state, queue)      -> the next process: daemon/handover_in.h
 *
 * Until that has them nothing is lost: the descriptors stay this process's, and it may go on. Main thread. */
#pragma once

#include "daemon/service_manager.h"
#include "handover/descriptor_queue.h"
#include "handover/state.h"
#include "serve/acceptor.h"
#include "serve/worker_pool.h"

#include <stdbool.h>
#include <stddef.h>

/* The names of what is passed on, sd_listen_fds_with_names(3). */
#define HANDOVER_STATE "tcpechod-state"
#define HANDOVER_QUEUE "tcpechod-queue"
#define HANDOVER_LISTENER "tcpechod-listener"
#define HANDOVER_PROBE "tcpechod-probe"

#define HANDOVER_STORE_IS_FULL                                                                               \
    "the service manager's descriptor store is off or full (FileDescriptorStoreMax=)"

struct handover_out {
    int state_fd;
    struct descriptor_queue queue;
    size_t connections;
    const char *step; /* what was being done, for when it fails */
};

#define HANDOVER_OUT_NONE ((struct handover_out){.state_fd = -1, .queue = {.sender = -1}})

/* Writes the state, and with SAVED_HANDOVER queues the sockets of all connections; the workers are at rest
 * then. Returns 0 or a negative errno with out->step set; handover_out_clear in either case. */
int handover_out_prepare(struct handover_out *out, enum saved_kind kind, const struct acceptor *acceptor,
                         struct worker_pool *pool);

/* Puts all of it into the store, beside the listeners, which handover_keep has put there, and waits until it
 * is there. Returns 0 or a negative errno with out->step set: -ENOSPC: the store is off or full; -ETIMEDOUT:
 * the manager does not answer. */
int handover_out_store(struct handover_out *out, const struct acceptor *acceptor,
                       struct service_manager *manager);

void handover_out_clear(struct handover_out *out); /* also for CLEANUP() */

/* What is in the store all the time. */
struct handover_kept {
    struct service_manager *manager;
    bool has_listeners; /* or may have them, for the next process */
    /* An empty queue that went into the store last. The manager says nothing of what it has no room for, and
     * takes its time to close it: where this is held, so is what went before it. */
    struct descriptor_queue probe;
};

void handover_kept_init(struct handover_kept *kept, struct service_manager *manager);
void handover_kept_deinit(struct handover_kept *kept); /* leaves the store as it is */

/* Keeps the listeners and what they are served under in the store, also for a process that ends unasked, in
 * the place of what was there. Logs what fails. Without a manager nothing happens. */
void handover_keep(struct handover_kept *kept, enum saved_kind kind, const struct acceptor *acceptor,
                   struct worker_pool *pool);

/* Whether the store has them. */
bool handover_is_kept(struct handover_kept *kept);

/* Takes them out again: this process closes its listeners. */
void handover_forget(struct handover_kept *kept);
