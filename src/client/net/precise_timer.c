#include "client/net/precise_timer.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <sys/timerfd.h>

static void on_ready(struct event_source *source, uint32_t events)
{
    struct precise_timer *timer = CONTAINER_OF(source, struct precise_timer, source);
    uint64_t expirations;
    (void)events;
    /* Armed anew between the event and this: it has yet to go off. */
    if (read(source->fd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations)
        timer->fire(timer);
}

int precise_timer_init(struct precise_timer *timer, struct event_loop *loop,
                       void (*fire)(struct precise_timer *timer))
{
    CLEANUP(fd_close) int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    *timer = (struct precise_timer){.source = {.fd = fd, .ready = on_ready}, .loop = loop, .fire = fire};
    int r = event_loop_add(loop, &timer->source, EPOLLIN);
    if (r < 0)
        return r;
    TAKE_FD(fd);
    return 0;
}

void precise_timer_arm(struct precise_timer *timer, uint64_t at_nsec)
{
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(at_nsec / NSEC_PER_SEC), .tv_nsec = (long)(at_nsec % NSEC_PER_SEC)}};
    int r = timerfd_settime(timer->source.fd, TFD_TIMER_ABSTIME, &spec, NULL);
    assert(r == 0); /* fails only for a time that is none */
    (void)r;
}

void precise_timer_deinit(struct precise_timer *timer)
{
    event_loop_remove(timer->loop, &timer->source);
    fd_close(&timer->source.fd);
}
