#include "daemon/watchdog.h"

#include "base/clock.h"
#include "daemon/daemon_log.h"
#include "daemon/service_manager.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define NAME_SIZE 32

/* The main thread is asked first: it is the one that gives the others work. Returns whether one is stuck. */
static bool find_stuck(const struct watchdog *watchdog, char name[static NAME_SIZE], pid_t *thread)
{
    if (!event_loop_has_responded(watchdog->main)) {
        snprintf(name, NAME_SIZE, "the acceptor");
        *thread = getpid();
        return true;
    }
    const struct worker *worker = worker_pool_stuck(watchdog->pool);
    if (!worker)
        return false;
    snprintf(name, NAME_SIZE, "worker %u", worker->index + 1);
    *thread = atomic_load(&worker->tid);
    return true;
}

void watchdog_ask(struct watchdog *watchdog)
{
    watchdog->asked_usec = clock_monotonic_usec();
    event_loop_ping(watchdog->main);
    worker_pool_ping(watchdog->pool);
}

uint64_t watchdog_look(struct watchdog *watchdog)
{
    char name[NAME_SIZE];
    pid_t thread;
    bool is_stuck = find_stuck(watchdog, name, &thread);
    if (!is_stuck && service_manager_alive(watchdog->manager)) {
        watchdog->is_late = watchdog->is_told = false;
        watchdog_ask(watchdog);
        return watchdog->time_usec / 2;
    }
    if (is_stuck && watchdog->is_late && !watchdog->is_told) {
        watchdog->is_told = true;
        daemon_log_stuck(name, thread, clock_monotonic_usec() - watchdog->asked_usec);
        /* The manager ends the process as soon as it is told, and the log has a thread of its own: without a
         * moment for it nobody would read who was stuck. */
        clock_sleep(100 * USEC_PER_MSEC);
        service_manager_stuck(watchdog->manager);
    }
    watchdog->is_late = is_stuck;
    return watchdog->time_usec / 4;
}

/* Returns false when the watchdog is to stop. */
static bool sleep_for(struct watchdog *watchdog, uint64_t usec)
{
    const struct timespec until = clock_timespec(clock_monotonic_usec() + usec);
    pthread_mutex_lock(&watchdog->lock);
    while (!watchdog->is_stopping &&
           pthread_cond_clockwait(&watchdog->stop, &watchdog->lock, CLOCK_MONOTONIC, &until) != ETIMEDOUT)
        ;
    bool is_stopping = watchdog->is_stopping;
    pthread_mutex_unlock(&watchdog->lock);
    return !is_stopping;
}

static void *run(void *argument)
{
    struct watchdog *watchdog = argument;
    uint64_t next = watchdog->time_usec / 2;
    watchdog_ask(watchdog);
    while (sleep_for(watchdog, next))
        next = watchdog_look(watchdog);
    return NULL;
}

bool watchdog_init(struct watchdog *watchdog, struct event_loop *main, struct worker_pool *pool,
                   struct service_manager *manager)
{
    *watchdog = (struct watchdog){.main = main, .pool = pool, .manager = manager};
    int r = sd_watchdog_enabled(0, &watchdog->time_usec);
    if (r < 0)
        daemon_log_watchdog_off("cannot read $WATCHDOG_USEC and $WATCHDOG_PID", -r);
    return r > 0;
}

int watchdog_start(struct watchdog *watchdog)
{
    watchdog->is_stopping = watchdog->is_late = watchdog->is_told = false;
    pthread_mutex_init(&watchdog->lock, NULL);
    pthread_cond_init(&watchdog->stop, NULL);
    int r = -pthread_create(&watchdog->thread, NULL, run, watchdog);
    if (r < 0) {
        daemon_log_watchdog_off("cannot start its thread", -r);
        return r;
    }
    pthread_setname_np(watchdog->thread, "watchdog");
    watchdog->is_running = true;
    return 0;
}

void watchdog_stop(struct watchdog *watchdog)
{
    if (!watchdog->is_running)
        return;
    pthread_mutex_lock(&watchdog->lock);
    watchdog->is_stopping = true;
    pthread_cond_signal(&watchdog->stop);
    pthread_mutex_unlock(&watchdog->lock);
    pthread_join(watchdog->thread, NULL);
    pthread_cond_destroy(&watchdog->stop);
    pthread_mutex_destroy(&watchdog->lock);
    watchdog->is_running = false;
}
