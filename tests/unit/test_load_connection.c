#include "load_fixture.h"

static int server;

static void set_up(void)
{
    load_set_up();
    server = -1;
}

static void tear_down(void)
{
    if (server >= 0)
        close(server);
    load_tear_down();
}

/* One connection, of which the test is the other end. */
static void start(struct load_plan plan)
{
    int client;
    tcp_pair(0, &client, &server);
    ck_assert_int_eq(fcntl(client, F_SETFL, O_NONBLOCK), 0);
    load_start(&plan, client);
}

static struct load_plan messages(uint64_t count)
{
    struct load_plan plan = one_connection();
    plan.count = count;
    return plan;
}

static void echo(unsigned count)
{
    uint8_t bytes[SIZE];
    for (unsigned i = 0; i < count; i++) {
        receive_all(server, bytes, sizeof bytes);
        send_all(server, bytes, sizeof bytes);
    }
}

static void end_server(void)
{
    close(server);
    server = -1;
}

START_TEST(answered)
{
    start(messages(5));
    echo(5);
    expect_end(server);
    end_server();
    load_end();
    ck_assert_uint_eq(result.messages, 5);
    ck_assert_uint_eq(result.bytes, 5 * SIZE);
    ck_assert_uint_eq(result.latency.count, 5);
    ck_assert_uint_eq(result.connected, 1);
    ck_assert_uint_eq(result.unanswered + result.broken + result.wrong + result.unended, 0);
    ck_assert_uint_eq(result.fault_count, 0);
    ck_assert_uint_ge(result.last_answer_nsec, load.start_nsec);
}
END_TEST

/* The next message is sent when the one before has been answered, and not sooner. */
START_TEST(one_message_under_way)
{
    uint8_t bytes[SIZE];

    start(messages(2));
    receive_all(server, bytes, sizeof bytes);
    send_all(server, bytes, sizeof bytes - 1);
    expect_nothing_yet(server);
    send_all(server, bytes + SIZE - 1, 1);
    echo(1);
    end_server();
    load_end();
    ck_assert_uint_eq(result.messages, 2);
}
END_TEST

START_TEST(stopped_with_an_answer_under_way)
{
    uint8_t bytes[SIZE];

    start(messages(0));
    echo(3);
    receive_all(server, bytes, sizeof bytes);
    load_stop(&load);
    /* It may come to that only when the next message has gone. */
    for (ssize_t length = SIZE; length > 0;) {
        send_all(server, bytes, (size_t)length);
        ck_assert(becomes_readable(server));
        length = recv(server, bytes, sizeof bytes, 0);
    }
    end_server();
    load_end();
    ck_assert_uint_ge(result.messages, 4);
    ck_assert_uint_eq(result.unanswered, 0);
}
END_TEST

/* Nobody waits for ever, and what did not come is counted. */
START_TEST(stopped_and_never_answered)
{
    struct load_plan plan = messages(0);
    uint8_t bytes[SIZE];

    plan.wait_usec = USEC_PER_MSEC;
    start(plan);
    receive_all(server, bytes, sizeof bytes);
    load_stop(&load);
    load_end();
    ck_assert_uint_eq(result.messages, 0);
    ck_assert_uint_eq(result.unanswered, 1);
    ck_assert_uint_eq(result.broken, 0);
}
END_TEST

static void expect_one_fault(enum fault_kind kind, uint64_t offset, uint64_t length)
{
    char text[FAULT_TEXT_SIZE];
    ck_assert_uint_eq(result.fault_count, 1);
    ck_assert_uint_eq(result.faults[0].connection, 0);
    const struct fault *fault = &result.faults[0].fault;
    ck_assert_msg(fault->kind == kind && fault->offset == offset && fault->length == length, "kind %d: %s",
                  (int)fault->kind, fault_format(fault, text));
}

START_TEST(closed_with_an_answer_due)
{
    uint8_t bytes[SIZE];

    start(messages(0));
    echo(2);
    receive_all(server, bytes, sizeof bytes);
    send_all(server, bytes, 10);
    end_server();
    load_end();
    ck_assert_uint_eq(result.messages, 2);
    ck_assert_uint_eq(result.unanswered, 1);
    ck_assert_uint_eq(result.broken, 1);
    ck_assert_int_eq(result.break_error, 0);
    expect_one_fault(FAULT_CUT, 2 * SIZE + 10, SIZE - 10);
}
END_TEST

START_TEST(reset)
{
    uint8_t bytes[SIZE];

    start(messages(0));
    receive_all(server, bytes, sizeof bytes);
    close_hard(server);
    server = -1;
    load_end();
    ck_assert_uint_eq(result.broken, 1);
    ck_assert_int_eq(result.break_error, ECONNRESET);
}
END_TEST

/* The kernel tells a reset once, to whoever sends or receives next. */
START_TEST(reset_that_a_send_is_told)
{
    uint8_t bytes[SIZE];

    start(messages(0));
    receive_all(server, bytes, sizeof bytes);
    fault_arm("send", EPIPE, 2); /* ours is the first */
    (void)!send(server, bytes, sizeof bytes, MSG_NOSIGNAL);
    end_server();
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_finished(&load); i++)
        nap();
    fault_disarm();
    load_end();
    ck_assert_uint_eq(result.messages, 1);
    ck_assert_uint_eq(result.broken, 1);
    ck_assert_int_eq(result.break_error, ECONNRESET);
}
END_TEST

START_TEST(changed_byte)
{
    uint8_t bytes[SIZE];

    start(messages(3));
    echo(1);
    receive_all(server, bytes, sizeof bytes);
    bytes[20] ^= 0x80;
    send_all(server, bytes, sizeof bytes);
    /* We are asked for the rest, which is evidence. */
    expect_end(server);
    end_server();
    load_end();
    ck_assert_uint_eq(result.wrong, 1);
    ck_assert_uint_eq(result.messages, 1);
    ck_assert_uint_eq(result.broken, 0);
    expect_one_fault(FAULT_CHANGED, SIZE + 20, 1);
}
END_TEST

START_TEST(changed_byte_of_a_server_that_stays)
{
    uint8_t bytes[SIZE];

    start(messages(1));
    receive_all(server, bytes, sizeof bytes);
    bytes[0] ^= 0x80;
    send_all(server, bytes, sizeof bytes);
    load_end();
    expect_one_fault(FAULT_CHANGED, 0, 1);
}
END_TEST

/* Evidence comes in parts, and there may be more than is looked at. */
START_TEST(a_flood_of_wrong_bytes)
{
    static uint8_t zeros[2 * FAULT_EVIDENCE];

    start(messages(1));
    for (size_t sent = 0; sent < sizeof zeros;) {
        ssize_t r = send(server, zeros, sizeof zeros - sent, MSG_NOSIGNAL);
        if (r < 0 && (errno == EPIPE || errno == ECONNRESET))
            break;
        if (r > 0)
            sent += (size_t)r;
    }
    load_end();
    ck_assert_uint_eq(result.wrong, 1);
    ck_assert_uint_eq(result.fault_count, 1);
}
END_TEST

/* What the server still has comes behind our half-close, and belongs to it. */
START_TEST(evidence_in_parts)
{
    uint8_t bytes[SIZE];
    start(messages(1));
    receive_all(server, bytes, sizeof bytes);
    bytes[0] ^= 0x80;
    send_all(server, bytes, 10);
    expect_end(server);
    send_all(server, bytes + 10, sizeof bytes - 10);
    end_server();
    load_end();
    expect_one_fault(FAULT_CHANGED, 0, 1);
}
END_TEST

/* Who is told to end does not wait for evidence any longer than for answers. */
START_TEST(stopped_while_evidence_comes)
{
    struct load_plan plan = messages(0);
    uint8_t bytes[SIZE];

    plan.wait_usec = USEC_PER_MSEC;
    start(plan);
    receive_all(server, bytes, sizeof bytes);
    bytes[0] ^= 0x80;
    send_all(server, bytes, sizeof bytes);
    expect_end(server);
    load_stop(&load);
    load_end();
    expect_one_fault(FAULT_CHANGED, 0, 1);
}
END_TEST

START_TEST(evidence_that_cannot_be_waited_for)
{
    struct load_plan plan = messages(1);

    plan.size = 16 << 20; /* more than the socket takes: it is to be told when there is room */
    start(plan);
    ck_assert(becomes_readable(server));
    fault_arm("epoll_ctl_mod", ENOMEM, 0);
    send(server, "\n\n\n\n", 4, MSG_NOSIGNAL);
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_finished(&load); i++)
        nap();
    fault_disarm();
    load_end();
    ck_assert_uint_eq(result.wrong + result.broken, 1);
}
END_TEST

START_TEST(no_memory_for_evidence)
{
    uint8_t bytes[SIZE];

    start(messages(1));
    receive_all(server, bytes, sizeof bytes);
    bytes[5] ^= 0x80;
    fault_arm("malloc", ENOMEM, 1);
    send(server, bytes, sizeof bytes, MSG_NOSIGNAL);
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_finished(&load); i++)
        nap();
    fault_disarm();
    load_end();
    expect_one_fault(FAULT_CHANGED, 5, 1);
}
END_TEST

/* The server says something that nobody asked for. */
START_TEST(surplus_behind_the_last_answer)
{
    start(messages(1));
    echo(1);
    expect_end(server);
    send_text(server, "x");
    end_server();
    load_end();
    ck_assert_uint_eq(result.messages, 1);
    ck_assert_uint_eq(result.wrong, 1);
    expect_one_fault(FAULT_SURPLUS, SIZE, 1);
}
END_TEST

START_TEST(never_closed_by_the_server)
{
    start(messages(1));
    echo(1);
    expect_end(server);
    load_end();
    ck_assert_uint_eq(result.messages, 1);
    ck_assert_uint_eq(result.unended, 1);
    ck_assert_uint_eq(result.broken, 0);
}
END_TEST

/* More than the socket takes: sent as it empties, answered as it comes. */
START_TEST(large_messages)
{
    struct load_plan plan = messages(2);
    static uint8_t bytes[65536];

    plan.size = 16 << 20;
    start(plan);
    for (uint64_t left = 2 * plan.size; left > 0;) {
        size_t part = left < sizeof bytes ? (size_t)left : sizeof bytes;
        receive_all(server, bytes, part);
        set_socket_option(server, SOL_SOCKET, SO_SNDBUF, 1 << 20);
        for (size_t done = 0; done < part;) {
            ssize_t r = send(server, bytes + done, part - done, MSG_NOSIGNAL);
            ck_assert(r >= 0 || errno == EAGAIN);
            done += r > 0 ? (size_t)r : 0;
        }
        left -= part;
    }
    expect_end(server);
    end_server();
    load_end();
    ck_assert_uint_eq(result.messages, 2);
    ck_assert_uint_eq(result.bytes, 2 * plan.size);
}
END_TEST

START_TEST(send_fails)
{
    struct load_plan plan = messages(1);
    int client;

    tcp_pair(0, &client, &server);
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, client), 0);
    WAIT_FOR(load_is_settled(&load));
    fault_arm("send", ENOBUFS, 0);
    load_run(&load);
    for (unsigned i = 0; i < PATIENCE_MSEC && !load_is_finished(&load); i++)
        nap();
    fault_disarm();
    load_end();
    ck_assert_uint_eq(result.broken, 1);
    ck_assert_int_eq(result.break_error, ENOBUFS);
    ck_assert_uint_eq(result.unanswered, 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("load_connection");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, answered);
    tcase_add_test(tests, one_message_under_way);
    tcase_add_test(tests, stopped_with_an_answer_under_way);
    tcase_add_test(tests, stopped_and_never_answered);
    tcase_add_test(tests, closed_with_an_answer_due);
    tcase_add_test(tests, reset);
    tcase_add_test(tests, reset_that_a_send_is_told);
    tcase_add_test(tests, changed_byte);
    tcase_add_test(tests, changed_byte_of_a_server_that_stays);
    tcase_add_test(tests, a_flood_of_wrong_bytes);
    tcase_add_test(tests, evidence_in_parts);
    tcase_add_test(tests, stopped_while_evidence_comes);
    tcase_add_test(tests, evidence_that_cannot_be_waited_for);
    tcase_add_test(tests, no_memory_for_evidence);
    tcase_add_test(tests, surplus_behind_the_last_answer);
    tcase_add_test(tests, never_closed_by_the_server);
    tcase_add_test(tests, large_messages);
    tcase_add_test(tests, send_fails);
    return run_case(tests);
}
