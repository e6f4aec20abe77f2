/* The conversation with the service manager, sd_notify(3): that the daemon is ready, how it is doing, how a
 * reload went, that it stops. Without one ($NOTIFY_SOCKET is not set) nothing happens. What the manager
 * cannot take at once is worth half a second where it is said once, and is left out where it is said again
 * and again.
 *
 * Main thread, but for what is the watchdog's. */
#pragma once

#include "base/event_loop.h"
#include "serve/acceptor.h"
#include "serve/worker_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors in one message to the manager. */
#define SERVICE_MANAGER_STORE_MAX 253

/* Of STATUS=, with its NUL; a longer one ends in "...". systemd takes 4096 bytes at once. */
#define SERVICE_MANAGER_STATUS_SIZE 1536

struct service_manager {
    const char *socket; /* $NOTIFY_SOCKET; NULL: there is no manager */
    pthread_mutex_t lock;
    int last_result; /* of sd_notify(3), under the lock like the next */
    /* sd_notify(3) makes a socket each time. This is given up for it when no descriptors are left, since then
     * there is the most to tell; -1: not set aside */
    int reserve_fd;

    char last_status[SERVICE_MANAGER_STATUS_SIZE];
    char reload_failure[SERVICE_MANAGER_STATUS_SIZE]; /* of the last reload, shown until one succeeds; "" */
    bool ready_is_due; /* READY=1 could not be said and goes with the next status */
    bool is_stopping;
    uint64_t accepting_until; /* usec; while it is stopping */

    struct event_loop *loop;
    const struct acceptor *acceptor;
    const struct worker_pool *pool;
    struct timer timer;
};

void service_manager_init(struct service_manager *manager);
void service_manager_deinit(struct service_manager *manager); /* also for CLEANUP() */

/* ERRNO= and STATUS=: why the start failed, a positive errno and one line. */
void service_manager_failed(struct service_manager *manager, int error, const char *why);

/* READY=1: every listener and every worker is ready. From now on STATUS= is kept current, by the loop's
 * timer, until service_manager_detach; the three must live as long. */
void service_manager_ready(struct service_manager *manager, struct event_loop *loop,
                           const struct acceptor *acceptor, const struct worker_pool *pool);

/* Before service_manager_ready: why not all settings are in force, as after a reload that has failed. */
void service_manager_not_applied(struct service_manager *manager, const char *failure);
void service_manager_detach(struct service_manager *manager);

/* RELOADING=1, and READY=1 again when it is over. `failure` is one line, or "" when the new settings are in
 * force. */
void service_manager_reloading(struct service_manager *manager);
void service_manager_reloaded(struct service_manager *manager, const char *failure);

/* STOPPING=1, and more time as long as the loop turns: stop_delay and drain_timeout may be longer than the
 * manager's patience. Until `accepting_until_usec`, if that is still to come, STATUS= says that new clients
 * are accepted. */
void service_manager_stopping(struct service_manager *manager, uint64_t accepting_until_usec);

bool service_manager_is_there(const struct service_manager *manager);

/* EXTEND_TIMEOUT_USEC=: what is under way may take so long, and some seconds more. */
void service_manager_extend(struct service_manager *manager, uint64_t usec);

/* How many descriptors its store has room for, as far as it says ($FDSTORE; systemd 254 and later). */
size_t service_manager_store_room(const struct service_manager *manager);

/* FDSTORE=1: the manager holds copies, and passes them to the next process under this name
 * (sd_pid_notify_with_fds(3)); at most SERVICE_MANAGER_STORE_MAX. It says nothing of what it has no room for.
 * FDSTOREREMOVE=1: it gives up all of this name. Both return 0 or a negative errno. */
int service_manager_store(struct service_manager *manager, const char *name, const int *fds, size_t count);
int service_manager_unstore(struct service_manager *manager, const char *name);

/* BARRIER=1: waits until the manager has seen all that was said before. Returns 0 or a negative errno:
 * -ETIMEDOUT. */
int service_manager_barrier(struct service_manager *manager, uint64_t timeout_usec);

/* WATCHDOG=1. Returns false when the manager cannot take it now; try again. The watchdog's thread. */
bool service_manager_alive(struct service_manager *manager);

/* WATCHDOG=trigger: the manager is to act as if the watchdog's time had run out. The watchdog's thread. */
void service_manager_stuck(struct service_manager *manager);
