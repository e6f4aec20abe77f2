#include "serve/worker_pool.h"

#include "rig.h"

static struct worker_pool pool;

static void start(unsigned workers, size_t depth)
{
    rig_start_main(on_main_wake);
    ck_assert_int_eq(worker_pool_init(&pool, workers, depth, &rig.capacity, &rig.admission), 0);
}

static void stop(void)
{
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    event_loop_deinit(&rig.main_loop);
    ck_assert_uint_eq(atomic_load(&rig.source.connections), 0);
}

FIXTURE(NULL, stop)

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

/* As many clients, whom the workers know. */
static void give_many(int *clients, size_t count, const struct service_config *config)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_int_ge(clients[i] = give(config), 0);
    worker_pool_flush(&pool);
}

static void expect_echo(int client)
{
    send_text(client, "x");
    expect_text(client, "x");
}

TEST(spreads_evenly)
{
    static int clients[31];
    struct service_config config = config_for("echo");
    start(3, 64);
    give_many(clients, COUNT_OF(clients), &config);
    ck_assert_uint_eq(worker_pool_connections(&pool), 31);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_ge(worker_pool_connections_of(&pool, i), 10);
        ck_assert_uint_le(worker_pool_connections_of(&pool, i), 11);
    }
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        expect_echo(clients[i]);
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
    expect_echo(next);
    close(next);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        if (i % 3 != 1)
            close(clients[i]);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
}

TEST(full_queue_refuses)
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
}

TEST(flush_wakes_each_once)
{
    struct service_config config = config_for("echo");
    start(3, 8);
    for (int i = 0; i < 4; i++)
        ck_assert_int_ge(give(&config), 0);
    fault_rules("write:count");
    worker_pool_flush(&pool);
    worker_pool_flush(&pool); /* nobody new */
    ck_assert_uint_eq(fault_disarm(), 3);
}

TEST(drains)
{
    struct service_config config = config_for("echo");
    int clients[4];
    start(2, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    give_many(clients, 4, &config);
    for (int i = 0; i < 4; i++)
        expect_echo(clients[i]);
    ck_assert(!worker_pool_is_drained(&pool));
    worker_pool_drain(&pool);
    for (int i = 0; i < 4; i++) {
        expect_end(clients[i]);
        close(clients[i]);
    }
    WAIT_FOR(worker_pool_is_drained(&pool));
    ck_assert_uint_eq(worker_pool_connections(&pool), 0);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken */
}

TEST(failure_names_the_worker)
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
}

TEST(busy_poll_comes_and_goes)
{
    struct service_config config = config_for("echo");
    start(2, 8);
    worker_pool_busy_poll(&pool, 50);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    int client = give(&config);
    worker_pool_flush(&pool);
    for (int i = 0; i < 50; i++)
        expect_echo(client);
    worker_pool_busy_poll(&pool, 0);
    expect_echo(client);
    close(client);
}

TEST(asks_for_a_sign_of_life)
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
}

TEST(stop_leaves_connections_whole)
{
    struct service_config config = config_for("echo");
    start(2, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    int client;
    give_many(&client, 1, &config);
    expect_echo(client);
    worker_pool_stop(&pool);
    ck_assert_uint_eq(worker_pool_connections(&pool), 1);
    expect_nothing_yet(client);
}

TEST(starts_again_after_a_stop)
{
    struct service_config config = config_for("echo");
    int clients[8];
    start(2, 8);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(worker_pool_start(&pool), 0);
        if (round == 0)
            give_many(clients, 4, &config);
        for (int i = 0; i < 4; i++)
            expect_echo(clients[i]);
        worker_pool_stop(&pool);
    }
    give_many(clients + 4, 4, &config); /* while nobody works */
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    worker_pool_flush(&pool);
    for (int i = 0; i < 8; i++)
        expect_echo(clients[i]);
    for (int i = 0; i < 8; i++)
        close(clients[i]);
    WAIT_FOR(worker_pool_connections(&pool) == 0);
}

/* Those that drain go on draining. */
TEST(starts_again_in_a_drain)
{
    struct service_config config = config_for("echo");
    int client;
    start(1, 8);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    give_many(&client, 1, &config);
    expect_echo(client);
    worker_pool_drain(&pool);
    expect_end(client);
    worker_pool_stop(&pool);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    close(client);
    WAIT_FOR(worker_pool_is_drained(&pool));
    ck_assert_uint_eq(worker_pool_totals(&pool).closed_by[REASON_DRAINED], 1);
}

/* Counts those of whom it is told, until `left` more have come. */
static int count_down(void *left, const struct new_client *client, const struct progress *progress)
{
    (void)client;
    (void)progress;
    unsigned *clients = left;
    return --*clients > 0 ? 0 : -ENOMEM;
}

TEST(tells_of_the_connections_of_all_workers)
{
    struct service_config config = config_for("echo");
    int clients[7];
    start(3, 64);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    give_many(clients, 5, &config);
    for (int i = 0; i < 5; i++)
        expect_echo(clients[i]);
    worker_pool_stop(&pool);
    give_many(clients + 5, 2, &config); /* which stay in the queue */
    unsigned left = 100;
    ck_assert_int_eq(worker_pool_save(&pool, &left, count_down), 0);
    ck_assert_uint_eq(left, 93);
    for (unsigned until = 1; until <= 7; until++) {
        left = until;
        ck_assert_int_eq(worker_pool_save(&pool, &left, count_down), -ENOMEM);
        ck_assert_uint_eq(left, 0); /* nobody more is told of */
    }
    ck_assert_uint_eq(worker_pool_connections(&pool), 7);
}

/* What the process before has counted comes first. */
TEST(totals_go_on)
{
    struct totals before = {.bytes_in = 1000, .bytes_out = 2000}, totals;
    struct service_config config = config_for("echo");
    for (unsigned reason = 0; reason < REASON_COUNT; reason++)
        before.closed_by[reason] = 10 * reason;
    start(2, 8);
    worker_pool_restore_totals(&pool, &before);
    totals = worker_pool_totals(&pool);
    ck_assert_mem_eq(&totals, &before, sizeof totals);
    ck_assert_uint_eq(worker_pool_connections(&pool), 0);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
    int clients[2];
    give_many(clients, 2, &config);
    ck_assert_uint_eq(worker_pool_connections(&pool), 2);
    ck_assert_uint_eq(worker_pool_connections_of(&pool, 0), 1); /* spread as ever */
    for (int i = 0; i < 2; i++) {
        expect_echo(clients[i]);
        close(clients[i]);
    }
    WAIT_FOR(worker_pool_connections(&pool) == 0);
    totals = worker_pool_totals(&pool);
    ck_assert_uint_eq(totals.bytes_in, 1002);
    ck_assert_uint_eq(totals.bytes_out, 2002);
    before.closed_by[REASON_CLIENT_CLOSED] += 2;
    ck_assert_mem_eq(totals.closed_by, before.closed_by, sizeof totals.closed_by);
}

static const struct {
    const char *call;
    unsigned long times; /* that it is made at least */
} init_calls[] = {{"calloc", 4}, {"malloc", 4}, {"epoll_create1", 3}, {"eventfd", 3}, {"epoll_ctl_add", 3}};

TEST_EACH(failed_init_leaves_nothing, init_calls)
{
    struct worker_pool other;
    start(1, 1); /* for its capacity signal */
    unsigned before = open_descriptors();
    unsigned long nth = 0, hits;
    do {
        fault_arm(c->call, ENOMEM, ++nth);
        int r = worker_pool_init(&other, 3, 16, &rig.capacity, &rig.admission);
        hits = fault_disarm();
        ck_assert_int_eq(r, hits > 0 ? -ENOMEM : 0);
        if (hits > 0)
            ck_assert_uint_eq(open_descriptors(), before);
    } while (hits > 0);
    ck_assert_uint_gt(nth, c->times);
    worker_pool_deinit(&other);
}

TEST(failed_start_can_be_stopped)
{
    start(3, 8);
    fault_arm("pthread_create", EAGAIN, 2);
    int r = worker_pool_start(&pool);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
}
