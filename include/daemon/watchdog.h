/* systemd's watchdog (WatchdogSec=, sd_watchdog_enabled(3)): WATCHDOG=1 at half its time, and only while the
 * main thread and every worker turn their loops.
 *
 * Each time the workers are asked for a sign of life, which their loops give at their next turn, however
 * busy. A worker that has not given it for three quarters of the time is named, and the manager is told not
 * to wait any longer. If the main thread itself hangs, nothing is said, and the manager finds out by itself.
 * Main thread. */
#pragma once

#include "base/event_loop.h"
#include "serve/worker_pool.h"

#include <stdbool.h>
#include <stdint.h>

struct watchdog {
    struct event_loop *loop;
    struct worker_pool *pool;
    struct timer timer;
    uint64_t time_usec;
    uint64_t asked_usec; /* when the workers were asked last */
    bool is_late;        /* half the time has passed without an answer */
    bool is_told;        /* and so has another quarter, which was reported */
};

/* Does nothing when no watchdog waits for this process. Both must outlive it. */
void watchdog_start(struct watchdog *watchdog, struct event_loop *loop, struct worker_pool *pool);

/* Also for one that was zeroed and never started. */
void watchdog_stop(struct watchdog *watchdog);
