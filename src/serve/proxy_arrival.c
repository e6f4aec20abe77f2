#include "serve/proxy_arrival.h"

#include "base/proxy_header.h"
#include "serve/admission.h"
#include "serve/connection.h"
#include "serve/progress.h"
#include "serve/proxied.h"
#include "serve/service_config.h"
#include "serve/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Room for what nearly every header is, in bytes. */
#define FIRST_SIZE 256

/* Frees the arrival; its client is the caller's. */
static struct new_client take_client(struct proxy_arrival *a)
{
    struct new_client client = a->client;
    if (!list_is_empty(&a->link)) {
        list_remove(&a->link);
        timer_disarm(&a->timer);
        event_loop_remove(&a->worker->loop, &a->source);
    }
    free(a->bytes);
    free(a);
    return client;
}

static void drop(struct proxy_arrival *a, enum reason reason, int error)
{
    struct worker *worker = a->worker;
    const struct new_client client = take_client(a);
    worker_drop(worker, &client, reason, error);
}

/* `why`: static text, or NULL. */
static void refuse(struct proxy_arrival *a, enum reason reason, const char *why)
{
    struct worker *worker = a->worker;
    const struct new_client client = take_client(a);
    worker_refuse(worker, &client, reason, why);
}

/* A check of a load balancer comes and goes without a byte, and is nobody's mistake. */
static void leave(struct proxy_arrival *a, int error)
{
    if (a->have > 0)
        refuse(a, REASON_BAD_PROXY_HEADER, "a header that is cut short");
    else if (error == 0)
        drop(a, REASON_CLIENT_CLOSED, 0);
    else
        drop(a, error == ECONNRESET ? REASON_RESET : REASON_ERROR, error == ECONNRESET ? 0 : error);
}

static enum proxied_kind kind_of(const struct proxy_header *header)
{
    if (header->is_relayed)
        return PROXIED_CLIENT;
    return header->is_local ? PROXIED_CHECK : PROXIED_UNKNOWN;
}

/* What the connection keeps of the header: nothing of one that says nothing, unless its service shows that.
 * The log shows a path. Returns false when memory is short. */
static bool note_proxy(struct proxy_arrival *a, const struct proxy_header *header)
{
    bool is_shown = a->client.config->service->describe || header->source.path.length > 0;
    struct span shown = {a->bytes, is_shown ? header->length : 0};
    enum proxied_kind kind = kind_of(header);
    if (kind == PROXIED_UNKNOWN && !is_shown)
        return true;
    a->client.proxied = proxied_new(&a->client.client, kind, shown);
    return a->client.proxied;
}

/* The client is who the header says, or the proxy itself, which needs no admission beyond its own. */
static void let_in(struct proxy_arrival *a, const struct proxy_header *header)
{
    struct worker *worker = a->worker;
    struct new_client *client = &a->client;
    enum reason reason = note_proxy(a, header) ? REASON_NONE : REASON_ERROR;
    if (reason == REASON_NONE && header->is_relayed) {
        client->client = header->source.address;
        reason =
            admission_check(worker->admission, &client->config->rules, &client->client, &client->network);
    }
    if (reason == REASON_NONE) {
        const struct new_client known = take_client(a);
        connection_open(worker, &known);
    } else if (reason == REASON_ERROR) {
        drop(a, REASON_ERROR, ENOMEM);
    } else {
        refuse(a, reason, NULL);
    }
}

/* So many bytes more can be received; 0: memory is short. Grows with what has come, not with what a length
 * promises. */
static size_t room_for(struct proxy_arrival *a, size_t length)
{
    if (a->have == a->size) {
        size_t size = a->size > 0 ? 2 * a->size : FIRST_SIZE;
        uint8_t *grown = realloc(a->bytes, size);
        if (!grown)
            return 0;
        a->bytes = grown;
        a->size = size;
    }
    return length < a->size - a->have ? length : a->size - a->have;
}

/* Receives what there is. Returns whether the arrival still waits; otherwise it is gone. */
static bool look(struct proxy_arrival *a)
{
    struct proxy_header header;
    enum proxy_header_state state;
    while ((state = proxy_header_parse((struct span){a->bytes, a->have}, &header)) ==
           PROXY_HEADER_INCOMPLETE) {
        size_t room = room_for(a, header.length - a->have);
        if (room == 0) {
            drop(a, REASON_ERROR, ENOMEM);
            return false;
        }
        ssize_t length = recv(a->source.fd, a->bytes + a->have, room, 0);
        if (length < 0 && errno == EAGAIN)
            return true;
        if (length <= 0) {
            leave(a, length < 0 ? errno : 0);
            return false;
        }
        a->have += (size_t)length;
    }
    if (state == PROXY_HEADER_COMPLETE)
        let_in(a, &header);
    else
        refuse(a, REASON_BAD_PROXY_HEADER, header.error);
    return false;
}

static void on_ready(struct event_source *source, uint32_t events)
{
    (void)events;
    look(CONTAINER_OF(source, struct proxy_arrival, source));
}

static void on_timer(struct timer *timer)
{
    struct proxy_arrival *a = CONTAINER_OF(timer, struct proxy_arrival, timer);
    if (look(a))
        refuse(a, REASON_BAD_PROXY_HEADER, "no whole header within proxy_timeout");
}

/* What another process has received. Returns false when memory is short. Of the progress only its end is
 * left, which is the connection's. */
static bool restore(struct proxy_arrival *a)
{
    struct progress *progress = a->client.progress;
    size_t length = progress->unsent_length;
    a->bytes = malloc(length + FIRST_SIZE);
    if (!a->bytes)
        return false;
    a->size = length + FIRST_SIZE;
    a->have = length;
    if (length > 0)
        memcpy(a->bytes, progress->unsent, length);
    progress->unsent_length = 0;
    progress->active_usec = event_loop_stamp(&a->worker->loop);
    if (!progress->ends) {
        free(progress);
        a->client.progress = NULL;
    }
    return true;
}

static int wait_for_header(struct proxy_arrival *a)
{
    struct worker *worker = a->worker;
    int r = event_loop_add(&worker->loop, &a->source, EPOLLIN);
    if (r < 0)
        return r;
    list_append(&worker->arrivals, &a->link);
    event_loop_arm(&worker->loop, &a->timer, a->client.accepted_usec + a->client.config->proxy.timeout_usec);
    return 0;
}

void proxy_arrival_open(struct worker *worker, const struct new_client *new_client)
{
    struct proxy_arrival *a = malloc(sizeof *a);
    if (!a) {
        worker_drop(worker, new_client, REASON_ERROR, ENOMEM);
        return;
    }
    *a = (struct proxy_arrival){
        .source = {.fd = new_client->fd, .ready = on_ready},
        .worker = worker,
        .client = *new_client,
    };
    timer_init(&a->timer, on_timer);
    list_init(&a->link);
    if (a->client.progress && !restore(a)) {
        drop(a, REASON_ERROR, ENOMEM);
        return;
    }
    if (!look(a))
        return;
    if (worker->draining || a->client.progress) {
        proxy_arrival_close(a);
        return;
    }
    int r = wait_for_header(a);
    if (r < 0)
        drop(a, REASON_ERROR, -r);
}

void proxy_arrival_drain(struct proxy_arrival *a)
{
    if (look(a))
        proxy_arrival_close(a);
}

void proxy_arrival_close(struct proxy_arrival *a)
{
    drop(a, REASON_DRAINED, 0);
}

void proxy_arrival_save(const struct proxy_arrival *a, struct new_client *client, struct progress *progress)
{
    *client = a->client;
    *progress = (struct progress){.header_due = true, .unsent = a->bytes, .unsent_length = a->have};
}
