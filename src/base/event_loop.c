#include "base/event_loop.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A wake that is lost may leave a client waiting forever. */
#define WAKE_TRIES 3

/* From here on the kernel's own lateness matters; see wait_msec. */
#define LONG_WAIT_MSEC 200

/* A loop that nobody talks to polls before every 65th sleep. */
#define MOST_POLL_LOSSES 7

void event_batch_hand_out(struct event_batch *batch)
{
    struct epoll_event event = batch->events[batch->next++];
    struct event_source *source = event.data.ptr;
    if (source)
        source->ready(source, event.events);
}

void event_batch_remove(struct event_batch *batch, int epoll_fd, const struct event_source *source)
{
    for (int i = batch->next; i < batch->count; i++)
        if (batch->events[i].data.ptr == source)
            batch->events[i].data.ptr = NULL;
    /* Fails only for what was never added, epoll_ctl(2). Were it so, the close that follows takes it out. */
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

static void assert_own_thread(const struct event_loop *loop)
{
    assert(pthread_equal(loop->thread, pthread_self()));
    (void)loop;
}

static void on_wake_ready(struct event_source *source, uint32_t events)
{
    struct event_loop *loop = CONTAINER_OF(source, struct event_loop, wake_source);
    (void)events;
    uint64_t count;
    /* An eventfd that epoll reports cannot fail to be read; were it so, the next turn would report it again.
     * */
    if (read(source->fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    /* Cleared before on_wake looks around, so that a wake that comes meanwhile makes it look again; an
     * exchange, so that it sees all that the threads did whose wakes were spared the write. */
    atomic_exchange(&loop->wake_pending, false);
    atomic_store(&loop->responded, true);
    loop->on_wake(loop);
}

/* EPOLL_CTL_ADD or EPOLL_CTL_MOD. */
static int control(struct event_loop *loop, int operation, struct event_source *source, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, operation, source->fd, &event) < 0)
        return -errno;
    source->interest = interest;
    return 0;
}

int event_loop_init(struct event_loop *loop, void (*on_wake)(struct event_loop *loop))
{
    CLEANUP(fd_close) int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return -errno;
    CLEANUP(fd_close) int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return -errno;

    *loop = (struct event_loop){
        .epoll_fd = epoll_fd,
        .wake_source = {.fd = wake_fd, .ready = on_wake_ready},
        .on_wake = on_wake,
        .now = clock_monotonic_usec(),
        .thread = pthread_self(),
    };
    timer_wheel_init(&loop->wheel, loop->now);
    int r = control(loop, EPOLL_CTL_ADD, &loop->wake_source, EPOLLIN);
    if (r < 0)
        return r;
    TAKE_FD(epoll_fd);
    TAKE_FD(wake_fd);
    return 0;
}

void event_loop_deinit(struct event_loop *loop)
{
    assert_own_thread(loop);
    assert(loop->sources == 0);
    fd_close(&loop->wake_source.fd);
    fd_close(&loop->epoll_fd);
}

int event_loop_add(struct event_loop *loop, struct event_source *source, uint32_t interest)
{
    assert_own_thread(loop);
    int r = control(loop, EPOLL_CTL_ADD, source, interest);
    if (r == 0)
        loop->sources++;
    return r;
}

int event_loop_change(struct event_loop *loop, struct event_source *source, uint32_t interest)
{
    assert_own_thread(loop);
    return interest == source->interest ? 0 : control(loop, EPOLL_CTL_MOD, source, interest);
}

void event_loop_remove(struct event_loop *loop, struct event_source *source)
{
    assert_own_thread(loop);
    event_batch_remove(&loop->batch, loop->epoll_fd, source);
    loop->sources--;
}

/* The kernel may be late by a thousandth of the wait, which after a long one is too much for a delay that was
 * asked for: a long wait ends a little before its time, and a short one follows. */
static int wait_msec(const struct event_loop *loop)
{
    int msec = clock_wait_msec(timer_wheel_next_usec(&loop->wheel));
    return msec > LONG_WAIT_MSEC ? msec - msec / 256 : msec;
}

/* Looks without sleeping for a while. Returns what epoll_wait(2) does. */
static int poll_busily(struct event_loop *loop, uint32_t usec)
{
    uint64_t end = clock_monotonic_usec() + usec;
    uint64_t next_timer = timer_wheel_next_usec(&loop->wheel);
    if (next_timer < end)
        end = next_timer;
    int count;
    do
        count = epoll_wait(loop->epoll_fd, loop->batch.events, EVENT_BATCH, 0);
    while (count == 0 && clock_monotonic_usec() < end);
    if (count == 0)
        backoff_lost(&loop->busy_poll_backoff, 1, MOST_POLL_LOSSES);
    else
        backoff_won(&loop->busy_poll_backoff);
    return count;
}

static int wait_for_events(struct event_loop *loop)
{
    uint32_t usec = atomic_load_explicit(&loop->busy_poll_usec, memory_order_relaxed);
    int count = 0;
    if (usec > 0 && !backoff_skips(&loop->busy_poll_backoff))
        count = poll_busily(loop, usec);
    if (count == 0)
        count = epoll_wait(loop->epoll_fd, loop->batch.events, EVENT_BATCH, wait_msec(loop));
    return count < 0 ? -errno : count;
}

static void hand_out_events(struct event_loop *loop, int count)
{
    loop->batch.next = 0;
    loop->batch.count = count;
    while (loop->batch.next < loop->batch.count)
        event_batch_hand_out(&loop->batch);
}

/* Hands out all that was ready at loop->now. This thread may not have run since it last waited (a stopped
 * process, a paused machine, a starved CPU), or may have spent the time on one batch of many: what came
 * meanwhile came before the timers that are due. A batch that is not full was the last. epoll(7) puts a
 * source that stays ready at the end of its queue, so that after as many events as there are sources each has
 * had its turn, however busy they are. */
static int look_first(struct event_loop *loop)
{
    unsigned looked = 0;
    int count = EVENT_BATCH;
    while (count == EVENT_BATCH && looked <= loop->sources) {
        count = epoll_wait(loop->epoll_fd, loop->batch.events, EVENT_BATCH, 0);
        if (count < 0)
            return -errno;
        looked += (unsigned)count;
        hand_out_events(loop, count);
    }
    return 0;
}

static void fire_timers(struct event_loop *loop)
{
    struct list due;
    list_init(&due);
    timer_wheel_advance(&loop->wheel, loop->now, &due);
    /* From the head each time: a timer that fires may disarm any other. */
    while (!list_is_empty(&due)) {
        struct timer *timer = CONTAINER_OF(due.next, struct timer, link);
        timer_disarm(timer);
        timer->fire(timer);
    }
}

/* Returns 0 or a negative errno: EINTR, when the wait was interrupted. */
static int turn(struct event_loop *loop)
{
    int count = wait_for_events(loop);
    if (count < 0)
        return count;
    loop->now = clock_monotonic_usec();
    hand_out_events(loop, count);
    if (timer_wheel_next_usec(&loop->wheel) > loop->now)
        return 0;
    int r = look_first(loop);
    if (r == 0)
        fire_timers(loop);
    return r;
}

int event_loop_run(struct event_loop *loop)
{
    event_loop_own(loop);
    while (!loop->quit) {
        int r = turn(loop);
        /* EINTR is what a stopped process wakes up with, signal(7): nothing was looked at. */
        if (r < 0 && r != -EINTR)
            return r;
    }
    loop->quit = false;
    return 0;
}

void event_loop_quit(struct event_loop *loop)
{
    assert_own_thread(loop);
    loop->quit = true;
}

void event_loop_own(struct event_loop *loop)
{
    loop->thread = pthread_self();
}

void event_loop_wake(struct event_loop *loop)
{
    if (atomic_exchange(&loop->wake_pending, true))
        return;
    const uint64_t one = 1;
    for (int tries = 0; tries < WAKE_TRIES; tries++)
        if (write(loop->wake_source.fd, &one, sizeof one) == (ssize_t)sizeof one)
            return;
    /* Unheard of, eventfd(2). The next wake must not rely on this one. */
    atomic_store(&loop->wake_pending, false);
}

void event_loop_ping(struct event_loop *loop)
{
    atomic_store(&loop->responded, false);
    event_loop_wake(loop);
}

bool event_loop_has_responded(const struct event_loop *loop)
{
    return atomic_load(&loop->responded);
}
