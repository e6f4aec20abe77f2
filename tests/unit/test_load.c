#include "client/bench/load_thread.h"
#include "echo_server.h"
#include "load_fixture.h"

/* Threads that have run already, for what is made of their results. */
static struct load_thread *finished[2];

static struct load_thread *make_finished(unsigned index)
{
    finished[index] = calloc(1, sizeof *finished[index]);
    ck_assert_ptr_nonnull(finished[index]);
    return finished[index];
}

static struct load with_results(void)
{
    return (struct load){.threads = finished, .thread_count = 2};
}

static void free_results(void)
{
    free(finished[0]);
    free(finished[1]);
}

START_TEST(results_add_up)
{
    struct load_result *a = &make_finished(0)->result, *b = &make_finished(1)->result;
    struct load done = with_results();

    *a = (struct load_result){.messages = 1,
                              .bytes = 10,
                              .unanswered = 2,
                              .connected = 3,
                              .last_answer_nsec = 50,
                              .over_nsec = 70,
                              .wall_nsec = 100,
                              .cpu_nsec = 30,
                              .queued_nsec = 1,
                              .busy = 0.3,
                              .unended = 1};
    *b = (struct load_result){.messages = 5,
                              .bytes = 50,
                              .broken = 4,
                              .wrong = 1,
                              .last_answer_nsec = 40,
                              .over_nsec = 60,
                              .wall_nsec = 90,
                              .cpu_nsec = 60,
                              .queued_nsec = 2,
                              .busy = 0.7,
                              .unconnected = 2};
    histogram_add(&a->latency, 1000);
    histogram_add(&b->latency, 3000);
    histogram_add(&b->connect, 7);
    histogram_add(&b->lag, 9);
    ck_assert_int_eq(load_collect(&done, &result), 0);
    ck_assert_uint_eq(result.messages, 6);
    ck_assert_uint_eq(result.bytes, 60);
    ck_assert_uint_eq(result.unanswered, 2);
    ck_assert_uint_eq(result.connected, 3);
    ck_assert_uint_eq(result.unconnected, 2);
    ck_assert_uint_eq(result.broken, 4);
    ck_assert_uint_eq(result.wrong, 1);
    ck_assert_uint_eq(result.unended, 1);
    ck_assert_uint_eq(result.last_answer_nsec, 50);
    ck_assert_uint_eq(result.over_nsec, 70);
    ck_assert_uint_eq(result.wall_nsec, 100);
    ck_assert_uint_eq(result.cpu_nsec, 90);
    ck_assert_uint_eq(result.queued_nsec, 3);
    ck_assert(result.busy == 0.7);
    ck_assert_uint_eq(result.latency.count, 2);
    ck_assert_uint_eq(result.latency.max, 3000);
    ck_assert_uint_eq(result.connect.count, 1);
    ck_assert_uint_eq(result.lag.max, 9);
    free_results();
}
END_TEST

START_TEST(the_first_error_of_each_kind)
{
    struct load_result *a = &make_finished(0)->result, *b = &make_finished(1)->result;
    struct load done = with_results();

    a->unconnected = 1;
    a->connect_error = ECONNREFUSED;
    b->unconnected = 1;
    b->connect_error = ETIMEDOUT;
    b->broken = 1;
    b->break_error = ECONNRESET;
    atomic_store(&finished[1]->error, -EBADF);
    ck_assert_int_eq(load_collect(&done, &result), -EBADF);
    ck_assert_int_eq(result.connect_error, ECONNREFUSED);
    ck_assert_int_eq(result.break_error, ECONNRESET);
    free_results();
}
END_TEST

START_TEST(faults_have_a_limit)
{
    struct load_result *a = &make_finished(0)->result, *b = &make_finished(1)->result;
    struct load done = with_results();

    a->fault_count = LOAD_FAULTS - 1;
    b->fault_count = LOAD_FAULTS;
    for (unsigned i = 0; i < LOAD_FAULTS; i++) {
        a->faults[i].connection = 100 + i;
        b->faults[i].connection = 200 + i;
    }
    ck_assert_int_eq(load_collect(&done, &result), 0);
    ck_assert_uint_eq(result.fault_count, LOAD_FAULTS);
    ck_assert_uint_eq(result.faults[LOAD_FAULTS - 2].connection, 100 + LOAD_FAULTS - 2);
    ck_assert_uint_eq(result.faults[LOAD_FAULTS - 1].connection, 200);
    free_results();
}
END_TEST

static void on_wake(struct event_loop *loop)
{
    if (load_is_finished(&load))
        event_loop_quit(loop);
    else if (load_is_settled(&load) && atomic_load(&load.phase) == LOAD_CONNECT)
        load_run(&load);
}

/* The coordinator is woken for each thing that it has to do. */
START_TEST(coordinated)
{
    struct load_plan plan = one_connection();
    struct echo_server server;
    int listening = listen_anywhere();

    echo_start(&server, listening);
    plan.endpoint = endpoint_of(port_of(listening));
    plan.connections = 8;
    plan.threads = 4;
    plan.count = 80;
    ck_assert_int_eq(event_loop_init(&coordinator, on_wake), 0);
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    ck_assert_int_eq(event_loop_run(&coordinator), 0);
    ck_assert_uint_eq(load_connected(&load), 8);
    struct load_progress progress = load_progress(&load);
    ck_assert_uint_eq(progress.messages, 80);
    ck_assert_uint_eq(progress.bytes, 80 * SIZE);
    ck_assert_uint_eq(progress.connections, 0);
    ck_assert_int_eq(load_collect(&load, &result), 0);
    ck_assert_uint_eq(result.messages, 80);
    load_deinit(&load);
    event_loop_deinit(&coordinator);
    echo_stop(&server);
    close(listening);
}
END_TEST

/* As when the coordinator cannot go on. */
START_TEST(given_up_half_way)
{
    struct load_plan plan = one_connection();
    struct echo_server server;
    int listening = listen_anywhere();

    echo_start(&server, listening);
    plan.endpoint = endpoint_of(port_of(listening));
    plan.connections = 4;
    plan.threads = 2;
    ck_assert_int_eq(event_loop_init(&coordinator, NULL), 0);
    ck_assert_int_eq(load_init(&load, &plan, &coordinator, -1), 0);
    if (_i == 1) {
        WAIT_FOR(load_is_settled(&load));
        load_run(&load);
        WAIT_FOR(load_progress(&load).messages > 10);
    }
    load_deinit(&load);
    event_loop_deinit(&coordinator);
    echo_stop(&server);
    close(listening);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("load");
    tcase_add_test(tests, results_add_up);
    tcase_add_test(tests, the_first_error_of_each_kind);
    tcase_add_test(tests, faults_have_a_limit);
    tcase_add_test(tests, coordinated);
    tcase_add_loop_test(tests, given_up_half_way, 0, 2);
    return run_case(tests);
}
