#include "daemon/watchdog.h"

#include "base/clock.h"
#include "daemon/notify.h"
#include "daemon/reports.h"

#include <systemd/sd-daemon.h>

static void arm(struct watchdog *watchdog, uint64_t usec)
{
    event_loop_arm(watchdog->loop, &watchdog->timer, clock_monotonic_usec() + usec);
}

static void ask(struct watchdog *watchdog)
{
    watchdog->asked_usec = clock_monotonic_usec();
    worker_pool_ask(watchdog->pool);
}

static void on_timer(struct timer *timer)
{
    struct watchdog *watchdog = CONTAINER_OF(timer, struct watchdog, timer);
    const struct worker *stuck = worker_pool_stuck(watchdog->pool);
    if (!stuck && notify_alive()) {
        watchdog->is_late = watchdog->is_told = false;
        ask(watchdog);
        arm(watchdog, watchdog->time_usec / 2);
        return;
    }
    if (stuck && watchdog->is_late && !watchdog->is_told) {
        watchdog->is_told = true;
        report_stuck(stuck, clock_monotonic_usec() - watchdog->asked_usec);
        notify_stuck();
    }
    watchdog->is_late = stuck != NULL;
    arm(watchdog, watchdog->time_usec / 4);
}

void watchdog_start(struct watchdog *watchdog, struct event_loop *loop, struct worker_pool *pool)
{
    *watchdog = (struct watchdog){.loop = loop, .pool = pool};
    timer_init(&watchdog->timer, on_timer);
    int r = sd_watchdog_enabled(0, &watchdog->time_usec);
    if (r < 0)
        report_watchdog_off(-r);
    if (r <= 0)
        return;
    ask(watchdog);
    arm(watchdog, watchdog->time_usec / 2);
}

void watchdog_stop(struct watchdog *watchdog)
{
    if (watchdog->loop)
        timer_disarm(&watchdog->timer);
}
