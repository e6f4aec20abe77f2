/* What the service manager hears of us: sd_notify(3). Without one ($NOTIFY_SOCKET is not set) nothing
 * happens. Main thread. */
#pragma once

#include <stdbool.h>

/* Whether there is somebody to tell. */
bool notify_is_wanted(void);

/* READY=1 with the first STATUS=: every listener and every worker is ready. */
void notify_ready(const char *status);

/* STATUS=. Says nothing when it is what was said last. */
void notify_status(const char *status);

/* STOPPING=1. */
void notify_stopping(void);

/* ERRNO= and STATUS=: why the start failed. */
void notify_failed(int error, const char *status);
