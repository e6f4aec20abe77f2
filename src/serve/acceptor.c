#include "serve/acceptor.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "serve/connection_log.h"
#include "serve/proxied.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* One listener's share of a turn. The workers are woken once for all of them. */
#define ACCEPT_BATCH 64

/* A client that has the kernel's SYN+ACK takes itself for connected: those of this host and its neighbours
 * get here in this time. A close before that resets them. */
#define HANDSHAKE_USEC (2 * USEC_PER_MSEC)

/* For workers to take clients out of a queue that is full. */
#define MOMENT_USEC USEC_PER_MSEC
/* The same where all of them wait. */
#define SHORT_MOMENT_USEC (USEC_PER_MSEC / 20)

#define RETRY_USEC (100 * USEC_PER_MSEC)

/* How long listeners that close go on taking in those who had connected. */
#define LAST_CLIENTS_USEC (500 * USEC_PER_MSEC)
/* Between two looks at the clock lie one client or MOMENT_USEC. */
#define LONG_PAUSE_USEC (100 * USEC_PER_MSEC)
/* The least that each has of it, when others have used it up. */
#define LAST_CLIENTS_LEAST_USEC (10 * USEC_PER_MSEC)

/* A pause that follows another within this time is the same stretch of overload, and not logged again. */
#define SAME_STRETCH_USEC USEC_PER_SEC

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_retry(struct timer *timer)
{
    acceptor_resume(CONTAINER_OF(timer, struct acceptor, retry));
}

int acceptor_init(struct acceptor *acceptor, struct event_set *set, struct worker_pool *pool,
                  struct admission *admission, struct capacity_signal *capacity)
{
    int spare_fd = open_spare();
    if (spare_fd < 0)
        return -errno;
    *acceptor = (struct acceptor){
        .loop = set->loop,
        .set = set,
        .pool = pool,
        .admission = admission,
        .capacity = capacity,
        .spare_fd = spare_fd,
        .max_connections = UINT64_MAX,
    };
    list_init(&acceptor->listeners);
    list_init(&acceptor->retired);
    timer_init(&acceptor->retry, on_retry);
    return 0;
}

void acceptor_limit(struct acceptor *acceptor, bool refuses, uint64_t max_connections, enum reason max_reason)
{
    acceptor->refuses = refuses;
    acceptor->max_connections = max_connections;
    acceptor->max_reason = max_reason;
    acceptor_resume(acceptor);
}

/* REASON_NONE, or what keeps the next client out. */
static enum reason fullness(const struct acceptor *acceptor)
{
    if (worker_pool_connections(acceptor->pool) >= acceptor->max_connections)
        return acceptor->max_reason;
    if (worker_pool_queue_is_full(acceptor->pool))
        return REASON_QUEUE_FULL;
    return REASON_NONE;
}

static void poll_listeners(struct acceptor *acceptor, bool polls)
{
    acceptor->paused = !polls;
    int r = event_set_poll(acceptor->set, polls);
    if (r < 0) {
        connection_log_accept_failed("any listener", -r);
        acceptor->paused = true; /* or the retry would find nothing to do */
        event_loop_arm(acceptor->loop, &acceptor->retry, acceptor->loop->now + RETRY_USEC);
    }
}

static void pause_for(struct acceptor *acceptor, enum reason reason)
{
    acceptor->waits[reason]++;
    if (acceptor->loop->now >= acceptor->same_stretch_usec)
        connection_log_waiting(reason, worker_pool_connections(acceptor->pool),
                               conn_queue_length(acceptor->pool->queue));
    poll_listeners(acceptor, false);
}

void acceptor_resume(struct acceptor *acceptor)
{
    if (!acceptor->paused)
        return;
    if (!acceptor->refuses && fullness(acceptor) != REASON_NONE) {
        capacity_signal_await(acceptor->capacity);
        if (fullness(acceptor) != REASON_NONE)
            return;
    }
    /* A shortage of the whole system may have cost it. */
    if (acceptor->spare_fd < 0)
        acceptor->spare_fd = open_spare();
    acceptor->same_stretch_usec = acceptor->loop->now + SAME_STRETCH_USEC;
    poll_listeners(acceptor, true);
}

static void refuse(struct acceptor *acceptor, const struct listener *listener, const struct address *client,
                   int fd, enum reason reason)
{
    const struct connection_facts facts = {
        .client = *client, .listener = listener->name, .service = listener->config->service->name};
    acceptor->refused[reason]++;
    connection_log_refused(&facts, reason, NULL);
    close(fd);
}

/* Where a proxy has yet to say who the client is, the peer is asked only whether it may. */
static enum reason check(struct acceptor *acceptor, const struct listener *listener,
                         const struct address *peer, struct peer_network **source)
{
    const struct service_config *config = listener->config;
    *source = NULL;
    if (!config->proxy.protocol)
        return admission_check(acceptor->admission, &config->rules, peer, source);
    return admission_may_proxy(&config->proxy.from, peer) ? REASON_NONE : REASON_DENIED;
}

/* `full` is what fullness() said just before. Consumes the descriptor always. */
static void admit_or_refuse(struct acceptor *acceptor, struct listener *listener,
                            const struct address *client, int fd, enum reason full)
{
    struct peer_network *source;
    enum reason reason = check(acceptor, listener, client, &source);
    if (reason == REASON_NONE)
        reason = full;
    if (reason != REASON_NONE) {
        peer_network_release(source);
        refuse(acceptor, listener, client, fd, reason);
        return;
    }
    const struct new_client new_client = {
        .fd = fd,
        .config = service_config_ref(listener->config),
        .network = source,
        .client = *client,
        .id = ++acceptor->last_id,
        .number = ++listener->number,
        .accepted_usec = acceptor->loop->now,
    };
    bool is_given = worker_pool_give(acceptor->pool, &new_client);
    assert(is_given); /* there was room, and nobody else fills the queue */
    (void)is_given;
    acceptor->accepted++;
}

/* Descriptors or memory have run out, for this process or the whole system. Returns true when there may be
 * another client. */
static bool handle_shortage(struct acceptor *acceptor, struct listener *listener)
{
    struct address client;
    int fd;
    if (acceptor->refuses && acceptor->spare_fd >= 0) {
        fd_close(&acceptor->spare_fd);
        int r = listener_accept(listener, &fd, &client);
        if (r == 0)
            refuse(acceptor, listener, &client, fd, REASON_DESCRIPTOR_LIMIT);
        acceptor->spare_fd = open_spare();
        if (r != -EMFILE)
            return r == 0 || r == -ECONNABORTED;
    }
    pause_for(acceptor, REASON_DESCRIPTOR_LIMIT);
    event_loop_arm(acceptor->loop, &acceptor->retry, acceptor->loop->now + RETRY_USEC);
    return false;
}

/* Takes one client. Returns true when there may be another. */
static bool accept_one(struct acceptor *acceptor, struct listener *listener, enum reason full)
{
    struct address client;
    int fd;
    int r = listener_accept(listener, &fd, &client);
    if (r == 0) {
        admit_or_refuse(acceptor, listener, &client, fd, full);
        return true;
    }
    if (r == -ECONNABORTED)
        return true;
    if (r == -EMFILE)
        return handle_shortage(acceptor, listener);
    if (r != -EAGAIN) {
        connection_log_accept_failed(listener->name, -r);
        poll_listeners(acceptor, false);
        event_loop_arm(acceptor->loop, &acceptor->retry, acceptor->loop->now + RETRY_USEC);
    }
    return false;
}

/* Returns how many were taken. */
static unsigned accept_batch(struct acceptor *acceptor, struct listener *listener)
{
    unsigned taken = 0;
    for (; taken < ACCEPT_BATCH; taken++) {
        enum reason full = fullness(acceptor);
        if (full != REASON_NONE && !acceptor->refuses) {
            worker_pool_flush(acceptor->pool);
            pause_for(acceptor, full);
            acceptor_resume(acceptor); /* there may be room by now; if not, the capacity signal will tell */
            return taken;
        }
        /* The workers were not told yet of those whom this turn has taken in: let them make room first. */
        if (full == REASON_QUEUE_FULL && taken > 0)
            break;
        if (!accept_one(acceptor, listener, full))
            break;
    }
    worker_pool_flush(acceptor->pool);
    return taken;
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct listener *listener = CONTAINER_OF(source, struct listener, source);
    struct acceptor *acceptor = listener->acceptor;
    (void)events;
    uint32_t wait_usec = accept_coalescing_begin(&acceptor->coalescing, acceptor->loop->now);
    if (wait_usec > 0)
        clock_sleep(wait_usec);
    accept_coalescing_end(&acceptor->coalescing, accept_batch(acceptor, listener));
}

int acceptor_add(struct acceptor *acceptor, struct listener *listener)
{
    listener->acceptor = acceptor;
    listener->source.ready = on_ready;
    int r = event_set_add(acceptor->set, &listener->source);
    if (r < 0)
        return r;
    list_append(&acceptor->listeners, &listener->link);
    acceptor->listener_count++;
    return 0;
}

/* The time for the last clients. */
struct last_time {
    uint64_t until_usec, looked_usec;
};

/* A time in which this process did not run does not count: it could not take anybody in. */
static bool is_left(struct last_time *time)
{
    uint64_t now = clock_monotonic_usec();
    if (now > time->looked_usec + LONG_PAUSE_USEC)
        time->until_usec += now - time->looked_usec;
    time->looked_usec = now;
    return now < time->until_usec;
}

/* The backlog may hold more clients than the queue; the workers take those out in no time, if they turn at
 * all. */
static enum reason await_room(struct acceptor *acceptor, struct last_time *time)
{
    enum reason full;
    while ((full = fullness(acceptor)) == REASON_QUEUE_FULL && is_left(time)) {
        worker_pool_flush(acceptor->pool);
        clock_sleep(MOMENT_USEC);
    }
    return full;
}

/* Whoever has connected is let in like anybody else, or refused as `draining` when there is no room. Bounded,
 * since clients may come as fast as they are taken in. */
static void empty_backlog(struct acceptor *acceptor, struct listener *listener, struct last_time *time)
{
    uint64_t least = clock_monotonic_usec() + LAST_CLIENTS_LEAST_USEC;
    if (time->until_usec < least)
        time->until_usec = least;
    while (is_left(time)) {
        struct address client;
        int fd;
        int r = listener_accept(listener, &fd, &client);
        if (r == 0)
            admit_or_refuse(acceptor, listener, &client, fd,
                            await_room(acceptor, time) == REASON_NONE ? REASON_NONE : REASON_DRAINING);
        else if (r != -ECONNABORTED)
            return;
    }
}

/* No handshake has begun for a while. */
static void close_listener(struct acceptor *acceptor, struct listener *listener, struct last_time *time)
{
    if (listener_is_own(listener))
        empty_backlog(acceptor, listener, time);
    event_set_remove(acceptor->set, &listener->source);
    list_remove(&listener->link);
    acceptor->listener_count--;
    listener_close(listener);
}

void acceptor_retire(struct acceptor *acceptor, struct listener *listener)
{
    listener_stop_handshakes(listener);
    list_remove(&listener->link);
    list_append(&acceptor->retired, &listener->link);
}

void acceptor_close_retired(struct acceptor *acceptor)
{
    if (list_is_empty(&acceptor->retired))
        return;
    clock_sleep(HANDSHAKE_USEC);
    uint64_t now = clock_monotonic_usec();
    struct last_time time = {.until_usec = now + LAST_CLIENTS_USEC, .looked_usec = now};
    LIST_FOR_EACH(link, &acceptor->retired)
    {
        close_listener(acceptor, CONTAINER_OF(link, struct listener, link), &time);
    }
    worker_pool_flush(acceptor->pool);
}

void acceptor_take_over(struct acceptor *acceptor, struct new_client *client)
{
    /* A proxy itself counts nowhere. */
    if (!client->config->proxy.protocol || proxied_by(client->proxied))
        client->network = admission_count(acceptor->admission, &client->config->rules, &client->client);
    while (!worker_pool_give(acceptor->pool, client)) {
        worker_pool_flush(acceptor->pool);
        clock_sleep(SHORT_MOMENT_USEC);
    }
}

void acceptor_leave(struct acceptor *acceptor)
{
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        listener_leave(CONTAINER_OF(link, struct listener, link));
    }
    acceptor_stop(acceptor);
}

void acceptor_stop(struct acceptor *acceptor)
{
    timer_disarm(&acceptor->retry);
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        acceptor_retire(acceptor, CONTAINER_OF(link, struct listener, link));
    }
    acceptor_close_retired(acceptor);
}

void acceptor_deinit(struct acceptor *acceptor)
{
    acceptor_stop(acceptor);
    fd_close(&acceptor->spare_fd);
}
