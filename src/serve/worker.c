#include "serve/worker.h"

#include "base/clock.h"
#include "serve/connection.h"
#include "serve/connection_log.h"
#include "serve/peer_network_table.h"
#include "serve/progress.h"
#include "serve/proxied.h"
#include "serve/proxy_arrival.h"
#include "serve/service_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Enough for the default unsent_limit; a listener with a larger one makes it grow. Pages that no read reaches
 * cost nothing. */
#define FIRST_SCRATCH_SIZE (256 * 1024)

#define TAKE_BATCH 64

static void open_client(struct worker *worker, const struct new_client *client)
{
    bool header_due = client->progress ? client->progress->header_due : client->config->proxy.protocol;
    if (header_due)
        proxy_arrival_open(worker, client);
    else
        connection_open(worker, client);
}

static void take_clients(struct worker *worker)
{
    struct new_client batch[TAKE_BATCH];
    size_t taken;
    do {
        taken = conn_queue_take(worker->queue, worker->index, batch, TAKE_BATCH);
        if (taken > 0)
            capacity_signal_announce(worker->capacity);
        for (size_t i = 0; i < taken; i++)
            open_client(worker, &batch[i]);
    } while (taken == TAKE_BATCH);
}

static void note_drained(struct worker *worker)
{
    if (!worker->draining || !list_is_empty(&worker->connections) || !list_is_empty(&worker->arrivals))
        return;
    atomic_store(&worker->drained, true);
    event_loop_wake(worker->capacity->loop);
}

static void start_draining(struct worker *worker)
{
    worker->draining = true;
    LIST_FOR_EACH(link, &worker->connections)
    {
        connection_drain(CONTAINER_OF(link, struct connection, link));
    }
    LIST_FOR_EACH(link, &worker->arrivals)
    {
        proxy_arrival_drain(CONTAINER_OF(link, struct proxy_arrival, link));
    }
    note_drained(worker);
}

/* Somebody has called event_loop_wake; not at each turn. */
static void on_wake(struct event_loop *loop)
{
    struct worker *worker = CONTAINER_OF(loop, struct worker, loop);
    int wanted = atomic_load(&worker->command);
    if (wanted == WORKER_STOPS) {
        event_loop_quit(loop);
        return;
    }
    take_clients(worker);
    if (wanted == WORKER_DRAINS && !worker->draining)
        start_draining(worker);
}

int worker_init(struct worker *worker, unsigned index, struct conn_queue *queue,
                struct capacity_signal *capacity, struct admission *admission)
{
    *worker = (struct worker){.index = index, .queue = queue, .capacity = capacity, .admission = admission};
    list_init(&worker->arrivals);
    list_init(&worker->connections);
    worker->scratch = malloc(FIRST_SCRATCH_SIZE);
    if (!worker->scratch)
        return -ENOMEM;
    worker->scratch_size = FIRST_SCRATCH_SIZE;
    int r = event_loop_init(&worker->loop, on_wake);
    if (r < 0) {
        free(worker->scratch);
        return r;
    }
    splice_pipe_init(&worker->splice_pipe);
    return 0;
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    atomic_store(&worker->tid, gettid());
    sem_post(&worker->started);
    int r = event_loop_run(&worker->loop);
    /* A worker that cannot wait for events serves nobody; the main thread must hear of it. */
    atomic_store(&worker->failure, r);
    if (r < 0)
        event_loop_wake(worker->capacity->loop);
    return NULL;
}

int worker_start(struct worker *worker)
{
    sem_init(&worker->started, 0, 0);
    atomic_store(&worker->command, WORKER_SERVES);
    int r = pthread_create(&worker->thread, NULL, run, worker);
    if (r != 0)
        return -r;
    while (sem_wait(&worker->started) < 0) /* EINTR is all that can be */
        continue;
    char name[16]; /* for ps and debuggers; pthread_setname_np(3) takes no longer one */
    snprintf(name, sizeof name, "worker-%u", worker->index + 1);
    pthread_setname_np(worker->thread, name);
    /* Who came into the queue while it did not turn. */
    event_loop_wake(&worker->loop);
    return 0;
}

void worker_command(struct worker *worker, enum worker_command wanted)
{
    atomic_store(&worker->command, (int)wanted);
    event_loop_wake(&worker->loop);
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    event_loop_own(&worker->loop);
}

int worker_save(struct worker *worker, void *user,
                int (*save)(void *user, const struct new_client *client, const struct progress *progress))
{
    take_clients(worker);
    LIST_FOR_EACH(link, &worker->connections)
    {
        struct new_client client;
        struct progress progress;
        connection_save(CONTAINER_OF(link, struct connection, link), &client, &progress);
        int r = save(user, &client, &progress);
        if (r < 0)
            return r;
    }
    LIST_FOR_EACH(link, &worker->arrivals)
    {
        struct new_client client;
        struct progress progress;
        proxy_arrival_save(CONTAINER_OF(link, struct proxy_arrival, link), &client, &progress);
        int r = save(user, &client, &progress);
        if (r < 0)
            return r;
    }
    return 0;
}

void worker_deinit(struct worker *worker)
{
    LIST_FOR_EACH(link, &worker->connections)
    {
        connection_close(CONTAINER_OF(link, struct connection, link), REASON_DRAINED, 0);
    }
    LIST_FOR_EACH(link, &worker->arrivals)
    {
        proxy_arrival_close(CONTAINER_OF(link, struct proxy_arrival, link));
    }
    struct new_client left;
    while (conn_queue_take(worker->queue, worker->index, &left, 1) == 1)
        worker_drop(worker, &left, REASON_DRAINED, 0);
    event_loop_deinit(&worker->loop);
    splice_pipe_deinit(&worker->splice_pipe);
    free(worker->scratch);
}

uint8_t *worker_scratch(struct worker *worker, size_t size)
{
    if (size > worker->scratch_size) {
        uint8_t *larger = malloc(size);
        if (!larger)
            return NULL;
        free(worker->scratch);
        worker->scratch = larger;
        worker->scratch_size = size;
    }
    return worker->scratch;
}

void worker_count_closed(struct worker *worker, enum reason reason)
{
    counter_add(&worker->counters.closed_by[reason], 1);
    atomic_fetch_add(&worker->counters.closed, 1);
    capacity_signal_announce(worker->capacity);
    note_drained(worker);
}

static struct connection_facts facts_of(const struct worker *worker, const struct new_client *client)
{
    struct connection_facts facts = {
        .id = client->id,
        .client = client->client,
        .path = proxied_path(client->proxied),
        .proxy = proxied_by(client->proxied),
        .listener = client->config->listener,
        .service = client->config->service->name,
        .worker = worker->index + 1,
        .duration_usec = clock_monotonic_usec() - client->accepted_usec,
    };
    if (client->progress) {
        facts.bytes_in = client->progress->bytes_in;
        facts.bytes_out = client->progress->bytes_out;
    }
    return facts;
}

static void close_client(struct worker *worker, const struct new_client *client, enum reason reason)
{
    peer_network_release(client->network);
    close(client->fd);
    worker_count_closed(worker, reason);
}

/* Once the log has told of it. */
static void clear_client(const struct new_client *client)
{
    free(client->progress);
    free(client->proxied);
    service_config_unref(client->config);
}

void worker_drop(struct worker *worker, const struct new_client *new_client, enum reason reason, int error)
{
    const struct connection_facts facts = facts_of(worker, new_client);
    bool is_probe = reason == REASON_CLIENT_CLOSED || reason == REASON_RESET;
    close_client(worker, new_client, reason);
    connection_log_closed(&facts, reason, error, is_probe);
    clear_client(new_client);
}

void worker_refuse(struct worker *worker, const struct new_client *new_client, enum reason reason,
                   const char *why)
{
    const struct connection_facts facts = facts_of(worker, new_client);
    close_client(worker, new_client, reason);
    connection_log_refused(&facts, reason, why);
    clear_client(new_client);
}
