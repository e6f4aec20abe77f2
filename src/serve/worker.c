#include "serve/worker.h"

#include "base/clock.h"
#include "serve/connection.h"
#include "serve/events.h"
#include "serve/source_table.h"
#include "serve/terms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Enough for the default unsent_limit; a listener with a larger one makes it grow. Pages that no read reaches
 * cost nothing. */
#define FIRST_SCRATCH_SIZE (256 * 1024)

#define TAKE_BATCH 64

static void take_clients(struct worker *worker)
{
    struct accepted batch[TAKE_BATCH];
    size_t taken;
    do {
        taken = conn_queue_take(worker->queue, worker->index, batch, TAKE_BATCH);
        if (taken > 0)
            vacancy_announce(worker->vacancy);
        for (size_t i = 0; i < taken; i++)
            connection_open(worker, &batch[i]);
    } while (taken == TAKE_BATCH);
}

static void note_drained(struct worker *worker)
{
    if (!worker->draining || !list_is_empty(&worker->connections))
        return;
    atomic_store(&worker->drained, true);
    event_loop_wake(worker->vacancy->loop);
}

static void start_draining(struct worker *worker)
{
    worker->draining = true;
    LIST_FOR_EACH(link, &worker->connections)
    {
        connection_drain(CONTAINER_OF(link, struct connection, link));
    }
    note_drained(worker);
}

static void on_wake(struct event_loop *loop)
{
    struct worker *worker = CONTAINER_OF(loop, struct worker, loop);
    int wanted = atomic_load(&worker->wanted);
    if (wanted == WORKER_RESTS) {
        event_loop_quit(loop);
        return;
    }
    take_clients(worker);
    if (wanted == WORKER_DRAINS && !worker->draining)
        start_draining(worker);
}

int worker_init(struct worker *worker, unsigned index, struct conn_queue *queue, struct vacancy *vacancy)
{
    *worker = (struct worker){.index = index, .queue = queue, .vacancy = vacancy};
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
    pass_through_init(&worker->pass_through);
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
        event_loop_wake(worker->vacancy->loop);
    return NULL;
}

int worker_start(struct worker *worker)
{
    sem_init(&worker->started, 0, 0);
    int r = pthread_create(&worker->thread, NULL, run, worker);
    if (r != 0)
        return -r;
    while (sem_wait(&worker->started) < 0) /* EINTR is all that can be */
        continue;
    char name[16]; /* for ps and debuggers; pthread_setname_np(3) takes no longer one */
    snprintf(name, sizeof name, "worker-%u", worker->index + 1);
    pthread_setname_np(worker->thread, name);
    return 0;
}

void worker_want(struct worker *worker, enum worker_wanted wanted)
{
    atomic_store(&worker->wanted, (int)wanted);
    event_loop_wake(&worker->loop);
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    event_loop_own(&worker->loop);
}

void worker_deinit(struct worker *worker)
{
    LIST_FOR_EACH(link, &worker->connections)
    {
        connection_close(CONTAINER_OF(link, struct connection, link), REASON_DRAINED, 0);
    }
    struct accepted left;
    while (conn_queue_take(worker->queue, worker->index, &left, 1) == 1)
        worker_drop(worker, &left, REASON_DRAINED, 0);
    event_loop_deinit(&worker->loop);
    pass_through_deinit(&worker->pass_through);
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
    vacancy_announce(worker->vacancy);
    note_drained(worker);
}

void worker_drop(struct worker *worker, const struct accepted *accepted, enum reason reason, int error)
{
    struct connection_facts facts = {
        .id = accepted->id,
        .client = accepted->client,
        .listener = accepted->terms->listener,
        .service = accepted->terms->service->name,
        .worker = worker->index + 1,
        .duration_usec = clock_monotonic_usec() - accepted->accepted_usec,
    };
    release_source(accepted->source);
    close(accepted->fd);
    worker_count_closed(worker, reason);
    event_closed(&facts, reason, error, false);
    terms_unref(accepted->terms);
}
