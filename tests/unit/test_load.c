#include "client/bench/load.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "echo_server.h"
#include "faults.h"

#include <inttypes.h>
#include <sys/un.h>

#define SIZE 64

static struct load load;
static struct event_loop coordinator;
static struct load_result result;
static struct load_plan plan;
static struct echo_server echo;
static int listening;
static int server; /* the test itself, of one connection */
static unsigned before;

/* One connection, one thread, patience that no test comes to the end of, and a server that echoes. */
static void set_up(void)
{
    before = open_descriptors();
    server = -1;
    ck_assert_int_eq(event_loop_init(&coordinator, NULL), 0);
    plan = (struct load_plan){
        .expect = EXPECT_ECHO,
        .run = 7,
        .size = SIZE,
        .connections = 1,
        .threads = 1,
        .duration_usec = USEC_NEVER,
        .connect_usec = 20 * USEC_PER_SEC,
        .wait_usec = 20 * USEC_PER_SEC,
    };
    listening = listen_anywhere(ECHO_CONNECTIONS, &plan.endpoint);
    echo_start(&echo, listening);
}

static void tear_down(void)
{
    fd_close(&server);
    echo_stop(&echo);
    close(listening);
    event_loop_deinit(&coordinator);
    ck_assert_uint_eq(open_descriptors(), before);
}

FIXTURE(set_up, tear_down)

/* `fd` is the first connection, or negative. */
static void connect_all(int fd)
{
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, fd), 0);
    WAIT_FOR(load_is_settled(&load));
}

static void run(void)
{
    connect_all(-1);
    load_run(&load);
}

/* One connection, of which the test is the other end. */
static void run_with_test(uint64_t count)
{
    int client;
    tcp_pair(0, &client, &server);
    ck_assert_int_eq(fcntl(client, F_SETFL, O_NONBLOCK), 0);
    plan.count = count;
    connect_all(client);
    load_run(&load);
}

static void wait_for_end(void)
{
    WAIT_FOR(load_is_finished(&load));
    ck_assert_int_eq(load_collect(&load, &result), 0);
    load_deinit(&load);
}

static void answer(unsigned count)
{
    uint8_t bytes[SIZE];
    for (unsigned i = 0; i < count; i++) {
        receive_all(server, bytes, sizeof bytes);
        send_all(server, bytes, sizeof bytes);
    }
}

/* ---- the plan, and what is made of the results ---- */

TEST(due_by_the_schedule)
{
    struct load_plan scheduled = {.rate = 3, .duration_usec = 2 * USEC_PER_SEC, .count = 6};
    ck_assert_uint_eq(load_due_nsec(&scheduled, 1000, 0), 1000);
    ck_assert_uint_eq(load_due_nsec(&scheduled, 1000, 1), 333334333);
    ck_assert_uint_eq(load_due_nsec(&scheduled, 1000, 3), NSEC_PER_SEC + 1000);
    /* So many are due at each moment. */
    ck_assert_uint_eq(load_due_until(&scheduled, 1000, 999), 0);
    for (uint64_t message = 0; message < 6; message++) {
        uint64_t due = load_due_nsec(&scheduled, 1000, message);
        ck_assert_uint_eq(load_due_until(&scheduled, 1000, due - 1), message);
        ck_assert_uint_eq(load_due_until(&scheduled, 1000, due), message + 1);
    }
    ck_assert_uint_eq(load_due_until(&scheduled, 1000, UINT64_MAX), 6);
    scheduled.count = 5;
    ck_assert_uint_eq(load_due_until(&scheduled, 1000, UINT64_MAX), 5);
    scheduled.duration_usec = USEC_NEVER;
    ck_assert_uint_eq(load_due_until(&scheduled, 1000, UINT64_MAX), 5);
    ck_assert_uint_eq(load_due_until(&scheduled, 0, UINT64_MAX), 0); /* not begun */
    scheduled.rate = 0;
    ck_assert_uint_eq(load_due_until(&scheduled, 1000, UINT64_MAX), 0);
    /* A year of the highest rate: exact, and no overflow. */
    scheduled.rate = 100000000;
    uint64_t year = UINT64_C(365) * 86400;
    ck_assert_uint_eq(load_due_nsec(&scheduled, 1000, year * scheduled.rate + 1),
                      year * NSEC_PER_SEC + 10 + 1000);
}

TEST(results_add_up)
{
    static struct load_result all, parts[2];
    parts[0] = (struct load_result){.messages = 1,
                                    .bytes = 10,
                                    .unanswered = 2,
                                    .connected = 3,
                                    .unconnected = 1,
                                    .connect_error = ECONNREFUSED,
                                    .last_answer_nsec = 50,
                                    .over_nsec = 70,
                                    .wall_nsec = 100,
                                    .cpu_nsec = 30,
                                    .queued_nsec = 1,
                                    .busy = 0.3,
                                    .unended = 1,
                                    .fault_count = LOAD_FAULTS - 1};
    parts[1] = (struct load_result){.messages = 5,
                                    .bytes = 50,
                                    .unanswered = 1,
                                    .unconnected = 2,
                                    .connect_error = ETIMEDOUT,
                                    .broken = 4,
                                    .break_error = ECONNRESET,
                                    .wrong = 1,
                                    .last_answer_nsec = 40,
                                    .over_nsec = 60,
                                    .wall_nsec = 90,
                                    .cpu_nsec = 60,
                                    .queued_nsec = 2,
                                    .busy = 0.7,
                                    .fault_count = LOAD_FAULTS};
    parts[0].faults[LOAD_FAULTS - 2].connection = 106;
    parts[1].faults[0].connection = 200;
    histogram_add(&parts[0].latency, 1000);
    histogram_add(&parts[1].latency, 3000);
    histogram_add(&parts[1].connect, 7);
    histogram_add(&parts[1].lag, 9);
    load_result_add(&all, &parts[0]);
    load_result_add(&all, &parts[1]);
    const uint64_t sums[][2] = {
        {all.messages, 6},
        {all.bytes, 60},
        {all.unanswered, 3},
        {all.connected, 3},
        {all.unconnected, 3},
        {all.broken, 4},
        {all.wrong, 1},
        {all.unended, 1},
        {all.last_answer_nsec, 50},
        {all.over_nsec, 70},
        {all.wall_nsec, 100},
        {all.cpu_nsec, 90},
        {all.queued_nsec, 3},
        {all.latency.count, 2},
        {all.latency.max, 3000},
        {all.connect.count, 1},
        {all.lag.max, 9},
        /* The first of each kind; faults have a limit. */
        {(uint64_t)all.connect_error, ECONNREFUSED},
        {(uint64_t)all.break_error, ECONNRESET},
        {all.fault_count, LOAD_FAULTS},
        {all.faults[LOAD_FAULTS - 2].connection, 106},
        {all.faults[LOAD_FAULTS - 1].connection, 200},
    };
    for (size_t i = 0; i < COUNT_OF(sums); i++)
        ck_assert_msg(sums[i][0] == sums[i][1], "figure %zu: %" PRIu64 " is not %" PRIu64, i, sums[i][0],
                      sums[i][1]);
    ck_assert(all.busy == 0.7);
}

/* ---- one connection, and what is counted of it ---- */

/* The next message is sent when the one before has been answered, and not sooner. */
TEST(one_message_under_way)
{
    uint8_t bytes[SIZE];
    run_with_test(5);
    receive_all(server, bytes, sizeof bytes);
    send_all(server, bytes, sizeof bytes - 1);
    WAIT_FOR(load_progress(&load).bytes == SIZE - 1);
    expect_nothing_yet(server);
    send_all(server, bytes + SIZE - 1, 1);
    answer(4);
    expect_end(server);
    fd_close(&server);
    wait_for_end();
    ck_assert_uint_eq(result.messages, 5);
    ck_assert_uint_eq(result.bytes, 5 * SIZE);
    ck_assert_uint_eq(result.latency.count, 5);
    ck_assert_uint_eq(result.connected, 1);
    ck_assert_uint_eq(result.unanswered + result.broken + result.wrong + result.unended, 0);
    ck_assert_uint_eq(result.fault_count, 0);
    ck_assert_uint_ge(result.last_answer_nsec, load.control.start_nsec);
}

TEST(stopped_with_an_answer_under_way)
{
    uint8_t bytes[SIZE];
    run_with_test(0);
    answer(3);
    receive_all(server, bytes, sizeof bytes);
    load_stop(&load);
    /* It may come to that only when the next message has gone. */
    for (ssize_t length = SIZE; length > 0;) {
        send_all(server, bytes, (size_t)length);
        ck_assert(becomes_readable(server));
        length = recv(server, bytes, sizeof bytes, 0);
    }
    fd_close(&server);
    wait_for_end();
    ck_assert_uint_ge(result.messages, 4);
    ck_assert_uint_eq(result.unanswered, 0);
}

/* How the connection ends after two answers, and the first bytes of a third; and what is counted then. */
static const struct ending {
    const char *name;
    size_t part;    /* of the third answer that comes */
    uint8_t change; /* of its last byte */
    enum { CLOSES, RESETS, STAYS } server;
    bool stops; /* the load, which waits for a moment */
    uint64_t unanswered, broken, wrong;
    int break_error;
    enum fault_kind kind;
    uint64_t fault_length; /* 0: no fault */
} endings[] = {
    {"closed", 10, 0, CLOSES, false, 1, 1, 0, 0, FAULT_CUT, SIZE - 10},
    {"reset", 0, 0, RESETS, false, 1, 1, 0, ECONNRESET, FAULT_CUT, SIZE},
    {"never answered", 0, 0, STAYS, true, 1, 0, 0, 0, FAULT_CUT, 0},
    {"changed", 20, 0x80, CLOSES, false, 0, 0, 1, 0, FAULT_CHANGED, 1},
    {"changed, and it stays", 20, 0x80, STAYS, false, 0, 0, 1, 0, FAULT_CHANGED, 1},
    {"changed, and stopped", 20, 0x80, STAYS, true, 0, 0, 1, 0, FAULT_CHANGED, 1},
};

TEST_EACH(each_ending, endings)
{
    uint8_t bytes[SIZE];
    plan.wait_usec = USEC_PER_MSEC;
    run_with_test(0);
    answer(2);
    receive_all(server, bytes, sizeof bytes);
    if (c->change != 0)
        bytes[c->part - 1] ^= c->change;
    send_all(server, bytes, c->change != 0 ? SIZE : c->part);
    if (c->change != 0)
        expect_end(server); /* we are asked for the rest, which is evidence */
    if (c->server == RESETS)
        close_hard(TAKE_FD(server));
    if (c->server == CLOSES)
        fd_close(&server);
    if (c->stops)
        load_stop(&load);
    wait_for_end();
    ck_assert_msg(result.messages == 2 && result.unanswered == c->unanswered && result.broken == c->broken &&
                      result.wrong == c->wrong && result.break_error == c->break_error,
                  "%s: %" PRIu64 " answered, %" PRIu64 " not, %" PRIu64 " broken (%d), %" PRIu64 " wrong",
                  c->name, result.messages, result.unanswered, result.broken, result.break_error,
                  result.wrong);
    ck_assert_uint_eq(result.fault_count, c->fault_length > 0 ? 1 : 0);
    if (c->fault_length == 0)
        return;
    const struct fault *fault = &result.faults[0].fault;
    ck_assert_uint_eq(result.faults[0].connection, 0);
    ck_assert_int_eq(fault->kind, c->kind);
    ck_assert_uint_eq(fault->offset, 2 * SIZE + (c->part > 0 ? c->part - (c->change != 0) : 0));
    ck_assert_uint_eq(fault->length, c->fault_length);
}

/* The server says something that nobody asked for, or does not close. */
TEST_TIMES(after_the_last_answer, 2)
{
    run_with_test(1);
    answer(1);
    expect_end(server);
    if (variant == 0) {
        send_text(server, "x");
        fd_close(&server);
    }
    wait_for_end();
    ck_assert_uint_eq(result.messages, 1);
    ck_assert_uint_eq(result.broken, 0);
    ck_assert_uint_eq(result.unended, variant == 0 ? 0 : 1);
    ck_assert_uint_eq(result.wrong, variant == 0 ? 1 : 0);
    ck_assert_uint_eq(result.fault_count, variant == 0 ? 1 : 0);
    if (variant == 0)
        ck_assert_int_eq(result.faults[0].fault.kind, FAULT_SURPLUS);
}

/* ---- many connections ---- */

/* Each connection answers its share, and the shares add up. Those that have nothing to do end well, too. */
TEST_TIMES(shares_of_a_count, 2)
{
    static const unsigned counts[] = {3, 100};
    plan.connections = 7;
    plan.threads = 3;
    plan.count = counts[variant];
    run();
    wait_for_end();
    ck_assert_uint_eq(result.messages, counts[variant]);
    ck_assert_uint_eq(result.latency.count, counts[variant]);
    ck_assert_uint_eq(result.connected, 7);
    ck_assert_uint_eq(result.connect.count, 7);
    ck_assert_uint_eq(atomic_load(&echo.accepted), 7);
    ck_assert_uint_eq(result.lag.count, 0);
    ck_assert_uint_eq(result.unanswered + result.broken + result.wrong, 0);
    ck_assert(result.busy > 0 && result.busy <= 1);
    ck_assert_uint_gt(result.cpu_nsec, 0);
}

/* The first one may have been made by the caller, who says how long it took. */
TEST_TIMES(the_first_connection_is_timed, 3)
{
    plan.connections = (uint64_t)variant + 1;
    plan.count = 10;
    plan.first_connect_nsec = 3000 * NSEC_PER_SEC;
    connect_all(connect_to(port_of(listening)));
    load_run(&load);
    wait_for_end();
    ck_assert_uint_eq(result.connected, plan.connections);
    ck_assert_uint_eq(result.connect.count, plan.connections);
    ck_assert_uint_eq(result.connect.max, plan.first_connect_nsec);
}

/* More messages than one turn sends, and they are all of the schedule; what is due after its end is not sent.
 */
TEST_TIMES(on_a_schedule, 2)
{
    plan.connections = 5;
    plan.threads = 2;
    plan.rate = variant == 0 ? 1000000 : 10000;
    plan.count = variant == 0 ? 3001 : 0;
    plan.duration_usec = variant == 0 ? USEC_NEVER : 30 * USEC_PER_MSEC;
    uint64_t all = variant == 0 ? 3001 : 300;
    run();
    if (variant == 1) {
        WAIT_FOR(load_progress(&load).messages == all);
        load_stop(&load);
    }
    wait_for_end();
    ck_assert_uint_eq(result.messages, all);
    ck_assert_uint_eq(result.lag.count, all);
    ck_assert_uint_eq(result.unanswered, 0);
}

/* What nobody came to is left out, and counted: with the highest rate, nearly all. */
TEST(more_than_can_be_sent)
{
    plan.connections = 5;
    plan.threads = 2;
    plan.rate = 100000000;
    plan.duration_usec = 50 * USEC_PER_MSEC;
    run();
    WAIT_FOR(load_progress(&load).messages > 0);
    load_stop(&load);
    wait_for_end();
    ck_assert_uint_gt(result.unsent, 0);
    ck_assert_uint_le(result.messages + result.unsent, 5000000);
    ck_assert_uint_eq(result.lag.count, result.messages);
    ck_assert_uint_eq(result.latency.count, result.messages);
    ck_assert_uint_eq(result.unanswered, 0);
}

/* What a schedule would have had for connections that are not there was due all the same, to its end. */
TEST_TIMES(refused, 2)
{
    int closed = bind_anywhere(&plan.endpoint);
    plan.connections = 100;
    plan.threads = variant == 0 ? 1 : 2;
    plan.rate = variant == 0 ? 0 : 1000;
    plan.count = variant == 0 ? 0 : 501;
    run();
    wait_for_end();
    ck_assert_uint_eq(result.unconnected, 100);
    ck_assert_int_eq(result.connect_error, ECONNREFUSED);
    ck_assert_uint_eq(result.messages + result.lag.count + result.unsent, 0);
    ck_assert_uint_eq(result.unanswered, plan.count);
    close(closed);
}

/* Every third connection finds no descriptor; the others are served. */
TEST(some_fail)
{
    plan.connections = 9;
    plan.count = 90;
    fault_rules("socket:EMFILE:/3");
    connect_all(-1);
    fault_disarm();
    load_run(&load);
    wait_for_end();
    ck_assert_uint_eq(result.unconnected, 3);
    ck_assert_int_eq(result.connect_error, EMFILE);
    ck_assert_uint_eq(result.messages, 60);
}

/* A Unix socket says EAGAIN where TCP waits; it is tried again for as long as a connection may take. */
TEST_TIMES(backlog_of_a_unix_socket, 2)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct echo_server slow;
    snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tcpecho-test-%d", getpid());
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    memcpy(&plan.endpoint.address, &name, sizeof name);
    plan.endpoint.length = sizeof name;
    plan.connections = 10;
    plan.count = 20;
    if (variant == 1)
        plan.connect_usec = USEC_PER_MSEC; /* nobody accepts in time */
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    WAIT_FOR(load_connected(&load) >= 2);
    if (variant == 1)
        WAIT_FOR(load_is_settled(&load));
    echo_start(&slow, fd);
    WAIT_FOR(load_is_settled(&load));
    load_run(&load);
    wait_for_end();
    echo_stop(&slow);
    close(fd);
    ck_assert_uint_eq(result.connected + result.unconnected, 10);
    ck_assert(variant == 0 ? result.messages == 20 : result.unconnected > 0);
    ck_assert_int_eq(result.connect_error, variant == 0 ? 0 : ETIMEDOUT);
}

/* Not connected in time, or Ctrl-C before all are connected. */
TEST_TIMES(no_room_at_the_server, 2)
{
    int full = listen_anywhere(0, &plan.endpoint); /* it takes one or two */

    plan.connections = 10;
    plan.wait_usec = USEC_PER_MSEC;
    if (variant == 0)
        plan.connect_usec = 20 * USEC_PER_MSEC;
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    if (variant == 0) {
        WAIT_FOR(load_is_settled(&load));
        load_run(&load);
    } else {
        WAIT_FOR(load_connected(&load) >= 1);
        ck_assert(!load_is_settled(&load));
    }
    load_stop(&load);
    wait_for_end();
    ck_assert_uint_gt(result.unconnected, 0);
    ck_assert_uint_eq(result.connected + result.unconnected, 10);
    ck_assert_int_eq(result.connect_error, variant == 0 ? ETIMEDOUT : ECANCELED);
    ck_assert_uint_eq(result.messages, 0);
    close(full);
}

/* ---- the coordinator, and its end ---- */

static void on_wake(struct event_loop *loop)
{
    if (load_is_finished(&load))
        event_loop_quit(loop);
    else if (load_is_settled(&load) && load.control.start_nsec == 0)
        load_run(&load);
}

/* It is woken for each thing that it has to do. */
TEST(coordinated)
{
    event_loop_deinit(&coordinator);
    ck_assert_int_eq(event_loop_init(&coordinator, on_wake), 0);
    plan.connections = 8;
    plan.threads = 4;
    plan.count = 80;
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    ck_assert_int_eq(event_loop_run(&coordinator), 0);
    ck_assert_uint_eq(load_connected(&load), 8);
    struct load_progress progress = load_progress(&load);
    ck_assert_uint_eq(progress.messages, 80);
    ck_assert_uint_eq(progress.bytes, 80 * SIZE);
    ck_assert_uint_eq(progress.connections, 0);
    wait_for_end();
    ck_assert_uint_eq(result.messages, 80);
}

/* As when the coordinator cannot go on. */
TEST_TIMES(given_up_half_way, 2)
{
    plan.connections = 4;
    plan.threads = 2;
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    if (variant == 1) {
        WAIT_FOR(load_is_settled(&load));
        load_run(&load);
        WAIT_FOR(load_progress(&load).messages > 10);
    }
    load_deinit(&load);
}

TEST(loop_breaks)
{
    plan.connections = 3;
    connect_all(-1);
    fault_arm("epoll_wait", EBADF, 0);
    load_run(&load);
    WAIT_FOR(load_is_finished(&load));
    fault_disarm();
    ck_assert_int_eq(load_collect(&load, &result), -EBADF);
    load_deinit(&load);
}

/* Nothing is left open, and the first connection is taken. */
TEST_TIMES(cannot_start, 5)
{
    static const char *const calls[] = {"epoll_create1", "eventfd", "timerfd_create", "pthread_create",
                                        "calloc"};

    plan.connections = 4;
    plan.threads = 2;
    for (unsigned nth = 1; nth <= 2; nth++) {
        int fd = connect_to(port_of(listening));
        fault_arm(calls[variant], ENOMEM, nth);
        int r = load_init(&load, &plan, &coordinator, fd);
        fault_disarm();
        ck_assert_int_eq(r, -ENOMEM);
    }
}
