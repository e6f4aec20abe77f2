#include "daemon/service_manager.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/datagram.h"
#include "base/escape.h"
#include "base/units.h"
#include "daemon/daemon_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

/* For a manager that is busy: what is said once is worth a moment, also when its queue is full. */
#define WAIT_MSEC 500

#define STATUS_INTERVAL_USEC USEC_PER_SEC

/* Asked for anew with each STATUS=; a loop that hangs is killed after so long, whatever drain_timeout is. */
#define EXTENSION_USEC (10 * USEC_PER_SEC)

/* Returns 0, -EAGAIN when the manager does not take it in this time, or another negative errno, which is
 * logged. */
static int send_state(struct service_manager *manager, const char *state, const int *fds, size_t count,
                      int wait_msec)
{
    if (!manager->socket)
        return 0;
    if (!datagram_is_writable(manager->socket, wait_msec))
        return -EAGAIN;
    pthread_mutex_lock(&manager->lock);
    int r = sd_pid_notify_with_fds(0, 0, state, fds, (unsigned)count);
    if ((r == -EMFILE || r == -ENFILE) && manager->reserve_fd >= 0) {
        fd_close(&manager->reserve_fd);
        r = sd_pid_notify_with_fds(0, 0, state, fds, (unsigned)count);
    }
    if (manager->reserve_fd < 0)
        manager->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* Once, not with every STATUS=. */
    if (r < 0 && r != manager->last_result)
        daemon_log_cannot_notify(-r);
    manager->last_result = r;
    pthread_mutex_unlock(&manager->lock);
    return r < 0 ? r : 0;
}

/* The service goes on when its manager does not hear it; a start that systemd waits for in vain shows there
 * as well. Returns whether it was said, or cannot be. */
static bool notify(struct service_manager *manager, const char *state, int wait_msec)
{
    return send_state(manager, state, NULL, 0, wait_msec) != -EAGAIN;
}

static void notify_status(struct service_manager *manager, const char *head, const char *status,
                          int wait_msec)
{
    char state[64 + SERVICE_MANAGER_STATUS_SIZE];
    size_t size = strlen(head) + SERVICE_MANAGER_STATUS_SIZE;
    if (snprintf(state, size, "%s%s", head, status) >= (int)size)
        escape_cut_short(state, size - 1);
    if (!notify(manager, state, wait_msec))
        return;
    manager->ready_is_due = false;
    snprintf(manager->last_status, sizeof manager->last_status, "%s", status);
}

/* The figures, how long a stop still waits, and why the last reload failed. */
static void format(const struct service_manager *manager, char status[static SERVICE_MANAGER_STATUS_SIZE])
{
    format_status(manager->acceptor, manager->pool, status, SERVICE_MANAGER_STATUS_SIZE);
    size_t length = strlen(status);
    uint64_t now = manager->loop->now;
    if (manager->accepting_until > now)
        length += (size_t)snprintf(status + length, SERVICE_MANAGER_STATUS_SIZE - length,
                                   "; stopping: new clients are accepted for %" PRIu64 " s more",
                                   (manager->accepting_until - now + USEC_PER_SEC - 1) / USEC_PER_SEC);
    if (manager->reload_failure[0] != '\0' &&
        snprintf(status + length, SERVICE_MANAGER_STATUS_SIZE - length, "; not reloaded: %s",
                 manager->reload_failure) >= (int)(SERVICE_MANAGER_STATUS_SIZE - length))
        escape_cut_short(status, SERVICE_MANAGER_STATUS_SIZE - 1);
}

static void notify_ready(struct service_manager *manager)
{
    char status[SERVICE_MANAGER_STATUS_SIZE];
    format(manager, status);
    manager->ready_is_due = true;
    notify_status(manager, "READY=1\nSTATUS=", status, WAIT_MSEC);
}

void service_manager_extend(struct service_manager *manager, uint64_t usec)
{
    char state[64];
    snprintf(state, sizeof state, "EXTEND_TIMEOUT_USEC=%" PRIu64, usec + EXTENSION_USEC);
    notify(manager, state, 0);
}

static void on_timer(struct timer *timer)
{
    struct service_manager *manager = CONTAINER_OF(timer, struct service_manager, timer);
    char status[SERVICE_MANAGER_STATUS_SIZE];
    format(manager, status);
    if (strcmp(status, manager->last_status) != 0)
        notify_status(manager, manager->ready_is_due ? "READY=1\nSTATUS=" : "STATUS=", status, 0);
    if (manager->is_stopping)
        service_manager_extend(manager, 0);
    event_loop_arm(manager->loop, timer, manager->loop->now + STATUS_INTERVAL_USEC);
}

void service_manager_init(struct service_manager *manager)
{
    *manager = (struct service_manager){.socket = getenv("NOTIFY_SOCKET"), .reserve_fd = -1};
    pthread_mutex_init(&manager->lock, NULL);
    timer_init(&manager->timer, on_timer);
}

void service_manager_deinit(struct service_manager *manager)
{
    pthread_mutex_destroy(&manager->lock);
    fd_close(&manager->reserve_fd);
}

void service_manager_failed(struct service_manager *manager, int error, const char *why)
{
    char head[64];
    snprintf(head, sizeof head, "ERRNO=%d\nSTATUS=", error);
    notify_status(manager, head, why, WAIT_MSEC);
}

void service_manager_ready(struct service_manager *manager, struct event_loop *loop,
                           const struct acceptor *acceptor, const struct worker_pool *pool)
{
    manager->loop = loop;
    manager->acceptor = acceptor;
    manager->pool = pool;
    notify_ready(manager);
    if (manager->socket)
        event_loop_arm(loop, &manager->timer, clock_monotonic_usec() + STATUS_INTERVAL_USEC);
}

void service_manager_detach(struct service_manager *manager)
{
    timer_disarm(&manager->timer);
}

void service_manager_reloading(struct service_manager *manager)
{
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_usec());
    notify(manager, state, WAIT_MSEC);
}

void service_manager_reloaded(struct service_manager *manager, const char *failure)
{
    service_manager_not_applied(manager, failure);
    notify_ready(manager);
}

void service_manager_stopping(struct service_manager *manager, uint64_t accepting_until_usec)
{
    manager->accepting_until = accepting_until_usec;
    manager->is_stopping = true;
    manager->ready_is_due = false;
    notify(manager, "STOPPING=1", WAIT_MSEC);
    service_manager_extend(manager, 0);
}

void service_manager_not_applied(struct service_manager *manager, const char *failure)
{
    snprintf(manager->reload_failure, sizeof manager->reload_failure, "%s", failure);
}

bool service_manager_is_there(const struct service_manager *manager)
{
    return manager->socket;
}

size_t service_manager_store_room(const struct service_manager *manager)
{
    const char *room = manager->socket ? getenv("FDSTORE") : NULL;
    uint64_t count;
    return room && units_parse_number(room, SIZE_MAX, &count) == 0 ? (size_t)count : SIZE_MAX;
}

int service_manager_store(struct service_manager *manager, const char *name, const int *fds, size_t count)
{
    char state[128];
    /* FDPOLL=0: or the manager would give up what says that it has an error or a hang-up. */
    snprintf(state, sizeof state, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    return send_state(manager, state, fds, count, WAIT_MSEC);
}

int service_manager_unstore(struct service_manager *manager, const char *name)
{
    char state[128];
    snprintf(state, sizeof state, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    return send_state(manager, state, NULL, 0, WAIT_MSEC);
}

int service_manager_barrier(struct service_manager *manager, uint64_t timeout_usec)
{
    int r = manager->socket ? sd_notify_barrier(0, timeout_usec) : 0;
    return r < 0 ? r : 0;
}

bool service_manager_alive(struct service_manager *manager)
{
    return notify(manager, "WATCHDOG=1", 0);
}

void service_manager_stuck(struct service_manager *manager)
{
    notify(manager, "WATCHDOG=trigger", WAIT_MSEC);
}
