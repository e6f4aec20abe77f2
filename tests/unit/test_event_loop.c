#include "base/event_loop.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

static struct event_loop loop;
static unsigned wakes;

static void quit_on_wake(struct event_loop *woken)
{
    wakes++;
    event_loop_quit(woken);
}

static void start(void)
{
    wakes = 0;
    ck_assert_int_eq(event_loop_init(&loop, quit_on_wake), 0);
}

/* One turn, with whatever is ready now. */
static void turn(void)
{
    event_loop_wake(&loop);
    ck_assert_int_eq(event_loop_run(&loop), 0);
}

/* A source that is an eventfd, and remembers what it was told. */
struct probe {
    struct event_source source;
    unsigned calls;
    uint32_t events;
    struct probe *removes; /* taken out of the loop when this one is called */
};

static void on_ready(struct event_source *source, uint32_t events)
{
    struct probe *probe = CONTAINER_OF(source, struct probe, source);
    probe->calls++;
    probe->events = events;
    if (probe->removes) {
        event_loop_remove(&loop, &probe->removes->source);
        close(probe->removes->source.fd);
        probe->removes->source.fd = -1;
        probe->removes = NULL;
    }
}

static void probe_open(struct probe *probe, unsigned count)
{
    *probe = (struct probe){.source = {.fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC), .ready = on_ready}};
    ck_assert_int_ge(probe->source.fd, 0);
}

static void probe_close(struct probe *probe)
{
    if (probe->source.fd < 0)
        return;
    event_loop_remove(&loop, &probe->source);
    close(probe->source.fd);
}

START_TEST(reports_what_was_asked_for)
{
    struct probe probe;
    start();
    probe_open(&probe, 1);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    ck_assert_uint_eq(loop.sources, 1);
    turn();
    ck_assert_uint_eq(probe.calls, 1);
    ck_assert_uint_eq(probe.events, EPOLLIN);
    turn(); /* level-triggered: still unread */
    ck_assert_uint_eq(probe.calls, 2);

    ck_assert_int_eq(event_loop_change(&loop, &probe.source, EPOLLOUT), 0);
    turn();
    ck_assert_uint_eq(probe.calls, 3);
    ck_assert_uint_eq(probe.events, EPOLLOUT);
    ck_assert_int_eq(event_loop_change(&loop, &probe.source, 0), 0);
    turn();
    ck_assert_uint_eq(probe.calls, 3);
    probe_close(&probe);
    ck_assert_uint_eq(loop.sources, 0);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(equal_interest_costs_nothing)
{
    struct probe probe;
    start();
    probe_open(&probe, 0);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    fault_arm("epoll_ctl_mod", ENOMEM, 0);
    int same = event_loop_change(&loop, &probe.source, EPOLLIN);
    int other = event_loop_change(&loop, &probe.source, EPOLLOUT);
    unsigned long hits = fault_disarm();
    ck_assert_int_eq(same, 0);
    ck_assert_int_eq(other, -ENOMEM);
    ck_assert_uint_eq(hits, 1);
    ck_assert_uint_eq(probe.source.interest, EPOLLIN);
    probe_close(&probe);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(removed_source_hears_nothing_more)
{
    struct probe probes[2];
    start();
    for (int i = 0; i < 2; i++) {
        probe_open(&probes[i], 1);
        ck_assert_int_eq(event_loop_add(&loop, &probes[i].source, EPOLLIN), 0);
    }
    /* Both are ready in one turn; whichever comes first takes the other one out. */
    probes[0].removes = &probes[1];
    probes[1].removes = &probes[0];
    turn();
    ck_assert_uint_eq(probes[0].calls + probes[1].calls, 1);
    ck_assert_uint_eq(loop.sources, 1);
    turn();
    ck_assert_uint_eq(probes[0].calls + probes[1].calls, 2);
    probe_close(&probes[0]);
    probe_close(&probes[1]);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(removed_source_stays_open)
{
    struct probe probe;
    start();
    probe_open(&probe, 1);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    event_loop_remove(&loop, &probe.source);
    turn();
    ck_assert_uint_eq(probe.calls, 0);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    turn();
    ck_assert_uint_eq(probe.calls, 1);
    probe_close(&probe);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(removed_source_that_another_holds_is_out)
{
    struct probe probe;
    start();
    probe_open(&probe, 0);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    int other = dup(probe.source.fd);
    ck_assert_int_ge(other, 0);
    probe_close(&probe);
    const uint64_t one = 1;
    ck_assert_int_eq(write(other, &one, sizeof one), sizeof one);
    turn();
    ck_assert_uint_eq(probe.calls, 0);
    close(other);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(many_sources_each_get_a_turn)
{
    static struct probe probes[EVENT_BATCH + 40];
    start();
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        probe_open(&probes[i], 1);
        ck_assert_int_eq(event_loop_add(&loop, &probes[i].source, EPOLLIN), 0);
    }
    for (int i = 0; i < 4; i++)
        turn();
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        ck_assert_uint_ge(probes[i].calls, 1);
        probe_close(&probes[i]);
    }
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(many_wakes_are_one_write)
{
    start();
    fault_rules("write:count");
    for (int i = 0; i < 1000; i++)
        event_loop_wake(&loop);
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(wakes, 1);
    turn(); /* and it can be woken again */
    ck_assert_uint_eq(wakes, 2);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(unread_wake_comes_again)
{
    start();
    fault_arm("read", EINTR, 1);
    event_loop_wake(&loop);
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(wakes, 1);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failing_wake_is_tried_again)
{
    start();
    fault_arm("write", EIO, 1);
    event_loop_wake(&loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(wakes, 1);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failed_wake_does_not_spare_the_next)
{
    start();
    fault_arm("write", EIO, 0);
    event_loop_wake(&loop);
    ck_assert_uint_ge(fault_disarm(), 1);
    turn();
    ck_assert_uint_eq(wakes, 1);
    event_loop_deinit(&loop);
}
END_TEST

static void *run_loop(void *argument)
{
    *(int *)argument = event_loop_run(&loop);
    return NULL;
}

START_TEST(another_thread_wakes)
{
    pthread_t thread;
    int result = 1;
    start();
    ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, &result), 0);
    event_loop_wake(&loop);
    pthread_join(thread, NULL);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(wakes, 1);
    event_loop_own(&loop);
    turn();
    event_loop_deinit(&loop);
}
END_TEST

/* No wake may be lost, however they fall between the reading of the eventfd and on_wake. */
static atomic_uint posted;
static unsigned noticed;

static void notice(struct event_loop *woken)
{
    noticed = atomic_load(&posted);
    if (noticed == 20000)
        event_loop_quit(woken);
}

static void *post(void *argument)
{
    (void)argument;
    for (int i = 0; i < 10000; i++) {
        atomic_fetch_add(&posted, 1);
        event_loop_wake(&loop);
    }
    return NULL;
}

START_TEST(no_wake_is_lost)
{
    pthread_t threads[2];
    atomic_store(&posted, 0);
    ck_assert_int_eq(event_loop_init(&loop, notice), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post, NULL), 0);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(noticed, 20000);
    event_loop_deinit(&loop);
}
END_TEST

struct alarm {
    struct timer timer;
    unsigned fired;
    uint64_t fired_usec;
    struct alarm *stops; /* disarmed when this one fires */
    bool quits, again;
};

static void on_alarm(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    alarm->fired++;
    alarm->fired_usec = loop.now;
    if (alarm->stops)
        timer_disarm(&alarm->stops->timer);
    if (alarm->again)
        event_loop_arm(&loop, timer, loop.now);
    alarm->again = false;
    if (alarm->quits)
        event_loop_quit(&loop);
}

START_TEST(timers_fire_and_not_early)
{
    struct alarm alarm = {.quits = true};
    start();
    timer_init(&alarm.timer, on_alarm);
    uint64_t deadline = clock_monotonic_usec() + 30 * USEC_PER_MSEC;
    event_loop_arm(&loop, &alarm.timer, deadline);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(alarm.fired, 1);
    ck_assert(alarm.fired_usec >= deadline);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(timer_that_is_due_does_not_wait)
{
    struct alarm alarm = {.again = true};
    start();
    timer_init(&alarm.timer, on_alarm);
    event_loop_arm(&loop, &alarm.timer, 1);
    turn();
    ck_assert_uint_eq(alarm.fired, 1); /* armed anew, for the next turn */
    WAIT_FOR((turn(), alarm.fired == 2));
    turn();
    ck_assert_uint_eq(alarm.fired, 2);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(firing_timer_disarms_another)
{
    struct alarm one = {0}, two = {0};
    start();
    timer_init(&one.timer, on_alarm);
    timer_init(&two.timer, on_alarm);
    one.stops = &two;
    two.stops = &one;
    event_loop_arm(&loop, &one.timer, 1);
    event_loop_arm(&loop, &two.timer, 1);
    turn();
    ck_assert_uint_eq(one.fired + two.fired, 1);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(far_timer_does_not_overflow_the_wait)
{
    struct alarm alarm = {0};
    start();
    timer_init(&alarm.timer, on_alarm);
    event_loop_arm(&loop, &alarm.timer, clock_monotonic_usec() + UINT64_C(1000000000) * USEC_PER_SEC);
    turn();
    ck_assert_uint_eq(alarm.fired, 0);
    timer_disarm(&alarm.timer);
    event_loop_deinit(&loop);
}
END_TEST

/* A timer that notes how many of the sources had been called when it fired. */
struct witness {
    struct timer timer;
    const struct probe *probes;
    size_t count, called;
    unsigned fired;
};

static void on_witness(struct timer *timer)
{
    struct witness *witness = CONTAINER_OF(timer, struct witness, timer);
    witness->fired++;
    for (size_t i = 0; i < witness->count; i++)
        witness->called += witness->probes[i].calls > 0;
    event_loop_quit(&loop);
}

static void witness(struct witness *witness, struct probe *probes, size_t count)
{
    *witness = (struct witness){.probes = probes, .count = count};
    timer_init(&witness->timer, on_witness);
    for (size_t i = 0; i < count; i++) {
        probe_open(&probes[i], 1);
        ck_assert_int_eq(event_loop_add(&loop, &probes[i].source, EPOLLIN), 0);
    }
    event_loop_arm(&loop, &witness->timer, 1);
}

START_TEST(all_that_is_ready_comes_before_a_timer)
{
    /* Several batches, all of them ready again at once: nothing of them waits for the timer, and it for none
     * of them twice. */
    static struct probe probes[3 * EVENT_BATCH + 40];
    struct witness timer;
    start();
    witness(&timer, probes, COUNT_OF(probes));
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(timer.fired, 1);
    ck_assert_uint_eq(timer.called, COUNT_OF(probes));
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        ck_assert_uint_le(probes[i].calls, 3);
        probe_close(&probes[i]);
    }
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(interrupted_wait_fires_no_timer)
{
    struct probe probe;
    struct witness timer;
    start();
    witness(&timer, &probe, 1);
    fault_rules("epoll_wait:EINTR:1-3");
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), 3);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(timer.called, 1);
    probe_close(&probe);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failing_look_before_timers_is_reported)
{
    struct probe probe;
    struct witness timer;
    start();
    witness(&timer, &probe, 1);
    fault_arm("epoll_wait", EBADF, 2);
    int r = event_loop_run(&loop);
    fault_disarm();
    ck_assert_int_eq(r, -EBADF);
    ck_assert_uint_eq(timer.fired, 0);
    timer_disarm(&timer.timer);
    probe_close(&probe);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(stamps_follow_the_clock_in_a_long_turn)
{
    start();
    turn();
    uint64_t late = loop.now + 50 * USEC_PER_MSEC;
    ck_assert_uint_ge(event_loop_stamp(&loop), loop.now);
    WAIT_FOR(event_loop_stamp(&loop) >= late);
    ck_assert_uint_le(event_loop_stamp(&loop), clock_monotonic_usec());
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failing_wait_is_reported)
{
    start();
    fault_arm("epoll_wait", EBADF, 1);
    int r = event_loop_run(&loop);
    fault_disarm();
    ck_assert_int_eq(r, -EBADF);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(interrupted_wait_goes_on)
{
    start();
    event_loop_wake(&loop);
    fault_rules("epoll_wait:EINTR:1-3");
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), 3);
    ck_assert_int_eq(r, 0);
    ck_assert_uint_eq(wakes, 1);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failed_init_leaves_nothing)
{
    static const struct {
        const char *call;
        int error;
    } cases[] = {{"epoll_create1", EMFILE}, {"eventfd", ENFILE}, {"epoll_ctl_add", ENOMEM}};
    unsigned before = open_descriptors();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        fault_arm(cases[i].call, cases[i].error, 1);
        int r = event_loop_init(&loop, quit_on_wake);
        fault_disarm();
        ck_assert_int_eq(r, -cases[i].error);
        ck_assert_uint_eq(open_descriptors(), before);
    }
}
END_TEST

START_TEST(failed_add_counts_nothing)
{
    struct probe probe;
    start();
    probe_open(&probe, 1);
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    int r = event_loop_add(&loop, &probe.source, EPOLLIN);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_uint_eq(loop.sources, 0);
    close(probe.source.fd);
    event_loop_deinit(&loop);
}
END_TEST

/* Counts how often a loop looks that nobody talks to for 20 ms. */
static unsigned long looks(uint32_t busy_poll_usec)
{
    struct alarm alarm = {.quits = true};
    start();
    timer_init(&alarm.timer, on_alarm);
    atomic_store(&loop.busy_poll_usec, busy_poll_usec);
    event_loop_arm(&loop, &alarm.timer, clock_monotonic_usec() + 20 * USEC_PER_MSEC);
    fault_rules("epoll_wait:count");
    ck_assert_int_eq(event_loop_run(&loop), 0);
    unsigned long count = fault_disarm();
    event_loop_deinit(&loop);
    return count;
}

START_TEST(polls_before_it_sleeps)
{
    ck_assert_uint_gt(looks(2 * USEC_PER_MSEC), looks(0) + 10);

    struct probe probe;
    start();
    atomic_store(&loop.busy_poll_usec, 200);
    probe_open(&probe, 1);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    turn();
    ck_assert_uint_eq(probe.calls, 1);
    probe_close(&probe);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(poll_ends_when_a_timer_is_due)
{
    struct alarm alarm = {.quits = true};
    start();
    timer_init(&alarm.timer, on_alarm);
    atomic_store(&loop.busy_poll_usec, USEC_PER_SEC);
    uint64_t begin = clock_monotonic_usec();
    event_loop_arm(&loop, &alarm.timer, begin + 20 * USEC_PER_MSEC);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(alarm.fired, 1);
    ck_assert_uint_ge(alarm.fired_usec, begin + 20 * USEC_PER_MSEC);
    ck_assert_uint_lt(clock_monotonic_usec() - begin, 500 * USEC_PER_MSEC);
    event_loop_deinit(&loop);
}
END_TEST

START_TEST(failing_poll_is_reported)
{
    start();
    atomic_store(&loop.busy_poll_usec, 100);
    fault_arm("epoll_wait", EINVAL, 1);
    int r = event_loop_run(&loop);
    fault_disarm();
    ck_assert_int_eq(r, -EINVAL);
    event_loop_deinit(&loop);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("event_loop");
    tcase_add_test(tests, reports_what_was_asked_for);
    tcase_add_test(tests, equal_interest_costs_nothing);
    tcase_add_test(tests, removed_source_hears_nothing_more);
    tcase_add_test(tests, removed_source_stays_open);
    tcase_add_test(tests, removed_source_that_another_holds_is_out);
    tcase_add_test(tests, many_sources_each_get_a_turn);
    tcase_add_test(tests, many_wakes_are_one_write);
    tcase_add_test(tests, unread_wake_comes_again);
    tcase_add_test(tests, failing_wake_is_tried_again);
    tcase_add_test(tests, failed_wake_does_not_spare_the_next);
    tcase_add_test(tests, another_thread_wakes);
    tcase_add_test(tests, no_wake_is_lost);
    tcase_add_test(tests, timers_fire_and_not_early);
    tcase_add_test(tests, timer_that_is_due_does_not_wait);
    tcase_add_test(tests, firing_timer_disarms_another);
    tcase_add_test(tests, far_timer_does_not_overflow_the_wait);
    tcase_add_test(tests, all_that_is_ready_comes_before_a_timer);
    tcase_add_test(tests, interrupted_wait_fires_no_timer);
    tcase_add_test(tests, failing_look_before_timers_is_reported);
    tcase_add_test(tests, stamps_follow_the_clock_in_a_long_turn);
    tcase_add_test(tests, failing_wait_is_reported);
    tcase_add_test(tests, interrupted_wait_goes_on);
    tcase_add_test(tests, failed_init_leaves_nothing);
    tcase_add_test(tests, failed_add_counts_nothing);
    tcase_add_test(tests, polls_before_it_sleeps);
    tcase_add_test(tests, poll_ends_when_a_timer_is_due);
    tcase_add_test(tests, failing_poll_is_reported);
    return run_case(tests);
}
