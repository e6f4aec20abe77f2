/* What the service manager is told in the course of time: the live figures, how a reload went, and that a
 * stop is under way. Main thread. */
#pragma once

#include "base/event_loop.h"
#include "daemon/notify.h"
#include "serve/acceptor.h"
#include "serve/worker_pool.h"

#include <stdbool.h>

struct manager {
    struct event_loop *loop;
    const struct acceptor *acceptor;
    const struct worker_pool *pool;
    struct timer timer;
    bool is_stopping;
    char trouble[NOTIFY_STATUS_SIZE]; /* why the last reload failed, shown until one succeeds; "" */
};

/* The three must outlive it. */
void manager_init(struct manager *manager, struct event_loop *loop, const struct acceptor *acceptor,
                  const struct worker_pool *pool);

/* The figures go out no more. */
void manager_deinit(struct manager *manager);

/* READY=1; from now on STATUS= is kept current. */
void manager_ready(struct manager *manager);

/* RELOADING=1, and READY=1 again when it is over. `failure` is one line, or "" when the new settings are in
 * force. */
void manager_reloading(struct manager *manager);
void manager_reloaded(struct manager *manager, const char *failure);

/* STOPPING=1, and more time as long as the loop turns: drain_timeout may be longer than the manager's
 * patience. */
void manager_stopping(struct manager *manager);
