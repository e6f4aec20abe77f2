#include "serve/worker.h"

#include "rig.h"
#include "serve/progress.h"

FIXTURE(rig_start, rig_stop)

/* Puts a client into the worker's queue; returns its end. */
static int give(const struct service_config *config)
{
    int client;
    tcp_pair(0, &client, &rig.server);
    const struct new_client new_client = accepted_for(config, rig.server);
    ck_assert(conn_queue_put(rig.queue, 0, &new_client));
    return client;
}

static void start(void)
{
    ck_assert_int_eq(worker_start(&rig.worker), 0);
}

static void rest(void)
{
    worker_command(&rig.worker, WORKER_STOPS);
    worker_join(&rig.worker);
}

static void expect_echo(int client, const char *text)
{
    send_text(client, text);
    expect_text(client, text);
}

TEST(serves_what_is_queued)
{
    struct service_config config = config_for("echo");
    start();
    int client = give(&config);
    event_loop_wake(&rig.worker.loop);
    expect_echo(client, "hello");
    shutdown(client, SHUT_WR);
    expect_end(client);
    WAIT_FOR(closed() == 1);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 5);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_out), 5);
    close(client);
    rest();
    ck_assert_int_eq(atomic_load(&rig.worker.failure), 0);
}

TEST(one_wake_for_more_than_a_batch)
{
    static int clients[150];
    struct service_config config = config_for("echo");
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        clients[i] = give(&config);
    start();
    event_loop_wake(&rig.worker.loop);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        expect_echo(clients[i], "x");
    ck_assert_uint_eq(conn_queue_length(rig.queue), 0);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        close(clients[i]);
    WAIT_FOR(closed() == COUNT_OF(clients));
    rest();
}

TEST(resting_keeps_connections_whole)
{
    struct service_config config = config_for("echo");
    start();
    int client = give(&config);
    event_loop_wake(&rig.worker.loop);
    expect_echo(client, "before");
    for (int round = 0; round < 3; round++) {
        rest();
        ck_assert_uint_eq(closed(), 0);
        send_text(client, "meanwhile");
        ck_assert(becomes_readable(rig.server)); /* it waits there */
        expect_nothing_yet(client);
        start();
        expect_text(client, "meanwhile");
        expect_echo(client, "after");
    }
    rest();
    close(client);
}

struct told {
    unsigned clients;
    uint64_t ids, bytes_in; /* sums */
    unsigned fails_at;      /* 0: never */
};

static int tell(void *user, const struct new_client *client, const struct progress *progress)
{
    struct told *told = user;
    if (++told->clients == told->fails_at)
        return -ENOSPC;
    told->ids += client->id;
    told->bytes_in += progress->bytes_in;
    ck_assert_ptr_nonnull(client->config);
    ck_assert_int_eq(progress->reason, REASON_NONE);
    return 0;
}

/* Those in the queue among them; and nothing changes hands, so that it can go on with all of them. */
TEST(tells_of_each_connection)
{
    struct service_config config = config_for("echo");
    struct told all = {0}, again = {0}, one = {.fails_at = 1};
    int clients[100];
    start();
    clients[0] = give(&config);
    event_loop_wake(&rig.worker.loop);
    expect_echo(clients[0], "hello");
    rest();
    for (size_t i = 1; i < COUNT_OF(clients); i++)
        clients[i] = give(&config);
    ck_assert_int_eq(worker_save(&rig.worker, &all, tell), 0);
    ck_assert_uint_eq(all.clients, COUNT_OF(clients));
    ck_assert_uint_eq(all.ids, COUNT_OF(clients) * (COUNT_OF(clients) + 1) / 2);
    ck_assert_uint_eq(all.bytes_in, 5);
    ck_assert_int_eq(worker_save(&rig.worker, &again, tell), 0);
    ck_assert_uint_eq(again.ids, all.ids);
    ck_assert_int_eq(worker_save(&rig.worker, &one, tell), -ENOSPC);
    ck_assert_uint_eq(one.clients, 1);
    ck_assert_uint_eq(closed(), 0);
    start();
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        expect_echo(clients[i], "x");
        close(clients[i]);
    }
    WAIT_FOR(closed() == COUNT_OF(clients));
    rest();
}

TEST(tells_of_nobody)
{
    struct told nobody = {0};
    ck_assert_int_eq(worker_save(&rig.worker, &nobody, tell), 0);
    ck_assert_uint_eq(nobody.clients, 0);
}

/* What a client in the queue brings from another process is told again, or counted as it is lost. */
TEST(queued_client_with_progress)
{
    const struct progress progress = {.bytes_in = 77, .active_usec = clock_monotonic_usec()};
    struct service_config config = config_for("echo");
    struct told told = {0};
    int clients[2];
    for (size_t i = 0; i < 2; i++) {
        tcp_pair(0, &clients[i], &rig.server);
        struct new_client new_client = accepted_for(&config, rig.server);
        new_client.progress = progress_copy(&progress);
        ck_assert(conn_queue_put(rig.queue, 0, &new_client));
        if (i == 0)
            ck_assert_int_eq(worker_save(&rig.worker, &told, tell), 0);
    }
    ck_assert_uint_eq(told.clients, 1);
    ck_assert_uint_eq(told.bytes_in, 77);
    close(clients[0]);
    close(clients[1]); /* the second is in the queue when the worker goes */
}

TEST(drains_and_says_so)
{
    struct service_config config = config_for("upper");
    start();
    int idle = give(&config), busy = give(&config);
    event_loop_wake(&rig.worker.loop);
    send_text(idle, "a");
    expect_text(idle, "A");
    send_text(busy, "b");
    expect_text(busy, "B");
    ck_assert(!atomic_load(&rig.worker.drained));
    int late = give(&config); /* in the queue when the drain comes */
    send_text(late, "late");
    worker_command(&rig.worker, WORKER_DRAINS);
    expect_end(idle);
    expect_end(busy);
    expect_text(late, "LATE");
    expect_end(late);
    ck_assert(!atomic_load(&rig.worker.drained)); /* the clients have not left */
    close(idle);
    close(busy);
    close(late);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken */
    WAIT_FOR(atomic_load(&rig.worker.drained));
    ck_assert_uint_eq(closed_as(REASON_DRAINED), 3);
    rest();
}

TEST(drains_at_once_without_clients)
{
    start();
    worker_command(&rig.worker, WORKER_DRAINS);
    WAIT_FOR(atomic_load(&rig.worker.drained));
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
    rest();
}

TEST(announces_room)
{
    struct service_config config = config_for("echo");
    start();
    capacity_signal_await(&rig.capacity); /* before the worker can see the client */
    int client = give(&config);
    event_loop_wake(&rig.worker.loop);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* taken out of the queue */
    ck_assert(!atomic_load(&rig.capacity.awaited));
    ck_assert_uint_eq(rig.main_wakes, 1);
    expect_echo(client, "x");
    capacity_signal_await(&rig.capacity);
    close(client);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* closed */
    ck_assert_uint_eq(closed(), 1);
    rest();
}

TEST(nobody_is_woken_unasked)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    ck_assert(!atomic_load(&rig.main_loop.wake_pending));
}

TEST(broken_loop_is_reported)
{
    fault_rules("epoll_wait@other:EBADF");
    start();
    WAIT_FOR(atomic_load(&rig.worker.failure) < 0);
    fault_disarm();
    ck_assert_int_eq(atomic_load(&rig.worker.failure), -EBADF);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken */
    worker_join(&rig.worker);
}

TEST(failed_start)
{
    fault_arm("pthread_create", EAGAIN, 1);
    int r = worker_start(&rig.worker);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
}

static const char *const init_rules[] = {"malloc:ENOMEM:1", "epoll_create1:ENOMEM:1", "eventfd:ENOMEM:1",
                                         "epoll_ctl:ENOMEM:1"};

TEST_EACH(failed_init_leaves_nothing, init_rules)
{
    struct worker other;
    unsigned before = open_descriptors();
    fault_rules(*c);
    int r = worker_init(&other, 1, rig.queue, &rig.capacity, &rig.admission);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(open_descriptors(), before);
}

TEST(deinit_closes_everybody)
{
    struct service_config config = config_for("echo");
    int open = serve(&config), queued = give(&config), queued_too = give(&config);
    worker_deinit(&rig.worker);
    ck_assert_uint_eq(closed_as(REASON_DRAINED), 3);
    expect_end(open);
    expect_end(queued);
    expect_end(queued_too);
    close(open);
    close(queued);
    close(queued_too);
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity, &rig.admission), 0);
    rig.opened = 0;
}

/* And the old buffer stays whole: a sanitizer would know. */
TEST(scratch_grows_when_there_is_memory)
{
    enum { LARGE = 1 << 24 };
    uint8_t *first = worker_scratch(&rig.worker, 100);
    ck_assert_ptr_nonnull(first);
    fault_arm("malloc", ENOMEM, 1);
    uint8_t *larger = worker_scratch(&rig.worker, LARGE);
    fault_disarm();
    ck_assert_ptr_null(larger);
    ck_assert_ptr_eq(worker_scratch(&rig.worker, 100), first);
    memset(first, 1, 100);
    larger = worker_scratch(&rig.worker, LARGE);
    ck_assert_ptr_nonnull(larger);
    memset(larger, 1, LARGE);
    ck_assert_ptr_eq(worker_scratch(&rig.worker, LARGE), larger);
}
