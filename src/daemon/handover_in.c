#include "daemon/handover_in.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/handover_out.h"
#include "handover/descriptor_queue.h"
#include "serve/proxied.h"
#include "serve/services.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Between two looks whether connections have ended. */
#define LOOK_USEC (5 * USEC_PER_MSEC)

/* For who comes without a record: what it would have been served by is not known. */
static const struct service_config no_config = {
    .idle_timeout_usec = USEC_NEVER,
    .write_timeout_usec = USEC_NEVER,
    .unsent_limit = SERVICE_MIN_OUTPUT,
    .listener = (char *)"-",
};

static void read_state(struct handover_in *in, int fd)
{
    if (!in->has_state)
        in->error = -saved_state_read(fd, &in->state);
    in->has_state = true;
    if (in->error > 0)
        daemon_log_state_unreadable(in->error);
    close(fd);
}

int handover_in_find(struct handover_in *in, struct passed_sockets *passed)
{
    *in = (struct handover_in){.passed = passed};
    in->queue_ends = calloc(passed->count + 1, sizeof *in->queue_ends);
    if (!in->queue_ends)
        return -ENOMEM;
    for (size_t i = 0; i < passed->count; i++) {
        struct passed_socket *item = &passed->items[i];
        if (strcmp(item->name, HANDOVER_STATE) == 0)
            read_state(in, TAKE_FD(item->fd));
        else if (strcmp(item->name, HANDOVER_QUEUE) == 0)
            in->queue_ends[in->queue_count++] = TAKE_FD(item->fd);
        else if (strcmp(item->name, HANDOVER_PROBE) == 0)
            fd_close(&item->fd);
        else if (strcmp(item->name, HANDOVER_LISTENER) == 0)
            in->taken.listeners++;
    }
    return 0;
}

void handover_in_clear(struct handover_in *in)
{
    saved_state_clear(&in->state);
    for (size_t i = 0; i < in->queue_count; i++)
        fd_close(&in->queue_ends[i]);
    free(in->queue_ends);
    *in = (struct handover_in){0};
}

static void restore_totals(const struct saved_state *state, struct acceptor *acceptor,
                           struct worker_pool *pool)
{
    acceptor->last_id = state->last_id;
    acceptor->accepted = state->accepted;
    for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
        acceptor->refused[reason] = state->refused[reason];
        acceptor->waits[reason] = state->waits[reason];
    }
    worker_pool_restore_totals(pool, &state->totals);
    log_restore_lost(state->lost_messages);
}

static int restore_listener(struct handover_in *in, struct acceptor *acceptor,
                            const struct saved_listener *saved, struct passed_socket *item)
{
    bool is_own = strcmp(item->name, HANDOVER_LISTENER) == 0;
    struct listener *listener;
    int r = listener_adopt(item->fd, is_own ? NULL : item->name, &listener);
    if (r < 0)
        return r;
    item->fd = -1;
    listener->id = saved->id;
    listener->listen_address.port = saved->port;
    listener->listen_address.any = saved->any;
    listener->without_v6 = saved->without_v6;
    snprintf(listener->name, sizeof listener->name, "%s", saved->name);
    if (is_own) {
        listener->inode.st_dev = saved->device;
        listener->inode.st_ino = saved->inode;
    }
    listener_set_config(listener, service_config_ref(in->state.configs[saved->config]));
    listener->number = saved->number;
    r = acceptor_add(acceptor, listener);
    if (r < 0) {
        listener_close(listener);
        return r;
    }
    in->taken.listeners += !is_own; /* the others are counted */
    return 0;
}

static struct passed_socket *find_passed(struct passed_sockets *passed, uint64_t cookie)
{
    for (size_t i = 0; i < passed->count; i++) {
        uint64_t own;
        if (passed->items[i].fd >= 0 && socket_cookie(passed->items[i].fd, &own) == 0 && own == cookie)
            return &passed->items[i];
    }
    return NULL;
}

int handover_in_restore(struct handover_in *in, struct acceptor *acceptor, struct worker_pool *pool)
{
    struct saved_state *state = &in->state;
    if (state->kind == SAVED_HANDOVER)
        restore_totals(state, acceptor, pool);
    listener_restore_last_id(state->last_listener_id);
    /* In the order in which they were: it says which is which where several have port 0. */
    for (size_t i = 0; i < state->listener_count; i++) {
        struct passed_socket *item = find_passed(in->passed, state->listeners[i].cookie);
        if (!item)
            continue;
        int r = restore_listener(in, acceptor, &state->listeners[i], item);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Where a connection that came goes. */
struct destination {
    struct handover_in *in;
    struct acceptor *acceptor;
    bool *ends;                       /* for each configuration: its listener is gone */
    struct service_config *no_record; /* under which connections without one are closed */
};

/* Returns false when memory is short. */
static bool restore_client(const struct saved_connection *saved, struct new_client *client)
{
    const struct saved_proxied *proxied = &saved->proxied;
    struct span header = {proxied->header, proxied->header_length};
    *client = saved->client;
    client->progress = progress_copy(&saved->progress);
    if (proxied->is_there)
        client->proxied = proxied_new(&proxied->proxy, proxied->kind, header);
    if (client->progress && (client->proxied || !proxied->is_there))
        return true;
    free(client->progress);
    free(client->proxied);
    return false;
}

static void resume(struct destination *to, int fd, struct saved_connection *saved)
{
    struct new_client client;
    if (!restore_client(saved, &client)) {
        close(fd);
        return;
    }
    client.progress->ends = to->ends[saved->config] || to->in->taken.is_short;
    client.fd = fd;
    client.config = service_config_ref(to->in->state.configs[saved->config]);
    acceptor_take_over(to->acceptor, &client);
    to->in->taken.resumed++;
}

/* Half-closes it, so that its client sees an end and no reset. */
static void close_cleanly(struct destination *to, int fd)
{
    const struct progress ended = {.reason = REASON_NOT_RESUMED};
    struct sockaddr_storage sockaddr = {0};
    socklen_t length = sizeof sockaddr;
    struct new_client client = {
        .fd = fd,
        .id = ++to->acceptor->last_id,
        .accepted_usec = clock_monotonic_usec(),
        .progress = progress_copy(&ended),
    };
    to->in->taken.closed++;
    if (!client.progress) {
        close(fd);
        return;
    }
    client.config = service_config_ref(to->no_record);
    (void)getpeername(fd, (struct sockaddr *)&sockaddr, &length); /* gone already: it stays without one */
    address_from_sockaddr((const struct sockaddr *)&sockaddr, &client.client);
    to->acceptor->accepted++;
    acceptor_take_over(to->acceptor, &client);
}

static void take_one(struct destination *to, int fd)
{
    uint64_t cookie = 0;
    struct saved_connection *saved = NULL;
    if (socket_cookie(fd, &cookie) == 0)
        saved = saved_state_connection(&to->in->state, cookie);
    if (saved)
        resume(to, fd, saved);
    else
        close_cleanly(to, fd);
}

/* Waits until there is room for one more message. Returns false when the time is up. */
static bool await_room(const struct acceptor *acceptor, uint64_t room, uint64_t deadline_usec)
{
    while (worker_pool_connections(acceptor->pool) + DESCRIPTORS_PER_MESSAGE > room) {
        if (worker_pool_connections(acceptor->pool) == 0)
            return true; /* there will not be more */
        if (clock_monotonic_usec() >= deadline_usec)
            return false;
        clock_sleep(LOOK_USEC);
    }
    return true;
}

static void take_all(struct destination *to, int end, uint64_t room, uint64_t deadline_usec)
{
    int fds[DESCRIPTORS_PER_MESSAGE];
    int count = 1;
    while (count > 0) {
        if (to->in->taken.is_short && !await_room(to->acceptor, room, deadline_usec))
            return;
        count = descriptor_queue_take(end, fds);
        for (int i = 0; i < count; i++)
            take_one(to, fds[i]);
        worker_pool_flush(to->acceptor->pool);
    }
    if (count < 0)
        daemon_log_system_error(NULL, "cannot take connections over", -count);
}

static bool is_there(const struct acceptor *acceptor, uint64_t id)
{
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        if (CONTAINER_OF(link, struct listener, link)->id == id)
            return true;
    }
    return false;
}

/* A connection whose listener was gone before, after a reload, goes on under its settings. */
static bool is_gone(const struct handover_in *in, const struct acceptor *acceptor, const char *name)
{
    bool is_gone = false;
    for (size_t i = 0; i < in->state.listener_count; i++) {
        if (strcmp(in->state.listeners[i].name, name) != 0)
            continue;
        if (is_there(acceptor, in->state.listeners[i].id))
            return false;
        is_gone = true;
    }
    return is_gone;
}

static int prepare(struct destination *to)
{
    const struct saved_state *state = &to->in->state;
    struct service_config none = no_config;
    none.service = service_find("discard");
    to->no_record = service_config_new(&none);
    to->ends = calloc(state->config_count + 1, sizeof *to->ends);
    if (!to->no_record || !to->ends)
        return -ENOMEM;
    for (size_t i = 0; i < state->config_count; i++)
        to->ends[i] = is_gone(to->in, to->acceptor, state->configs[i]->listener);
    return 0;
}

uint64_t handover_in_connections(const struct handover_in *in)
{
    return in->state.kind == SAVED_HANDOVER ? in->state.connection_count : 0;
}

void handover_in_resume(struct handover_in *in, struct acceptor *acceptor, uint64_t room,
                        uint64_t deadline_usec)
{
    struct destination to = {.in = in, .acceptor = acceptor};
    int r = prepare(&to);
    in->taken.is_short = handover_in_connections(in) > room;
    in->taken.has_ended_unasked =
        in->error == 0 && in->state.kind == SAVED_BEFOREHAND && in->queue_count == 0;
    for (size_t i = 0; r == 0 && i < in->queue_count; i++)
        take_all(&to, in->queue_ends[i], room, deadline_usec);
    if (handover_in_connections(in) > 0)
        in->taken.lost = handover_in_connections(in) - in->taken.resumed;
    service_config_unref(to.no_record);
    free(to.ends);
    if (in->has_state || in->taken.listeners > 0 || in->queue_count > 0)
        daemon_log_taken_over(&in->taken);
}

/* Each gets a FIN, unless it has sent bytes that nobody has read. */
static uint64_t end_all(int end)
{
    int fds[DESCRIPTORS_PER_MESSAGE];
    int count;
    uint64_t ended = 0;
    while ((count = descriptor_queue_take(end, fds)) > 0)
        for (int i = 0; i < count; i++) {
            (void)shutdown(fds[i], SHUT_WR);
            close(fds[i]);
            ended++;
        }
    return ended;
}

void handover_in_give_up(struct handover_in *in, struct problems *problems)
{
    uint64_t ended = 0;
    for (size_t i = 0; i < in->queue_count; i++)
        ended += end_all(in->queue_ends[i]);
    if (ended > 0)
        daemon_log_given_up(problems, ended);
}

void handover_in_refuse(struct problems *problems)
{
    CLEANUP(passed_sockets_clear) struct passed_sockets passed;
    CLEANUP(handover_in_clear) struct handover_in in = {0};
    if (passed_sockets_receive(&passed, problems) == 0 && handover_in_find(&in, &passed) == 0)
        handover_in_give_up(&in, problems);
}
