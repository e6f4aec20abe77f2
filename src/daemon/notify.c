#include "daemon/notify.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/datagram.h"
#include "base/escape.h"
#include "base/log.h"
#include "daemon/daemon_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define READY "READY=1\nSTATUS="

/* For a manager that is busy: what is said once is worth a moment, also when its queue is full. */
#define WAIT_MSEC 500

static char last_status[NOTIFY_STATUS_SIZE];

/* The main thread's and the watchdog's messages, one at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int last_result; /* under the lock, like the next */

/* sd_notify(3) makes a socket each time. This is given up for it when no descriptors are left, since then
 * there is the most to tell. */
static int reserve_fd = -1;

bool notify_is_wanted(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

/* What cannot be said now without waiting is owed, and goes ahead of the next status. */
static bool ready_owed;

/* The service goes on without its manager's ear; a start that systemd waits for in vain shows there as well.
 * Returns whether it was said, or cannot be. */
static bool tell(const char *state, int wait_msec)
{
    const char *manager = getenv("NOTIFY_SOCKET");
    if (manager && !datagram_is_writable(manager, wait_msec))
        return false;
    pthread_mutex_lock(&lock);
    int r = sd_notify(0, state);
    if ((r == -EMFILE || r == -ENFILE) && reserve_fd >= 0) {
        fd_close(&reserve_fd);
        r = sd_notify(0, state);
    }
    if (reserve_fd < 0 && manager)
        reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* Once, not with every STATUS=. */
    if (r < 0 && r != last_result)
        daemon_log_cannot_notify(-r);
    last_result = r;
    pthread_mutex_unlock(&lock);
    return true;
}

static void tell_status(const char *head, const char *status, int wait_msec)
{
    char state[64 + NOTIFY_STATUS_SIZE];
    size_t size = strlen(head) + NOTIFY_STATUS_SIZE;
    if (snprintf(state, size, "%s%s", head, status) >= (int)size)
        escape_cut_short(state, size - 1);
    if (!tell(state, wait_msec))
        return;
    ready_owed = false;
    snprintf(last_status, sizeof last_status, "%s", status);
}

void notify_ready(const char *status)
{
    ready_owed = true;
    tell_status(READY, status, WAIT_MSEC);
}

void notify_status(const char *status)
{
    if (strncmp(status, last_status, sizeof last_status - 1) != 0)
        tell_status(ready_owed ? READY : "STATUS=", status, 0);
}

void notify_reloading(void)
{
    char state[64];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_usec());
    tell(state, WAIT_MSEC);
}

void notify_stopping(void)
{
    ready_owed = false;
    tell("STOPPING=1", WAIT_MSEC);
}

void notify_extend(uint64_t usec)
{
    char state[64];
    snprintf(state, sizeof state, "EXTEND_TIMEOUT_USEC=%" PRIu64, usec);
    tell(state, 0);
}

bool notify_alive(void)
{
    return tell("WATCHDOG=1", 0);
}

void notify_stuck(void)
{
    tell("WATCHDOG=trigger", WAIT_MSEC);
}

void notify_failed(int error, const char *status)
{
    char head[64];
    snprintf(head, sizeof head, "ERRNO=%d\nSTATUS=", error);
    tell_status(head, status, WAIT_MSEC);
}
