#include "client/net/probe.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

#define SIZE 64

static struct event_loop loop;
static struct probe probe;
static struct endpoint endpoint;
static int listening, server;
static unsigned before, answers, ends;
static enum probe_end how;
static int error;
static bool resets;

static void on_answer(struct probe *which)
{
    ck_assert_ptr_eq(which, &probe);
    answers++;
    event_loop_quit(&loop);
}

static void on_end(struct probe *which, enum probe_end end, int number)
{
    ck_assert_ptr_eq(which, &probe);
    ck_assert(!probe.is_used);
    ends++;
    how = end;
    error = number;
    event_loop_quit(&loop);
}

static void set_up(void)
{
    struct sockaddr_in name = loopback(0);

    before = open_descriptors();
    answers = ends = 0;
    server = -1;
    resets = false;
    ck_assert_int_eq(event_loop_init(&loop, NULL), 0);
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(listening, 8), 0);
    name = loopback(port_of(listening));
    endpoint.length = sizeof name;
    memcpy(&endpoint.address, &name, sizeof name);
    probe_init(&probe, &loop, on_answer, on_end);
}

static void tear_down(void)
{
    probe_drop(&probe);
    event_loop_deinit(&loop);
    close(listening);
    if (server >= 0)
        close(server);
    ck_assert_uint_eq(open_descriptors(), before);
}

static void start(uint64_t serve_usec)
{
    const struct probe_terms terms = {
        .endpoint = &endpoint,
        .pattern = pattern_make(1, 1, SIZE),
        .expect = EXPECT_ECHO,
        .size = SIZE,
        .connect_usec = 20 * USEC_PER_SEC,
        .serve_usec = serve_usec,
        .resets = resets,
    };
    probe_start(&probe, &terms, -1);
}

static void on_idle(struct timer *timer)
{
    (void)timer;
    event_loop_quit(&loop);
}

/* Until something is told, or for a moment. */
static void turn(void)
{
    struct timer idle;
    timer_init(&idle, on_idle);
    event_loop_arm(&loop, &idle, clock_monotonic_usec() + 20 * USEC_PER_MSEC);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    timer_disarm(&idle);
}

static void turn_until_end(void)
{
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(ends, 1);
}

/* As a server: takes the messages, and answers them with `change` in the byte at `place`. */
static void answer(unsigned messages, size_t place, uint8_t change)
{
    uint8_t bytes[8 * SIZE];

    if (server < 0)
        server = accept(listening, NULL, NULL);
    ck_assert_int_ge(server, 0);
    receive_all(server, bytes, messages * SIZE);
    bytes[place] ^= change;
    send_all(server, bytes, messages * SIZE);
}

START_TEST(served)
{
    start(USEC_NEVER);
    probe_send(&probe); /* before it is connected */
    turn();
    ck_assert(probe.is_connected);
    answer(1, 0, 0);
    turn();
    ck_assert_uint_eq(answers, 1);
    probe_send(&probe);
    probe_send(&probe);
    answer(2, 0, 0);
    turn();
    ck_assert_uint_eq(answers, 3);
    probe_finish(&probe);
    expect_end(server);
    close(server);
    server = -1;
    turn_until_end();
    ck_assert_int_eq(how, PROBE_SERVED);
}
END_TEST

/* The half-close waits for the last answer. */
START_TEST(finished_before_it_is_answered)
{
    start(USEC_NEVER);
    probe_send(&probe);
    probe_finish(&probe);
    turn();
    answer(1, 0, 0);
    turn();
    expect_end(server);
    close(server);
    server = -1;
    turn_until_end();
    ck_assert_int_eq(how, PROBE_SERVED);
}
END_TEST

START_TEST(ended_by_the_server)
{
    start(USEC_NEVER);
    probe_send(&probe);
    turn();
    answer(1, 0, 0);
    if (_i == 0)
        close(server);
    else
        close_hard(server);
    server = -1;
    while (ends == 0)
        turn();
    ck_assert_int_eq(how, PROBE_BROKEN);
    ck_assert_int_eq(error, _i == 0 ? 0 : ECONNRESET);
}
END_TEST

/* The kernel tells a reset once, to whoever sends or receives next. */
START_TEST(reset_that_a_send_is_told)
{
    start(USEC_NEVER);
    turn();
    server = accept(listening, NULL, NULL);
    fault_arm("send", EPIPE, 1);
    probe_send(&probe);
    fault_disarm();
    ck_assert_uint_eq(ends, 0);
    ck_assert_int_eq(shutdown(server, SHUT_WR), 0);
    turn_until_end();
    ck_assert_int_eq(how, PROBE_BROKEN);
    ck_assert_int_eq(error, ECONNRESET);
}
END_TEST

/* Finishing or not, an answer that is owed is missing. */
START_TEST(ended_before_the_answer)
{
    start(USEC_NEVER);
    probe_send(&probe);
    probe_finish(&probe);
    turn();
    server = accept(listening, NULL, NULL);
    ck_assert_int_eq(shutdown(server, SHUT_WR), 0);
    turn_until_end();
    ck_assert_int_eq(how, PROBE_BROKEN);
    ck_assert_int_eq(error, 0);
}
END_TEST

START_TEST(wrong_byte)
{
    start(USEC_NEVER);
    probe_send(&probe);
    probe_send(&probe);
    turn();
    answer(2, SIZE + 10, 0x80);
    while (ends == 0)
        turn();
    ck_assert_int_eq(how, PROBE_WRONG);
    ck_assert_uint_eq(answers, 1);
    ck_assert_int_eq(probe.fault.kind, FAULT_CHANGED);
    ck_assert_uint_eq(probe.fault.offset, SIZE + 10);
    ck_assert_uint_eq(probe.wrong_bytes, 1);
}
END_TEST

START_TEST(one_byte_too_many)
{
    start(USEC_NEVER);
    probe_send(&probe);
    turn();
    answer(1, 0, 0);
    send_text(server, "xyz");
    while (ends == 0)
        turn();
    ck_assert_int_eq(how, PROBE_WRONG);
    ck_assert_int_eq(probe.fault.kind, FAULT_SURPLUS);
    ck_assert_uint_eq(probe.fault.offset, SIZE);
}
END_TEST

START_TEST(refused)
{
    close(listening);
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    start(USEC_NEVER);
    if (ends == 0)
        turn_until_end();
    ck_assert_int_eq(how, PROBE_UNCONNECTED);
    ck_assert_int_eq(error, ECONNREFUSED);
}
END_TEST

START_TEST(not_served_in_time)
{
    start(20 * USEC_PER_MSEC);
    probe_send(&probe);
    turn_until_end();
    ck_assert_int_eq(how, PROBE_TIMED_OUT);
    ck_assert(probe.is_connected);
}
END_TEST

/* It is over with the last answer, and no port of ours is left in TIME_WAIT. */
START_TEST(reset_behind_the_answer)
{
    resets = true;
    start(USEC_NEVER);
    probe_send(&probe);
    probe_finish(&probe);
    turn();
    answer(1, 0, 0);
    turn();
    if (ends == 0) /* the answer itself ended the first turn */
        turn();
    ck_assert_uint_eq(ends, 1);
    ck_assert_int_eq(how, PROBE_SERVED);
    expect_reset(server);
}
END_TEST

/* Told at once, and the probe is free to be started again. */
START_TEST(no_descriptor)
{
    static const char *const calls[] = {"socket", "epoll_ctl_add"};
    fault_arm(calls[_i], EMFILE, 0);
    start(USEC_NEVER);
    fault_disarm();
    ck_assert_uint_eq(ends, 1);
    ck_assert_int_eq(how, PROBE_SHORT);
    ck_assert_int_eq(error, EMFILE);
    start(USEC_NEVER);
    while (!probe.is_connected)
        turn();
}
END_TEST

START_TEST(send_fails)
{
    start(USEC_NEVER);
    turn();
    fault_arm("send", ENOBUFS, 0);
    probe_send(&probe);
    fault_disarm();
    ck_assert_uint_eq(ends, 1);
    ck_assert_int_eq(how, PROBE_BROKEN);
    ck_assert_int_eq(error, ENOBUFS);
}
END_TEST

START_TEST(dropped_without_a_word)
{
    start(USEC_NEVER);
    turn();
    probe_drop(&probe);
    probe_drop(&probe);
    ck_assert_uint_eq(ends, 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("probe");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, served);
    tcase_add_test(tests, finished_before_it_is_answered);
    tcase_add_loop_test(tests, ended_by_the_server, 0, 2);
    tcase_add_test(tests, reset_that_a_send_is_told);
    tcase_add_test(tests, ended_before_the_answer);
    tcase_add_test(tests, wrong_byte);
    tcase_add_test(tests, one_byte_too_many);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, not_served_in_time);
    tcase_add_test(tests, reset_behind_the_answer);
    tcase_add_loop_test(tests, no_descriptor, 0, 2);
    tcase_add_test(tests, send_fails);
    tcase_add_test(tests, dropped_without_a_word);
    return run_case(tests);
}
