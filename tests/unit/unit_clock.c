/* The calls of functions that know the clock, which the linker sends here (ld(1), --wrap). */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static _Atomic uint64_t moved_usec, step_usec;

void clock_move(uint64_t usec)
{
    atomic_fetch_add(&moved_usec, usec);
}

void clock_move_at_each_look(uint64_t usec)
{
    atomic_store(&step_usec, usec);
}

void clock_reset(void)
{
    atomic_store(&step_usec, 0);
    atomic_store(&moved_usec, 0);
}

static struct timespec moved_by(struct timespec time, uint64_t usec)
{
    usec += (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
    return (struct timespec){.tv_sec = (time_t)(usec / 1000000),
                             .tv_nsec = (long)(usec % 1000000 * 1000) + time.tv_nsec % 1000};
}

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    int r = __real_clock_gettime(clock, out);
    if (r < 0 || (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE))
        return r;
    uint64_t step = atomic_load(&step_usec);
    *out = moved_by(*out, atomic_fetch_add(&moved_usec, step) + step);
    return 0;
}

int __real_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until);
int __wrap_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until);
int __wrap_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until)
{
    const struct timespec in_truth = moved_by(*until, -atomic_load(&moved_usec));
    return __real_pthread_cond_clockwait(condition, mutex, clock, &in_truth);
}
