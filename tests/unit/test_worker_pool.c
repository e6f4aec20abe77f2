#include "serve/worker_pool.h"

#include "rig.h"

static struct worker_pool pool;

static void start(unsigned workers, size_t depth)
{
    be_quiet();
    memset(&rig, 0, sizeof rig);
    ck_assert_int_eq(event_loop_init(&rig.main_loop, on_main_wake), 0);
    rig.capacity.loop = &rig.main_loop;
    ck_assert_int_eq(worker_pool_init(&pool, workers, depth, &rig.capacity), 0);
    ck_assert_uint_eq(pool.count, workers);
}

static void stop(void)
{
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    event_loop_deinit(&rig.main_loop);
    ck_assert_uint_eq(atomic_load(&rig.source.connections), 0);
}

/* Returns the client's end, or -1 when there was no room. */
static int give(const struct service_config *config)
{
    int client, server;
    tcp_pair(0, &client, &server);
    const struct new_client new_client = accepted_for(config, server);
    if (worker_pool_give(&pool, &new_client))
        return client;
    peer_network_release(new_client.network); /* still ours */
    service_config_unref(new_client.config);
    close(server);
    close(client);
    return -1;
}

START_TEST(spreads_evenly)
{
    static int clients[31];
    struct service_config config = config_for("echo");
    start(3, 64);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        clients[i] = give(&config);
    ck_assert_uint_eq(worker_pool_connections(&pool), 31);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_ge(worker_pool_connections_of(&pool, i), 10);
        ck_assert_uint_le(worker_pool_connections_of(&pool, i), 11);
    }
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    ck_assert_uint_eq(pool.started, 3);
    worker_pool_flush(&pool);
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        send_text(clients[i], "x");
        expect_text(clients[i], "x");
    }
    /* All of one worker's clients leave; whoever comes next goes there. */
    uint64_t left = worker_pool_connections_of(&pool, 1);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        if (i % 3 == 1)
            close(clients[i]);
    WAIT_FOR(worker_pool_connections_of(&pool, 1) == 0);
    ck_assert_uint_eq(worker_pool_connections(&pool), 31 - left);
    int next = give(&config);
    ck_assert_uint_eq(worker_pool_connections_of(&pool, 1), 1);
    worker_pool_flush(&pool);
    send_text(next, "y");
    expect_text(next, "y");
    close(next);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        if (i % 3 != 1)
            close(clients[i]);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
    stop();
}
END_TEST

START_TEST(full_queue_refuses)
{
    struct service_config config = config_for("echo");
    int clients[3];
    start(2, 3);
    ck_assert(!worker_pool_queue_is_full(&pool));
    for (int i = 0; i < 3; i++)
        ck_assert_int_ge(clients[i] = give(&config), 0);
    ck_assert(worker_pool_queue_is_full(&pool));
    ck_assert_int_eq(give(&config), -1);
    ck_assert_uint_eq(worker_pool_connections(&pool), 3);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    worker_pool_flush(&pool);
    WAIT_FOR(!worker_pool_queue_is_full(&pool));
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
    stop();
}
END_TEST

START_TEST(flush_wakes_each_once)
{
    struct service_config config = config_for("echo");
    int clients[4];
    start(3, 8);
    for (int i = 0; i < 4; i++)
        clients[i] = give(&config);
    fault_rules("write:count");
    worker_pool_flush(&pool);
    worker_pool_flush(&pool); /* nobody new */
    ck_assert_uint_eq(fault_disarm(), 3);
    stop();
    for (int i = 0; i < 4; i++) {
        expect_end(clients[i]);
        close(clients[i]);
    }
}
END_TEST

START_TEST(drains)
{
    struct service_config config = config_for("echo");
    int clients[4];
    start(2, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    for (int i = 0; i < 4; i++)
        clients[i] = give(&config);
    worker_pool_flush(&pool);
    for (int i = 0; i < 4; i++) {
        send_text(clients[i], "x");
        expect_text(clients[i], "x");
    }
    ck_assert(!worker_pool_is_drained(&pool));
    worker_pool_drain(&pool);
    for (int i = 0; i < 4; i++) {
        expect_end(clients[i]);
        close(clients[i]);
    }
    WAIT_FOR(worker_pool_is_drained(&pool));
    ck_assert_uint_eq(worker_pool_connections(&pool), 0);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken */
    stop();
}
END_TEST

START_TEST(failure_names_the_worker)
{
    unsigned worker = 99;
    start(3, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    ck_assert_int_eq(worker_pool_failure(&pool, &worker), 0);
    ck_assert_uint_eq(worker, 99);
    fault_rules("epoll_wait@worker-2:EINVAL");
    event_loop_wake(&pool.workers[1].loop); /* leaves the wait that it is in */
    WAIT_FOR(worker_pool_failure(&pool, &worker) < 0);
    fault_disarm();
    ck_assert_int_eq(worker_pool_failure(&pool, &worker), -EINVAL);
    ck_assert_uint_eq(worker, 1);
    stop();
}
END_TEST

START_TEST(busy_poll_comes_and_goes)
{
    struct service_config config = config_for("echo");
    start(2, 8);
    worker_pool_busy_poll(&pool, 50);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    int client = give(&config);
    worker_pool_flush(&pool);
    for (int i = 0; i < 50; i++) {
        send_text(client, "ping");
        expect_text(client, "ping");
    }
    worker_pool_busy_poll(&pool, 0);
    send_text(client, "ping");
    expect_text(client, "ping");
    close(client);
    stop();
}
END_TEST

START_TEST(asks_for_a_sign_of_life)
{
    start(2, 64);
    ck_assert_ptr_null(worker_pool_stuck(&pool)); /* nobody works, nobody is stuck */
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    for (int i = 0; i < 100; i++) {
        worker_pool_ping(&pool);
        WAIT_FOR(!worker_pool_stuck(&pool));
    }
    fault_rules("epoll_wait@worker-2:sleep=60000");
    worker_pool_ping(&pool); /* ends the wait that they are in */
    WAIT_FOR(!worker_pool_stuck(&pool));
    worker_pool_ping(&pool);
    WAIT_FOR(worker_pool_stuck(&pool) == &pool.workers[1]);
    fault_disarm();
    WAIT_FOR(!worker_pool_stuck(&pool));
    ck_assert_int_gt(atomic_load(&pool.workers[0].tid), 0);
    ck_assert_int_ne(atomic_load(&pool.workers[0].tid), atomic_load(&pool.workers[1].tid));
    stop();
}
END_TEST

START_TEST(stop_leaves_connections_whole)
{
    struct service_config config = config_for("echo");
    start(2, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    int client = give(&config);
    worker_pool_flush(&pool);
    send_text(client, "one");
    expect_text(client, "one");
    worker_pool_stop(&pool);
    ck_assert_uint_eq(pool.started, 0);
    ck_assert_uint_eq(worker_pool_connections(&pool), 1);
    expect_nothing_yet(client);
    stop();
    expect_end(client);
    close(client);
}
END_TEST

START_TEST(failed_init_leaves_nothing)
{
    static const char *const calls[] = {"calloc", "malloc", "epoll_create1", "eventfd", "epoll_ctl_add"};
    start(1, 1); /* for its vacancy */
    unsigned before = open_descriptors();
    unsigned failed = 0;
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        for (unsigned long nth = 1;; nth++) {
            struct worker_pool other;
            fault_arm(calls[i], ENOMEM, nth);
            int r = worker_pool_init(&other, 3, 16, &rig.capacity);
            unsigned long hits = fault_disarm();
            if (hits == 0) {
                ck_assert_int_eq(r, 0);
                worker_pool_deinit(&other);
                break;
            }
            failed++;
            ck_assert_int_eq(r, -ENOMEM);
            ck_assert_uint_eq(open_descriptors(), before);
        }
    ck_assert_uint_ge(failed, 4 + 4 + 3 + 3 + 3);
    stop();
}
END_TEST

START_TEST(failed_start_can_be_stopped)
{
    start(3, 8);
    fault_arm("pthread_create", EAGAIN, 2);
    int r = worker_pool_start(&pool);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
    ck_assert_uint_eq(pool.started, 1);
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("worker_pool");
    tcase_add_test(tests, spreads_evenly);
    tcase_add_test(tests, full_queue_refuses);
    tcase_add_test(tests, flush_wakes_each_once);
    tcase_add_test(tests, drains);
    tcase_add_test(tests, failure_names_the_worker);
    tcase_add_test(tests, busy_poll_comes_and_goes);
    tcase_add_test(tests, asks_for_a_sign_of_life);
    tcase_add_test(tests, stop_leaves_connections_whole);
    tcase_add_test(tests, failed_init_leaves_nothing);
    tcase_add_test(tests, failed_start_can_be_stopped);
    return run_case(tests);
}
