#include "base/event_set.h"

#include "base/cleanup.h"

#include <errno.h>
#include <unistd.h>

/* What a pause has left of the batch before goes first: epoll has those at the end of its list already, and
 * would tell of the others again. */
static void refill(struct event_set *set)
{
    if (set->batch.next < set->batch.count)
        return;
    set->batch.next = 0;
    set->batch.count = epoll_wait(set->source.fd, set->batch.events, EVENT_BATCH, 0);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct event_set *set = CONTAINER_OF(source, struct event_set, source);
    (void)events;
    refill(set);
    /* An epoll_wait that failed counts as none: the next turn tries again. */
    while (set->is_polled && set->batch.next < set->batch.count)
        event_batch_hand_out(&set->batch);
}

int event_set_init(struct event_set *set, struct event_loop *loop)
{
    CLEANUP(fd_close) int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        return -errno;
    *set = (struct event_set){
        .loop = loop,
        .source = {.fd = epoll_fd, .ready = on_ready},
        .is_polled = true,
    };
    int r = event_loop_add(loop, &set->source, EPOLLIN);
    if (r < 0)
        return r;
    TAKE_FD(epoll_fd);
    return 0;
}

void event_set_deinit(struct event_set *set)
{
    event_loop_remove(set->loop, &set->source);
    fd_close(&set->source.fd);
}

int event_set_add(struct event_set *set, struct event_source *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    return epoll_ctl(set->source.fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void event_set_remove(struct event_set *set, struct event_source *source)
{
    event_batch_remove(&set->batch, set->source.fd, source);
}

int event_set_poll(struct event_set *set, bool polls)
{
    int r = event_loop_change(set->loop, &set->source, polls ? EPOLLIN : 0);
    if (r == 0)
        set->is_polled = polls;
    return r;
}
