/* systemd's watchdog (WatchdogSec=, sd_watchdog_enabled(3)): WATCHDOG=1 at half its time, and only while the
 * main thread and every worker turn their loops.
 *
 * A thread of its own asks the loops for a sign of life, which they give at their next turn, however busy.
 * One that has not given it for three quarters of the time is named, and the manager is told not to wait any
 * longer. */
#pragma once

#include "base/event_loop.h"
#include "daemon/service_manager.h"
#include "serve/worker_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct watchdog {
    struct event_loop *main;
    struct worker_pool *pool;
    struct service_manager *manager;
    uint64_t time_usec;

    /* The watchdog's thread, between watchdog_start and watchdog_stop. */
    uint64_t asked_usec; /* when the loops were asked last */
    bool is_late;        /* half the time has passed without an answer */
    bool is_told;        /* and so has another quarter, which was reported */

    pthread_t thread;
    bool is_running;
    bool is_stopping; /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t stop;
};

/* Returns whether a watchdog waits for this process. `main` is the main thread's loop. Main thread, like
 * watchdog_start and watchdog_stop; all three must outlive it. */
bool watchdog_init(struct watchdog *watchdog, struct event_loop *main, struct worker_pool *pool,
                   struct service_manager *manager);

/* Starts the thread, also again. Returns 0 or a negative errno (EAGAIN). */
int watchdog_start(struct watchdog *watchdog);

/* Also for one that was never started. */
void watchdog_stop(struct watchdog *watchdog);

/* Asks every loop for a sign of life. */
void watchdog_ask(struct watchdog *watchdog);

/* Looks who has given it, and says so to the manager. Returns the microseconds until the next look. */
uint64_t watchdog_look(struct watchdog *watchdog);
