/* SIGUSR2: everything goes to a new process, and this one ends; or, when that cannot be, goes on.
 *
 *     through the manager   workers at rest -> state and sockets to its store -> exit -> the manager starts
 * the next in place              --test of the program's file -> workers at rest -> execve(2)
 *
 * Both return only when they have failed, after a message that says why. The workers may be at rest then:
 * worker_pool_start turns them again. The watchdog has to be off. Main thread. */
#pragma once

#include "daemon/handover_out.h"
#include "daemon/options.h"
#include "serve/acceptor.h"
#include "serve/worker_pool.h"

#include <stdbool.h>

/* The manager waits for the end of this process. Ends it with EXIT_STATUS_HANDED_OVER, or returns whether the
 * manager has the listeners for the next process. */
bool restart_through_manager(const struct options *options, const struct acceptor *acceptor,
                             struct worker_pool *pool, struct handover_kept *kept);

/* The process stays, and executes the program's file. */
void restart_in_place(const struct acceptor *acceptor, struct worker_pool *pool);
