#include "daemon/notify.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/reports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define STATUS_SIZE 512

static char last_status[STATUS_SIZE];
static int last_result;

/* sd_notify(3) makes a socket each time. This is given up for it when no descriptors are left, since then
 * there is the most to tell. */
static int reserve_fd = -1;

bool notify_is_wanted(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

/* The service goes on without its manager's ear; a start that systemd waits for in vain shows there as well.
 * */
static void tell(const char *state)
{
    int r = sd_notify(0, state);
    if ((r == -EMFILE || r == -ENFILE) && reserve_fd >= 0) {
        fd_close(&reserve_fd);
        r = sd_notify(0, state);
    }
    if (reserve_fd < 0 && notify_is_wanted())
        reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* Once, not with every STATUS=. */
    if (r < 0 && r != last_result)
        report_system_error("cannot notify the service manager ($NOTIFY_SOCKET)", -r);
    last_result = r;
}

static void tell_status(const char *head, const char *status)
{
    char state[STATUS_SIZE + 64];
    snprintf(last_status, sizeof last_status, "%s", status);
    snprintf(state, sizeof state, "%s%s", head, last_status);
    tell(state);
}

void notify_ready(const char *status)
{
    tell_status("READY=1\nSTATUS=", status);
}

void notify_status(const char *status)
{
    if (strncmp(status, last_status, sizeof last_status - 1) != 0)
        tell_status("STATUS=", status);
}

void notify_stopping(void)
{
    tell("STOPPING=1");
}

void notify_failed(int error, const char *status)
{
    char head[64];
    snprintf(head, sizeof head, "ERRNO=%d\nSTATUS=", error);
    tell_status(head, status);
}
