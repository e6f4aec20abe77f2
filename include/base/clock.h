/* Time in microseconds, the unit of every duration and deadline in these programs; in nanoseconds where a
 * round trip is measured. */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <time.h>

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_NEVER UINT64_MAX
#define NSEC_PER_SEC UINT64_C(1000000000)
#define NSEC_PER_USEC UINT64_C(1000)

/* clock_gettime(2): cannot fail with a valid clock and pointer. Any thread. */
static inline uint64_t clock_usec(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

static inline uint64_t clock_monotonic_usec(void)
{
    return clock_usec(CLOCK_MONOTONIC);
}

/* The same clock, as it stood at the kernel's last tick: several times cheaper, and late by up to 10 ms. */
static inline uint64_t clock_coarse_usec(void)
{
    return clock_usec(CLOCK_MONOTONIC_COARSE);
}

/* The same clock. */
static inline uint64_t clock_monotonic_nsec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* How long poll(2) and epoll_wait(2) are to wait for a moment of the same clock: rounded up, so that it has
 * come when the wait is over. USEC_NEVER: -1, for ever. */
static inline int clock_wait_msec(uint64_t until_usec)
{
    if (until_usec == USEC_NEVER)
        return -1;
    uint64_t now = clock_monotonic_usec();
    uint64_t msec = until_usec > now ? (until_usec - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC : 0;
    return msec < INT_MAX ? (int)msec : INT_MAX;
}

/* For people. */
static inline double clock_seconds(uint64_t nsec)
{
    return (double)nsec / (double)NSEC_PER_SEC;
}

/* A duration, or a moment of a clock, as system calls take it. */
static inline struct timespec clock_timespec(uint64_t usec)
{
    return (struct timespec){.tv_sec = (time_t)(usec / USEC_PER_SEC),
                             .tv_nsec = (long)(usec % USEC_PER_SEC * NSEC_PER_USEC)};
}

/* nanosleep(2). A signal that the thread handles ends it early. */
static inline void clock_sleep(uint64_t usec)
{
    const struct timespec time = clock_timespec(usec);
    nanosleep(&time, NULL);
}
