#include "serve/worker_pool.h"

#include <errno.h>
#include <stdlib.h>

int worker_pool_init(struct worker_pool *pool, unsigned workers, size_t queue_depth,
                     struct capacity_signal *capacity, struct admission *admission)
{
    *pool = (struct worker_pool){
        .workers = calloc(workers, sizeof *pool->workers),
        .assigned = calloc(workers, sizeof *pool->assigned),
        .waiting = calloc(workers, sizeof *pool->waiting),
    };
    int r = -ENOMEM;
    if (pool->workers && pool->assigned && pool->waiting)
        r = conn_queue_new(queue_depth, workers, &pool->queue);
    while (r == 0 && pool->count < workers) {
        r = worker_init(&pool->workers[pool->count], pool->count, pool->queue, capacity, admission);
        if (r == 0)
            pool->count++;
    }
    if (r < 0)
        worker_pool_deinit(pool);
    return r;
}

int worker_pool_start(struct worker_pool *pool)
{
    while (pool->started < pool->count) {
        int r = worker_start(&pool->workers[pool->started]);
        if (r < 0)
            return r;
        pool->started++;
    }
    return 0;
}

void worker_pool_busy_poll(struct worker_pool *pool, uint32_t usec)
{
    for (unsigned i = 0; i < pool->count; i++)
        atomic_store(&pool->workers[i].loop.busy_poll_usec, usec);
}

static unsigned idlest_worker(const struct worker_pool *pool)
{
    unsigned idlest = 0;
    uint64_t fewest = UINT64_MAX;
    for (unsigned i = 0; i < pool->count && fewest > 0; i++) {
        uint64_t connections = worker_pool_connections_of(pool, i);
        if (connections < fewest) {
            idlest = i;
            fewest = connections;
        }
    }
    return idlest;
}

bool worker_pool_give(struct worker_pool *pool, const struct new_client *new_client)
{
    unsigned worker = idlest_worker(pool);
    if (!conn_queue_put(pool->queue, worker, new_client))
        return false;
    pool->assigned[worker]++;
    pool->waiting[worker] = true;
    return true;
}

void worker_pool_flush(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->count; i++) {
        if (!pool->waiting[i])
            continue;
        pool->waiting[i] = false;
        event_loop_wake(&pool->workers[i].loop);
    }
}

bool worker_pool_queue_is_full(const struct worker_pool *pool)
{
    return conn_queue_length(pool->queue) >= conn_queue_depth(pool->queue);
}

uint64_t worker_pool_connections_of(const struct worker_pool *pool, unsigned worker)
{
    /* Sequentially consistent: see serve/capacity_signal.h. */
    return pool->assigned[worker] - atomic_load(&pool->workers[worker].counters.closed);
}

uint64_t worker_pool_connections(const struct worker_pool *pool)
{
    uint64_t connections = 0;
    for (unsigned i = 0; i < pool->count; i++)
        connections += worker_pool_connections_of(pool, i);
    return connections;
}

void worker_pool_drain(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->started; i++)
        worker_command(&pool->workers[i], WORKER_DRAINS);
}

bool worker_pool_is_drained(const struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->started; i++)
        if (!atomic_load(&pool->workers[i].drained))
            return false;
    return true;
}

void worker_pool_ping(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->started; i++)
        event_loop_ping(&pool->workers[i].loop);
}

const struct worker *worker_pool_stuck(const struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->started; i++)
        if (!event_loop_has_responded(&pool->workers[i].loop))
            return &pool->workers[i];
    return NULL;
}

int worker_pool_failure(const struct worker_pool *pool, unsigned *worker)
{
    for (unsigned i = 0; i < pool->started; i++) {
        int failure = atomic_load(&pool->workers[i].failure);
        if (failure < 0) {
            *worker = i;
            return failure;
        }
    }
    return 0;
}

void worker_pool_stop(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->started; i++)
        worker_command(&pool->workers[i], WORKER_STOPS);
    for (unsigned i = 0; i < pool->started; i++)
        worker_join(&pool->workers[i]);
    pool->started = 0;
}

struct totals worker_pool_totals(const struct worker_pool *pool)
{
    struct totals totals = {0};
    for (unsigned i = 0; i < pool->count; i++) {
        const struct counters *counters = &pool->workers[i].counters;
        totals.bytes_in += counter_read(&counters->bytes_in);
        totals.bytes_out += counter_read(&counters->bytes_out);
        for (unsigned reason = 0; reason < REASON_COUNT; reason++)
            totals.closed_by[reason] += counter_read(&counters->closed_by[reason]);
    }
    return totals;
}

void worker_pool_restore_totals(struct worker_pool *pool, const struct totals *totals)
{
    /* As if the first worker had done it all: only the sums are ever shown. */
    struct counters *counters = &pool->workers[0].counters;
    counter_add(&counters->bytes_in, totals->bytes_in);
    counter_add(&counters->bytes_out, totals->bytes_out);
    for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
        counter_add(&counters->closed_by[reason], totals->closed_by[reason]);
        counter_add(&counters->closed, totals->closed_by[reason]);
        pool->assigned[0] += totals->closed_by[reason];
    }
}

int worker_pool_save(struct worker_pool *pool, void *user,
                     int (*save)(void *user, const struct new_client *client,
                                 const struct progress *progress))
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < pool->count; i++)
        r = worker_save(&pool->workers[i], user, save);
    return r;
}

void worker_pool_deinit(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->count; i++)
        worker_deinit(&pool->workers[i]);
    conn_queue_free(pool->queue);
    free(pool->workers);
    free(pool->assigned);
    free(pool->waiting);
    *pool = (struct worker_pool){0};
}
