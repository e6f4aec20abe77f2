/* One thread's wait for descriptors, timers and other threads: epoll(7), level-triggered.
 *
 *     event_loop_init -> event_loop_add ... -> event_loop_run (until event_loop_quit) -> event_loop_deinit
 *
 * A loop belongs to the thread that runs it, and every function asserts that, but event_loop_wake,
 * event_loop_ping and event_loop_has_responded, which any thread may call. Before
 * event_loop_run the loop belongs to whoever initialised it.
 *
 * Level-triggered, because it needs no loop until EAGAIN and no re-arming: a source is registered once, and
 * what a turn leaves unread is reported by the next one. That also makes turns fair: each ready source gets
 * one. */
#pragma once

#include "base/backoff.h"
#include "base/clock.h"
#include "base/timer_wheel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct event_source {
    int fd;            /* the loop never closes it */
    uint32_t interest; /* what was asked of epoll_ctl(2) last */
    void (*ready)(struct event_source *source, uint32_t events);
};

#define EVENT_BATCH 128

/* What one epoll_wait(2) has told. */
struct event_batch {
    struct epoll_event events[EVENT_BATCH];
    int next, count; /* those from next on are still to be handed out */
};

/* Hands the next event to its source, unless that has been removed meanwhile. There must be one. */
void event_batch_hand_out(struct event_batch *batch);

/* Takes the source out of the epoll set of `epoll_fd` and of what is left of the batch. */
void event_batch_remove(struct event_batch *batch, int epoll_fd, const struct event_source *source);

struct event_loop {
    int epoll_fd;
    struct event_source wake_source; /* an eventfd(2) */
    atomic_bool wake_pending;        /* the eventfd is set already, so that many wakes cost one write */
    void (*on_wake)(struct event_loop *loop);
    struct timer_wheel wheel;
    uint64_t now;     /* usec; read once a turn, after the wait: what was ready then goes before timers */
    pthread_t thread; /* whose loop it is */
    bool quit;
    atomic_bool responded; /* since event_loop_ping */
    unsigned sources;      /* registered, the wake-up's own not counted */

    struct event_batch batch;

    /* How long to look for events again and again before a sleep: what comes in that time is answered without
     * the time that waking a thread takes, for the price of CPU. 0: not at all. Any thread */
    _Atomic uint32_t busy_poll_usec;
    struct backoff busy_poll_backoff;
};

/* `on_wake` runs on the loop's thread after one or more event_loop_wake. Returns 0 or a negative errno
 * (EMFILE, ENOMEM) with nothing left to release. */
int event_loop_init(struct event_loop *loop, void (*on_wake)(struct event_loop *loop));

/* Every source must be gone. */
void event_loop_deinit(struct event_loop *loop);

/* Registers source->fd with source->ready for `interest` (EPOLLIN, EPOLLOUT; EPOLLERR and EPOLLHUP always
 * come). Returns 0 or a negative errno (ENOMEM; ENOSPC: fs.epoll.max_user_watches). */
int event_loop_add(struct event_loop *loop, struct event_source *source, uint32_t interest);

/* Costs nothing when the interest is what it was. Returns 0 or a negative errno (ENOMEM). */
int event_loop_change(struct event_loop *loop, struct event_source *source, uint32_t interest);

/* No event reaches the source any more, also not of the turn under way. source->fd must still be open:
 * another process may hold the same open file, so that closing it would not take it out, epoll(7). */
void event_loop_remove(struct event_loop *loop, struct event_source *source);

static inline void event_loop_arm(struct event_loop *loop, struct timer *timer, uint64_t deadline_usec)
{
    timer_wheel_arm(&loop->wheel, timer, deadline_usec);
}

/* Turns until event_loop_quit. Returns 0, or a negative errno when epoll_wait(2) itself fails, which is a bug
 * or a broken kernel. The calling thread owns the loop from here on, also after it has returned, until
 * event_loop_own. */
int event_loop_run(struct event_loop *loop);

/* A time for stamps, in usec: `now`, or what the kernel's last tick said (4 or 10 ms apart), where the turn
 * under way has taken longer. What a slow turn does late must not count as done early. */
static inline uint64_t event_loop_stamp(const struct event_loop *loop)
{
    uint64_t tick = clock_coarse_usec();
    return tick > loop->now ? tick : loop->now;
}

/* Ends event_loop_run after the turn under way; what is registered stays. */
void event_loop_quit(struct event_loop *loop);

/* Makes the calling thread the owner of a loop whose thread has been joined. */
void event_loop_own(struct event_loop *loop);

/* Makes on_wake run soon. Any thread, also a signal handler. */
void event_loop_wake(struct event_loop *loop);

/* Asks for a sign of life: event_loop_has_responded is false until the loop comes round to it. Any thread,
 * one at a time. */
void event_loop_ping(struct event_loop *loop);
bool event_loop_has_responded(const struct event_loop *loop);
