#include "serve/conn_queue.h"

#include "common.h"
#include "faults.h"

#include <pthread.h>
#include <sched.h>

static struct conn_queue *queue;

static void start(size_t depth, unsigned workers)
{
    ck_assert_int_eq(conn_queue_new(depth, workers, &queue), 0);
    ck_assert_uint_eq(conn_queue_depth(queue), depth);
    ck_assert_uint_eq(conn_queue_length(queue), 0);
}

static void stop(void)
{
    conn_queue_free(queue);
}

FIXTURE(NULL, stop)

static bool put(unsigned worker, uint64_t id)
{
    const struct new_client new_client = {.fd = (int)id + 100, .id = id, .accepted_usec = id * 3};
    return conn_queue_put(queue, worker, &new_client);
}

static uint64_t take(unsigned worker)
{
    struct new_client out;
    if (conn_queue_take(queue, worker, &out, 1) == 0)
        return 0;
    ck_assert_int_eq(out.fd, (int)out.id + 100);
    ck_assert_uint_eq(out.accepted_usec, out.id * 3);
    return out.id;
}

TEST(keeps_order)
{
    start(4, 1);
    ck_assert_uint_eq(take(0), 0);
    for (uint64_t round = 0; round < 10; round++) {
        for (uint64_t id = 1; id <= 3; id++)
            ck_assert(put(0, round * 10 + id));
        ck_assert_uint_eq(conn_queue_length(queue), 3);
        for (uint64_t id = 1; id <= 3; id++)
            ck_assert_uint_eq(take(0), round * 10 + id);
        ck_assert_uint_eq(take(0), 0);
    }
}

TEST(one_bound_for_all_lanes)
{
    start(5, 3);
    for (uint64_t id = 1; id <= 5; id++)
        ck_assert(put((unsigned)id % 3, id));
    ck_assert_uint_eq(conn_queue_length(queue), 5);
    for (unsigned worker = 0; worker < 3; worker++)
        ck_assert(!put(worker, 9));
    ck_assert_uint_eq(take(0), 3);
    ck_assert(put(2, 6)); /* room that one worker gave up serves another */
    ck_assert(!put(0, 7));
    ck_assert_uint_eq(take(1), 1);
    ck_assert_uint_eq(take(1), 4);
    ck_assert_uint_eq(take(1), 0);
    ck_assert_uint_eq(take(2), 2);
    ck_assert_uint_eq(take(2), 5);
    ck_assert_uint_eq(take(2), 6);
    ck_assert_uint_eq(take(0), 0);
    ck_assert_uint_eq(conn_queue_length(queue), 0);
}

TEST(takes_in_batches)
{
    struct new_client out[8];
    start(8, 2);
    for (uint64_t id = 1; id <= 7; id++)
        ck_assert(put(1, id));
    ck_assert_uint_eq(conn_queue_take(queue, 0, out, 8), 0);
    ck_assert_uint_eq(conn_queue_take(queue, 1, out, 0), 0);
    ck_assert_uint_eq(conn_queue_take(queue, 1, out, 3), 3);
    for (uint64_t i = 0; i < 3; i++)
        ck_assert_uint_eq(out[i].id, i + 1);
    ck_assert_uint_eq(conn_queue_length(queue), 4);
    ck_assert_uint_eq(conn_queue_take(queue, 1, out, 8), 4);
    for (uint64_t i = 0; i < 4; i++)
        ck_assert_uint_eq(out[i].id, i + 4);
}

TEST(depth_of_one)
{
    start(1, 2);
    for (uint64_t id = 1; id < 5; id++) {
        ck_assert(put(id % 2, id));
        ck_assert(!put(0, 9));
        ck_assert_uint_eq(take(1 - id % 2), 0);
        ck_assert_uint_eq(take(id % 2), id);
    }
}

static const char *const rules[] = {"calloc:ENOMEM:1", "malloc:ENOMEM:1"};

TEST_EACH(short_memory, rules)
{
    fault_rules(*c);
    int r = conn_queue_new(16, 2, &queue);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_ptr_null(queue);
}

#define LANES 2
#define EACH 20000

struct taker {
    unsigned worker;
    uint64_t out_of_order;
};

static void *take_each(void *argument)
{
    struct taker *taker = argument;
    struct new_client out[5];
    for (uint64_t next = 1; next <= EACH;) {
        size_t taken = conn_queue_take(queue, taker->worker, out, COUNT_OF(out));
        for (size_t i = 0; i < taken; i++, next++)
            taker->out_of_order += out[i].id != next || out[i].fd != (int)taker->worker;
        if (taken == 0)
            sched_yield();
    }
    return NULL;
}

TEST(two_lanes_two_threads)
{
    struct taker takers[LANES] = {{.worker = 0}, {.worker = 1}};
    pthread_t threads[LANES];
    start(7, LANES);
    for (unsigned i = 0; i < LANES; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_each, &takers[i]), 0);
    for (uint64_t id = 1; id <= EACH; id++)
        for (unsigned worker = 0; worker < LANES; worker++) {
            const struct new_client new_client = {.fd = (int)worker, .id = id};
            while (!conn_queue_put(queue, worker, &new_client))
                sched_yield();
        }
    for (unsigned i = 0; i < LANES; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(takers[i].out_of_order, 0);
    }
    ck_assert_uint_eq(conn_queue_length(queue), 0);
}
