#include "base/event_set.h"

#include "common.h"
#include "faults.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define COUNT 5

static struct event_loop loop;
static struct event_set set;

/* A source that is always ready. */
struct probe {
    struct event_source source;
    unsigned calls;
    bool pauses;           /* the set, when it is called */
    struct probe *removes; /* another, when it is called */
};

static struct probe probes[COUNT];

static void on_ready(struct event_source *source, uint32_t events)
{
    struct probe *probe = CONTAINER_OF(source, struct probe, source);
    ck_assert_uint_eq(events, EPOLLIN);
    probe->calls++;
    if (probe->pauses)
        ck_assert_int_eq(event_set_poll(&set, false), 0);
    if (probe->removes) {
        event_set_remove(&set, &probe->removes->source);
        close(probe->removes->source.fd);
        probe->removes->source.fd = -1;
        for (int i = 0; i < COUNT; i++)
            probes[i].removes = NULL;
    }
}

static void start(void)
{
    ck_assert_int_eq(event_loop_init(&loop, event_loop_quit), 0);
    ck_assert_int_eq(event_set_init(&set, &loop), 0);
    for (int i = 0; i < COUNT; i++) {
        probes[i] =
            (struct probe){.source = {.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), .ready = on_ready}};
        ck_assert_int_ge(probes[i].source.fd, 0);
        ck_assert_int_eq(event_set_add(&set, &probes[i].source), 0);
    }
}

static void stop(void)
{
    for (int i = 0; i < COUNT; i++) {
        if (probes[i].source.fd < 0)
            continue;
        event_set_remove(&set, &probes[i].source);
        close(probes[i].source.fd);
    }
    event_set_deinit(&set);
    event_loop_deinit(&loop);
}

/* One turn of the loop, with whatever is ready now. */
static void turn(void)
{
    event_loop_wake(&loop);
    ck_assert_int_eq(event_loop_run(&loop), 0);
}

static unsigned all_calls(void)
{
    unsigned sum = 0;
    for (int i = 0; i < COUNT; i++)
        sum += probes[i].calls;
    return sum;
}

START_TEST(every_ready_source_has_a_turn)
{
    start();
    for (unsigned turns = 1; turns <= 3; turns++) {
        turn();
        for (int i = 0; i < COUNT; i++)
            ck_assert_uint_eq(probes[i].calls, turns);
    }
    uint64_t count;
    ck_assert_int_eq(read(probes[0].source.fd, &count, sizeof count), sizeof count);
    turn();
    ck_assert_uint_eq(probes[0].calls, 3);
    ck_assert_uint_eq(probes[1].calls, 4);
    stop();
}
END_TEST

START_TEST(pause_costs_one_call)
{
    start();
    fault_rules("epoll_ctl:count");
    int off = event_set_poll(&set, false), again = event_set_poll(&set, false);
    unsigned long calls = fault_disarm();
    ck_assert_int_eq(off, 0);
    ck_assert_int_eq(again, 0);
    ck_assert_uint_eq(calls, 1);
    turn();
    ck_assert_uint_eq(all_calls(), 0);
    ck_assert_int_eq(event_set_poll(&set, true), 0);
    turn();
    ck_assert_uint_eq(all_calls(), COUNT);
    stop();
}
END_TEST

/* Each call pauses the set: nobody is called twice before all have been. */
START_TEST(pauses_are_fair)
{
    start();
    for (int i = 0; i < COUNT; i++)
        probes[i].pauses = true;
    for (unsigned turns = 1; turns <= 3 * COUNT; turns++) {
        ck_assert_int_eq(event_set_poll(&set, true), 0);
        turn();
        ck_assert_uint_eq(all_calls(), turns);
        for (int i = 0; i < COUNT; i++)
            ck_assert_uint_le(probes[i].calls, (turns + COUNT - 1) / COUNT);
    }
    stop();
}
END_TEST

START_TEST(removed_source_hears_nothing_more)
{
    start();
    for (int i = 0; i < COUNT; i++) /* whoever is called first takes its neighbour out */
        probes[i].removes = &probes[(i + 1) % COUNT];
    turn();
    ck_assert_uint_eq(all_calls(), COUNT - 1);
    turn();
    ck_assert_uint_eq(all_calls(), 2 * (COUNT - 1));
    stop();
}
END_TEST

START_TEST(source_added_to_a_paused_set)
{
    start();
    ck_assert_int_eq(event_set_poll(&set, false), 0);
    struct probe late = {.source = {.fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), .ready = on_ready}};
    ck_assert_int_eq(event_set_add(&set, &late.source), 0);
    turn();
    ck_assert_uint_eq(late.calls, 0);
    ck_assert_int_eq(event_set_poll(&set, true), 0);
    turn();
    ck_assert_uint_eq(late.calls, 1);
    event_set_remove(&set, &late.source);
    close(late.source.fd);
    stop();
}
END_TEST

START_TEST(errors)
{
    struct event_set other;
    start();
    fault_arm("epoll_create1", EMFILE, 1);
    int created = event_set_init(&other, &loop);
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    int registered = event_set_init(&other, &loop);
    fault_arm("epoll_ctl_add", ENOMEM, 1);
    int added = event_set_add(&set, &probes[0].source);
    fault_arm("epoll_ctl_mod", ENOMEM, 1);
    int paused = event_set_poll(&set, false);
    fault_disarm();
    ck_assert_int_eq(created, -EMFILE);
    ck_assert_int_eq(registered, -ENOSPC);
    ck_assert_int_eq(added, -ENOMEM);
    ck_assert_int_eq(paused, -ENOMEM);
    turn(); /* polled as before */
    ck_assert_uint_eq(all_calls(), COUNT);

    event_loop_wake(&loop);
    fault_arm("epoll_wait", EINTR, 2); /* the first is the loop's */
    int r = event_loop_run(&loop);
    fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(all_calls(), COUNT);
    turn();
    ck_assert_uint_eq(all_calls(), 2 * COUNT);
    stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("event_set");
    tcase_add_test(tests, every_ready_source_has_a_turn);
    tcase_add_test(tests, pause_costs_one_call);
    tcase_add_test(tests, pauses_are_fair);
    tcase_add_test(tests, removed_source_hears_nothing_more);
    tcase_add_test(tests, source_added_to_a_paused_set);
    tcase_add_test(tests, errors);
    return run_case(tests);
}
