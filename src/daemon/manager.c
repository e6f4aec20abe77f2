#include "daemon/manager.h"

#include "base/clock.h"
#include "daemon/daemon_log.h"
#include "daemon/notify.h"

#include <stdio.h>
#include <string.h>

#define STATUS_INTERVAL_USEC USEC_PER_SEC
/* The figures, and why the last reload failed. */
#define STATUS_SIZE (512 + NOTIFY_STATUS_SIZE)

/* Asked for anew with each STATUS=; a loop that hangs is killed after so long, whatever drain_timeout is. */
#define EXTENSION_USEC (10 * USEC_PER_SEC)

static void format(const struct manager *manager, char status[STATUS_SIZE])
{
    format_status(manager->acceptor, manager->pool, status, STATUS_SIZE);
    size_t length = strlen(status);
    if (manager->trouble[0] != '\0')
        snprintf(status + length, STATUS_SIZE - length, "; not reloaded: %s", manager->trouble);
}

static void on_timer(struct timer *timer)
{
    struct manager *manager = CONTAINER_OF(timer, struct manager, timer);
    char status[STATUS_SIZE];
    format(manager, status);
    notify_status(status);
    if (manager->is_stopping)
        notify_extend(EXTENSION_USEC);
    event_loop_arm(manager->loop, timer, manager->loop->now + STATUS_INTERVAL_USEC);
}

void manager_init(struct manager *manager, struct event_loop *loop, const struct acceptor *acceptor,
                  const struct worker_pool *pool)
{
    *manager = (struct manager){.loop = loop, .acceptor = acceptor, .pool = pool};
    timer_init(&manager->timer, on_timer);
}

void manager_deinit(struct manager *manager)
{
    timer_disarm(&manager->timer);
}

static void say_ready(struct manager *manager)
{
    char status[STATUS_SIZE];
    format(manager, status);
    notify_ready(status);
}

void manager_ready(struct manager *manager)
{
    say_ready(manager);
    if (notify_is_wanted())
        event_loop_arm(manager->loop, &manager->timer, clock_monotonic_usec() + STATUS_INTERVAL_USEC);
}

void manager_reloading(struct manager *manager)
{
    (void)manager;
    notify_reloading();
}

void manager_reloaded(struct manager *manager, const char *failure)
{
    snprintf(manager->trouble, sizeof manager->trouble, "%s", failure);
    say_ready(manager);
}

void manager_stopping(struct manager *manager)
{
    manager->is_stopping = true;
    notify_stopping();
    notify_extend(EXTENSION_USEC);
}
