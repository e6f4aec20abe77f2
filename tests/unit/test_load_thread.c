#include "client/bench/load_thread.h"
#include "echo_server.h"
#include "load_fixture.h"

#include <sys/un.h>

static struct echo_server server;
static int listening;

static void set_up(void)
{
    load_set_up();
    listening = listen_anywhere();
    echo_start(&server, listening);
}

static void tear_down(void)
{
    echo_stop(&server);
    close(listening);
    load_tear_down();
}

static struct load_plan to_server(uint64_t connections)
{
    struct load_plan plan = one_connection();
    plan.endpoint = endpoint_of(port_of(listening));
    plan.connections = connections;
    return plan;
}

START_TEST(due_by_the_schedule)
{
    struct load scheduled = {.plan = {.rate = 3}, .start_nsec = 1000};
    ck_assert_uint_eq(load_due_nsec(&scheduled, 0), 1000);
    ck_assert_uint_eq(load_due_nsec(&scheduled, 1), 333334333);
    ck_assert_uint_eq(load_due_nsec(&scheduled, 3), NSEC_PER_SEC + 1000);
    /* A year of the highest rate: exact, and no overflow. */
    scheduled.plan.rate = 100000000;
    uint64_t year = UINT64_C(365) * 86400;
    ck_assert_uint_eq(load_due_nsec(&scheduled, year * scheduled.plan.rate + 1),
                      year * NSEC_PER_SEC + 10 + 1000);
}
END_TEST

/* As many as load_due_nsec says, at each moment. */
START_TEST(due_by_then)
{
    struct load scheduled = {.plan = {.rate = 3, .duration_usec = 2 * USEC_PER_SEC, .count = 6},
                             .start_nsec = 1000};
    ck_assert_uint_eq(load_due_until(&scheduled, 999), 0);
    for (uint64_t message = 0; message < 6; message++) {
        uint64_t due = load_due_nsec(&scheduled, message);
        ck_assert_uint_eq(load_due_until(&scheduled, due - 1), message);
        ck_assert_uint_eq(load_due_until(&scheduled, due), message + 1);
    }
    ck_assert_uint_eq(load_due_until(&scheduled, UINT64_MAX), 6);
    scheduled.plan.count = 5;
    ck_assert_uint_eq(load_due_until(&scheduled, UINT64_MAX), 5);
    scheduled.plan.duration_usec = USEC_NEVER;
    ck_assert_uint_eq(load_due_until(&scheduled, UINT64_MAX), 5);
    scheduled.plan.rate = 0; /* nothing is ever due */
    ck_assert_uint_eq(load_due_until(&scheduled, UINT64_MAX), 0);
}
END_TEST

/* What nobody came to is left out, and counted: with the highest rate, nearly all. */
START_TEST(more_than_can_be_sent)
{
    struct load_plan plan = to_server(5);
    plan.threads = 2;
    plan.rate = 100000000;
    plan.duration_usec = 50 * USEC_PER_MSEC;
    load_start(&plan, -1);
    WAIT_FOR(load_progress(&load).messages > 0);
    load_stop(&load);
    load_end();
    ck_assert_uint_gt(result.unsent, 0);
    ck_assert_uint_le(result.messages + result.unsent, 5000000);
    ck_assert_uint_eq(result.lag.count, result.messages);
    ck_assert_uint_eq(result.latency.count, result.messages);
    ck_assert_uint_eq(result.unanswered, 0);
}
END_TEST

/* Each connection answers its share, and the shares add up. */
START_TEST(shares_of_a_count)
{
    struct load_plan plan = to_server(7);
    plan.threads = 3;
    plan.count = 100;
    load_start(&plan, -1);
    load_end();
    ck_assert_uint_eq(result.messages, 100);
    ck_assert_uint_eq(result.latency.count, 100);
    ck_assert_uint_eq(result.connected, 7);
    ck_assert_uint_eq(result.connect.count, 7);
    ck_assert_uint_eq(atomic_load(&server.accepted), 7);
    ck_assert_uint_eq(result.lag.count, 0);
    ck_assert_uint_eq(result.unanswered + result.broken + result.wrong, 0);
    ck_assert(result.busy > 0 && result.busy <= 1);
    ck_assert_uint_gt(result.cpu_nsec, 0);
}
END_TEST

/* The first one may have been made by the caller, who says how long it took. */
START_TEST(the_first_connection_is_timed)
{
    struct load_plan plan = to_server((uint64_t)_i);
    plan.count = 10;
    plan.first_connect_nsec = 3000 * NSEC_PER_SEC;
    load_start(&plan, connect_to(port_of(listening)));
    load_end();
    ck_assert_uint_eq(result.connected, (uint64_t)_i);
    ck_assert_uint_eq(result.connect.count, (uint64_t)_i);
    ck_assert_uint_eq(result.connect.max, plan.first_connect_nsec);
}
END_TEST

/* Connections that have nothing to do end well, too. */
START_TEST(fewer_messages_than_connections)
{
    struct load_plan plan = to_server(10);
    plan.count = 3;
    load_start(&plan, -1);
    load_end();
    ck_assert_uint_eq(result.messages, 3);
    ck_assert_uint_eq(result.connected, 10);
}
END_TEST

/* More messages than one turn sends, and they are all of the schedule. */
START_TEST(on_a_schedule)
{
    struct load_plan plan = to_server(5);
    plan.threads = 2;
    plan.rate = 1000000;
    plan.count = 3001;
    load_start(&plan, -1);
    load_end();
    ck_assert_uint_eq(result.messages, 3001);
    ck_assert_uint_eq(result.lag.count, 3001);
    ck_assert_uint_eq(result.unanswered, 0);
}
END_TEST

/* What is due behind the end is not sent, whenever the end is noticed. */
START_TEST(a_schedule_has_an_end)
{
    struct load_plan plan = to_server(4);
    plan.rate = 10000;
    plan.duration_usec = 30 * USEC_PER_MSEC;
    load_start(&plan, -1);
    WAIT_FOR(load_progress(&load).messages == 300);
    load_stop(&load);
    load_end();
    ck_assert_uint_eq(result.messages, 300);
}
END_TEST

START_TEST(refused)
{
    int closed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(0);
    ck_assert_int_eq(bind(closed, (struct sockaddr *)&name, sizeof name), 0);
    struct load_plan plan = to_server(100);
    plan.endpoint = endpoint_of(port_of(closed));
    load_start(&plan, -1);
    load_end();
    ck_assert_uint_eq(result.unconnected, 100);
    ck_assert_int_eq(result.connect_error, ECONNREFUSED);
    ck_assert_uint_eq(result.messages, 0);
    ck_assert_uint_eq(result.unanswered, 0);
    /* What a schedule would have had for them was due all the same, to its end. */
    plan.threads = 2;
    plan.rate = 1000;
    plan.count = 501;
    load_start(&plan, -1);
    load_end();
    ck_assert_uint_eq(result.unanswered, 501);
    ck_assert_uint_eq(result.unsent, 0);
    ck_assert_uint_eq(result.lag.count, 0);
    close(closed);
}
END_TEST

/* Every third connection finds no descriptor; the others are served. */
START_TEST(some_fail)
{
    struct load_plan plan = to_server(9);
    plan.count = 90;
    fault_rules("socket:EMFILE:/3");
    int r = load_init(&load, &plan, &coordinator, -1);
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_settled(&load); i++)
        nap();
    fault_disarm();
    ck_assert_int_eq(r, 0);
    load_run(&load);
    load_end();
    ck_assert_uint_eq(result.unconnected, 3);
    ck_assert_int_eq(result.connect_error, EMFILE);
    ck_assert_uint_eq(result.messages, 60);
}
END_TEST

/* A Unix socket says EAGAIN where TCP waits. */
START_TEST(backlog_of_a_unix_socket)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct load_plan plan = one_connection();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tcpecho-test-%d", getpid());
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    memcpy(&plan.endpoint.address, &name, sizeof name);
    plan.endpoint.length = sizeof name;
    plan.connections = 10;
    plan.count = 20;
    if (_i == 1)
        plan.connect_usec = USEC_PER_MSEC; /* nobody accepts in time */
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    WAIT_FOR(load_connected(&load) >= 2);
    struct echo_server slow;
    if (_i == 1)
        WAIT_FOR(load_is_settled(&load));
    echo_start(&slow, fd);
    WAIT_FOR(load_is_settled(&load));
    load_run(&load);
    load_end();
    echo_stop(&slow);
    close(fd);
    ck_assert_uint_eq(result.connected + result.unconnected, 10);
    if (_i == 0) {
        ck_assert_uint_eq(result.messages, 20);
    } else {
        ck_assert_uint_gt(result.unconnected, 0);
        ck_assert_int_eq(result.connect_error, ETIMEDOUT);
    }
}
END_TEST

/* A listener that takes one or two connections and leaves the others waiting. */
static int listen_without_room(void)
{
    int full = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(0);

    ck_assert_int_eq(bind(full, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(full, 0), 0);
    return full;
}

START_TEST(not_connected_in_time)
{
    struct load_plan plan = to_server(10);
    int full = listen_without_room();

    plan.endpoint = endpoint_of(port_of(full));
    plan.connect_usec = 20 * USEC_PER_MSEC;
    plan.wait_usec = USEC_PER_MSEC;
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    WAIT_FOR(load_is_settled(&load));
    load_run(&load);
    load_stop(&load);
    load_end();
    ck_assert_uint_gt(result.unconnected, 0);
    ck_assert_uint_eq(result.connected + result.unconnected, 10);
    ck_assert_int_eq(result.connect_error, ETIMEDOUT);
    close(full);
}
END_TEST

/* Ctrl-C before all are connected. */
START_TEST(stopped_while_it_connects)
{
    struct load_plan plan = to_server(10);
    int full = listen_without_room();

    plan.endpoint = endpoint_of(port_of(full));
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    WAIT_FOR(load_connected(&load) >= 1);
    ck_assert(!load_is_settled(&load));
    load_stop(&load);
    /* Whoever is connected waits for the end that nobody sends. */
    load_end();
    ck_assert_uint_gt(result.unconnected, 0);
    ck_assert_int_eq(result.connect_error, ECANCELED);
    ck_assert_uint_eq(result.messages, 0);
    close(full);
}
END_TEST

START_TEST(loop_breaks)
{
    struct load_plan plan = to_server(3);
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    WAIT_FOR(load_is_settled(&load));
    fault_arm("epoll_wait", EBADF, 0);
    load_run(&load);
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_finished(&load); i++)
        nap();
    fault_disarm();
    ck_assert(load_is_finished(&load));
    ck_assert_int_eq(load_collect(&load, &result), -EBADF);
    load_deinit(&load);
}
END_TEST

/* Nothing is left behind, and the first connection is taken. */
START_TEST(cannot_start)
{
    static const char *const calls[] = {"epoll_create1", "eventfd", "timerfd_create", "pthread_create",
                                        "calloc"};
    struct load_plan plan = to_server(4);

    plan.threads = 2;
    for (unsigned nth = 1; nth <= 2; nth++) {
        int fd = connect_to(port_of(listening));
        fault_arm(calls[_i], ENOMEM, nth);
        int r = load_init(&load, &plan, &coordinator, fd);
        fault_disarm();
        ck_assert_int_eq(r, -ENOMEM);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("load_thread");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, due_by_the_schedule);
    tcase_add_test(tests, due_by_then);
    tcase_add_test(tests, more_than_can_be_sent);
    tcase_add_test(tests, shares_of_a_count);
    tcase_add_loop_test(tests, the_first_connection_is_timed, 1, 4);
    tcase_add_test(tests, fewer_messages_than_connections);
    tcase_add_test(tests, on_a_schedule);
    tcase_add_test(tests, a_schedule_has_an_end);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, some_fail);
    tcase_add_loop_test(tests, backlog_of_a_unix_socket, 0, 2);
    tcase_add_test(tests, not_connected_in_time);
    tcase_add_test(tests, stopped_while_it_connects);
    tcase_add_test(tests, loop_breaks);
    tcase_add_loop_test(tests, cannot_start, 0, 5);
    return run_case(tests);
}
