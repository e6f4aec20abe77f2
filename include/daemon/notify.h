/* What the service manager hears of us: sd_notify(3). Without one ($NOTIFY_SOCKET is not set) nothing
 * happens. Main thread, all but notify_alive and notify_stuck, which are the watchdog's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Whether there is somebody to tell. */
/* Of STATUS=, with its NUL; a longer one ends in "...". systemd takes 4096 bytes at once. */
#define NOTIFY_STATUS_SIZE 1536

bool notify_is_wanted(void);

/* READY=1 with the first STATUS=: every listener and every worker is ready. */
void notify_ready(const char *status);

/* STATUS=. Says nothing when it is what was said last. */
void notify_status(const char *status);

/* RELOADING=1 with the time, sd_notify(3): until the next notify_ready the settings are being changed. */
void notify_reloading(void);

/* STOPPING=1. */
void notify_stopping(void);

/* EXTEND_TIMEOUT_USEC=: what was begun is not over, and will not be for so long. */
void notify_extend(uint64_t usec);

/* WATCHDOG=1. Returns false when the manager cannot hear it now; try again. */
bool notify_alive(void);

/* WATCHDOG=trigger: the manager is to deal with us as if the watchdog's time had run out. */
void notify_stuck(void);

/* ERRNO= and STATUS=: why the start failed. */
void notify_failed(int error, const char *status);
