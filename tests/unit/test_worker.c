#include "serve/worker.h"

#include "rig.h"

/* Puts a client into the worker's lane; returns its end. */
static int give(const struct service_config *config)
{
    int client, server;
    tcp_pair(0, &client, &server);
    const struct new_client new_client = accepted_for(config, server);
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

START_TEST(serves_what_is_queued)
{
    struct service_config config = config_for("echo");
    rig_start();
    start();
    int client = give(&config);
    event_loop_wake(&rig.worker.loop);
    expect_echo(client, "hello");
    shutdown(client, SHUT_WR);
    expect_end(client);
    WAIT_FOR(atomic_load(&rig.worker.counters.closed) == 1);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 5);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_out), 5);
    close(client);
    rest();
    ck_assert_int_eq(atomic_load(&rig.worker.failure), 0);
    rig_stop();
}
END_TEST

START_TEST(one_wake_for_more_than_a_batch)
{
    static int clients[150];
    struct service_config config = config_for("echo");
    rig_start();
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        clients[i] = give(&config);
    start();
    event_loop_wake(&rig.worker.loop);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        expect_echo(clients[i], "x");
    ck_assert_uint_eq(conn_queue_length(rig.queue), 0);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        close(clients[i]);
    WAIT_FOR(atomic_load(&rig.worker.counters.closed) == COUNT_OF(clients));
    rest();
    rig_stop();
}
END_TEST

START_TEST(resting_keeps_connections_whole)
{
    struct service_config config = config_for("echo");
    rig_start();
    start();
    int client = give(&config);
    event_loop_wake(&rig.worker.loop);
    expect_echo(client, "before");
    for (int round = 0; round < 3; round++) {
        rest();
        ck_assert(!list_is_empty(&rig.worker.connections));
        ck_assert_uint_eq(rig.worker.loop.sources, 1);
        send_text(client, "meanwhile");
        ck_assert(becomes_readable(newest()->source.fd)); /* it waits there */
        expect_nothing_yet(client);
        worker_command(&rig.worker, WORKER_SERVES);
        start();
        expect_text(client, "meanwhile");
        expect_echo(client, "after");
    }
    rest();
    close(client);
    rig_stop();
    ck_assert_uint_eq(closed_as(REASON_DRAINED), 1);
}
END_TEST

START_TEST(drains_and_says_so)
{
    struct service_config config = config_for("upper");
    rig_start();
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
    rig_stop();
}
END_TEST

START_TEST(drains_at_once_without_clients)
{
    rig_start();
    start();
    worker_command(&rig.worker, WORKER_DRAINS);
    WAIT_FOR(atomic_load(&rig.worker.drained));
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0);
    rest();
    rig_stop();
}
END_TEST

START_TEST(announces_room)
{
    struct service_config config = config_for("echo");
    rig_start();
    start();
    int client = give(&config);
    capacity_signal_await(&rig.capacity);
    event_loop_wake(&rig.worker.loop);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* taken out of the queue */
    ck_assert(!atomic_load(&rig.capacity.awaited));
    ck_assert_uint_eq(rig.main_wakes, 1);
    expect_echo(client, "x");
    capacity_signal_await(&rig.capacity);
    close(client);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* closed */
    ck_assert_uint_eq(atomic_load(&rig.worker.counters.closed), 1);
    rest();
    rig_stop();
}
END_TEST

START_TEST(nobody_is_woken_unasked)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    ck_assert(!atomic_load(&rig.main_loop.wake_pending));
    rig_stop();
}
END_TEST

START_TEST(broken_loop_is_reported)
{
    rig_start();
    fault_rules("epoll_wait@other:EBADF");
    start();
    WAIT_FOR(atomic_load(&rig.worker.failure) < 0);
    fault_disarm();
    ck_assert_int_eq(atomic_load(&rig.worker.failure), -EBADF);
    ck_assert_int_eq(event_loop_run(&rig.main_loop), 0); /* woken */
    worker_join(&rig.worker);
    rig_stop();
}
END_TEST

START_TEST(failed_start)
{
    rig_start();
    fault_arm("pthread_create", EAGAIN, 1);
    int r = worker_start(&rig.worker);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
    rig_stop(); /* without a start */
}
END_TEST

START_TEST(failed_init_leaves_nothing)
{
    static const struct {
        const char *call;
        int error;
    } cases[] = {{"malloc", ENOMEM}, {"epoll_create1", EMFILE}, {"eventfd", ENFILE}, {"epoll_ctl", ENOSPC}};
    rig_start();
    unsigned before = open_descriptors();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct worker other;
        fault_arm(cases[i].call, cases[i].error, 1);
        int r = worker_init(&other, 1, rig.queue, &rig.capacity);
        fault_disarm();
        ck_assert_int_eq(r, -cases[i].error);
        ck_assert_uint_eq(open_descriptors(), before);
    }
    rig_stop();
}
END_TEST

START_TEST(deinit_closes_everybody)
{
    struct service_config config = config_for("echo");
    unsigned before = open_descriptors();
    rig_start();
    int open = serve(&config), queued = give(&config), queued_too = give(&config);
    rig_stop();
    ck_assert_uint_eq(closed_as(REASON_DRAINED), 3);
    expect_end(open);
    expect_end(queued);
    expect_end(queued_too);
    close(open);
    close(queued);
    close(queued_too);
    ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

START_TEST(scratch_keeps_its_size_without_memory)
{
    rig_start();
    uint8_t *first = worker_scratch(&rig.worker, 100);
    ck_assert_ptr_nonnull(first);
    size_t size = rig.worker.scratch_size;
    ck_assert_uint_ge(size, 100);
    ck_assert_ptr_eq(worker_scratch(&rig.worker, size), first);
    fault_arm("malloc", ENOMEM, 1);
    uint8_t *larger = worker_scratch(&rig.worker, size + 1);
    fault_disarm();
    ck_assert_ptr_null(larger);
    ck_assert_ptr_eq(rig.worker.scratch, first);
    ck_assert_uint_eq(rig.worker.scratch_size, size);
    larger = worker_scratch(&rig.worker, 3 * size);
    ck_assert_ptr_nonnull(larger);
    larger[3 * size - 1] = 1; /* a sanitizer would know */
    rig_stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("worker");
    tcase_add_test(tests, serves_what_is_queued);
    tcase_add_test(tests, one_wake_for_more_than_a_batch);
    tcase_add_test(tests, resting_keeps_connections_whole);
    tcase_add_test(tests, drains_and_says_so);
    tcase_add_test(tests, drains_at_once_without_clients);
    tcase_add_test(tests, announces_room);
    tcase_add_test(tests, nobody_is_woken_unasked);
    tcase_add_test(tests, broken_loop_is_reported);
    tcase_add_test(tests, failed_start);
    tcase_add_test(tests, failed_init_leaves_nothing);
    tcase_add_test(tests, deinit_closes_everybody);
    tcase_add_test(tests, scratch_keeps_its_size_without_memory);
    return run_case(tests);
}
