#include "base/event_loop.h"

#include "loop_fixture.h"

#include <pthread.h>

FIXTURE(start_loop, stop_loop)

static void probe_add(struct probe *probe, unsigned count)
{
    probe_open(probe, count);
    ck_assert_int_eq(event_loop_add(&loop, &probe->source, EPOLLIN), 0);
}

static void probe_close(struct probe *probe)
{
    if (probe->source.fd < 0)
        return;
    event_loop_remove(&loop, &probe->source);
    close(probe->source.fd);
    probe->source.fd = -1;
}

TEST(reports_what_was_asked_for)
{
    static const uint32_t interests[] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, 0, EPOLLIN};
    struct probe probe;
    probe_add(&probe, 1);
    for (size_t i = 0; i < COUNT_OF(interests); i++) {
        ck_assert_int_eq(event_loop_change(&loop, &probe.source, interests[i]), 0);
        for (unsigned turns = 1; turns <= 2; turns++) { /* level-triggered: still unread */
            unsigned before = probe.calls;
            turn();
            ck_assert_uint_eq(probe.calls - before, interests[i] != 0);
            if (interests[i] != 0)
                ck_assert_uint_eq(probe.events, interests[i]);
        }
    }
    probe_close(&probe);
}

TEST(equal_interest_costs_nothing)
{
    struct probe probe;
    probe_add(&probe, 0);
    fault_arm("epoll_ctl_mod", ENOMEM, 0);
    int same = event_loop_change(&loop, &probe.source, EPOLLIN);
    int other = event_loop_change(&loop, &probe.source, EPOLLOUT);
    int same_again = event_loop_change(&loop, &probe.source, EPOLLIN);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(same, 0);
    ck_assert_int_eq(other, -ENOMEM);
    ck_assert_int_eq(same_again, 0);
    probe_close(&probe);
}

static struct probe pair[2];

static void remove_the_other(struct probe *probe)
{
    probe_close(probe == &pair[0] ? &pair[1] : &pair[0]);
}

/* Both are ready in one turn; whichever comes first takes the other one out. */
TEST(removed_source_hears_nothing_more)
{
    for (int i = 0; i < 2; i++) {
        probe_add(&pair[i], 1);
        pair[i].also = remove_the_other;
    }
    turn();
    ck_assert_uint_eq(pair[0].calls + pair[1].calls, 1);
    turn();
    ck_assert_uint_eq(pair[0].calls + pair[1].calls, 2);
    probe_close(&pair[0]);
    probe_close(&pair[1]);
}

TEST(removed_source_stays_open)
{
    struct probe probe;
    probe_add(&probe, 1);
    event_loop_remove(&loop, &probe.source);
    turn();
    ck_assert_uint_eq(probe.calls, 0);
    ck_assert_int_eq(event_loop_add(&loop, &probe.source, EPOLLIN), 0);
    turn();
    ck_assert_uint_eq(probe.calls, 1);
    probe_close(&probe);
}

TEST(removed_source_that_another_holds_is_out)
{
    struct probe probe;
    probe_add(&probe, 0);
    int other = dup(probe.source.fd);
    ck_assert_int_ge(other, 0);
    probe_close(&probe);
    const uint64_t one = 1;
    ck_assert_int_eq(write(other, &one, sizeof one), sizeof one);
    turn();
    ck_assert_uint_eq(probe.calls, 0);
    close(other);
}

TEST(many_sources_each_get_a_turn)
{
    static struct probe probes[EVENT_BATCH + 40];
    for (size_t i = 0; i < COUNT_OF(probes); i++)
        probe_add(&probes[i], 1);
    for (int i = 0; i < 4; i++)
        turn();
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        ck_assert_uint_ge(probes[i].calls, 1);
        probe_close(&probes[i]);
    }
}

TEST(many_wakes_are_one_write)
{
    fault_rules("write:count");
    for (int i = 0; i < 1000; i++)
        event_loop_wake(&loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(wakes, 1);
    turn(); /* and it can be woken again */
    ck_assert_uint_eq(wakes, 2);
}

static const struct {
    const char *wake_rules, *rules;
    unsigned long hits;
    int result;
} failing_turns[] = {
    {"", "read:EINTR:1", 1, 0}, /* comes again */
    {"write:EIO:1", "", 0, 0},  /* is tried again */
    {"", "epoll_wait:EINTR:1-3", 3, 0},
    {"", "epoll_wait:EBADF:1", 1, -EBADF},
};

TEST_EACH(failing_calls, failing_turns)
{
    fault_rules(c->wake_rules);
    event_loop_wake(&loop);
    fault_disarm();
    fault_rules(c->rules);
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), c->hits);
    ck_assert_int_eq(r, c->result);
    ck_assert_uint_eq(wakes, c->result == 0);
}

TEST(failed_wake_does_not_spare_the_next)
{
    fault_arm("write", EIO, 0);
    event_loop_wake(&loop);
    ck_assert_uint_ge(fault_disarm(), 1);
    turn();
    ck_assert_uint_eq(wakes, 1);
}

static void *run_loop(void *argument)
{
    *(int *)argument = event_loop_run(&loop);
    return NULL;
}

TEST(another_thread_wakes)
{
    pthread_t thread;
    int result = 1;
    ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, &result), 0);
    event_loop_wake(&loop);
    pthread_join(thread, NULL);
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(wakes, 1);
    event_loop_own(&loop);
    turn();
}

/* No wake may be lost, however they fall between the reading of the eventfd and on_wake. */
static atomic_uint posted;
static unsigned noticed;

static void notice(struct event_loop *woken)
{
    noticed = atomic_load(&posted);
    if (noticed == 20000)
        event_loop_quit(woken);
}

static void *post(void *woken)
{
    for (int i = 0; i < 10000; i++) {
        atomic_fetch_add(&posted, 1);
        event_loop_wake(woken);
    }
    return NULL;
}

TEST(no_wake_is_lost)
{
    struct event_loop noticing;
    pthread_t threads[2];
    ck_assert_int_eq(event_loop_init(&noticing, notice), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post, &noticing), 0);
    ck_assert_int_eq(event_loop_run(&noticing), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(noticed, 20000);
    event_loop_deinit(&noticing);
}

struct alarm {
    struct timer timer;
    unsigned fired;
    uint64_t fired_usec;
    struct alarm *stops; /* disarmed when this one fires */
    bool quits, again;
    const struct probe *probes; /* how many of them had been called when it fired */
    size_t count, called;
};

static void on_alarm(struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    alarm->fired++;
    alarm->fired_usec = clock_monotonic_usec();
    for (size_t i = 0; i < alarm->count; i++)
        alarm->called += alarm->probes[i].calls > 0;
    if (alarm->stops)
        timer_disarm(&alarm->stops->timer);
    if (alarm->again)
        event_loop_arm(&loop, timer, 1);
    alarm->again = false;
    if (alarm->quits)
        event_loop_quit(&loop);
}

static void arm(struct alarm *alarm, uint64_t deadline_usec)
{
    timer_init(&alarm->timer, on_alarm);
    event_loop_arm(&loop, &alarm->timer, deadline_usec);
}

TEST(timers_fire_and_not_early)
{
    struct alarm alarm = {.quits = true};
    uint64_t deadline = clock_monotonic_usec() + 30 * USEC_PER_MSEC;
    arm(&alarm, deadline);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(alarm.fired, 1);
    ck_assert_uint_ge(alarm.fired_usec, deadline);
}

TEST(timer_that_is_due_does_not_wait)
{
    struct alarm alarm = {.again = true};
    arm(&alarm, 1);
    turn();
    ck_assert_uint_eq(alarm.fired, 1); /* armed anew, for the next turn */
    clock_move(TIMER_TICK_USEC);
    turn();
    ck_assert_uint_eq(alarm.fired, 2);
    turn();
    ck_assert_uint_eq(alarm.fired, 2);
}

TEST(firing_timer_disarms_another)
{
    struct alarm one = {0}, two = {.stops = &one};
    one.stops = &two;
    arm(&one, 1);
    arm(&two, 1);
    turn();
    ck_assert_uint_eq(one.fired + two.fired, 1);
}

TEST(far_timer_does_not_overflow_the_wait)
{
    struct alarm alarm = {0};
    arm(&alarm, clock_monotonic_usec() + UINT64_C(1000000000) * USEC_PER_SEC);
    turn();
    ck_assert_uint_eq(alarm.fired, 0);
    timer_disarm(&alarm.timer);
}

/* Several batches, all of them ready again at once: nothing of them waits for the timer, and it for none of
 * them twice. */
TEST(all_that_is_ready_comes_before_a_timer)
{
    static struct probe probes[3 * EVENT_BATCH + 40];
    struct alarm alarm = {.quits = true, .probes = probes, .count = COUNT_OF(probes)};
    for (size_t i = 0; i < COUNT_OF(probes); i++)
        probe_add(&probes[i], 1);
    arm(&alarm, 1);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    ck_assert_uint_eq(alarm.fired, 1);
    ck_assert_uint_eq(alarm.called, COUNT_OF(probes));
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        ck_assert_uint_le(probes[i].calls, 3);
        probe_close(&probes[i]);
    }
}

static const struct {
    const char *rules;
    unsigned long hits;
    int result;
} failing_looks[] = {{"epoll_wait:EINTR:1-3", 3, 0}, {"epoll_wait:EBADF:2", 1, -EBADF}};

/* Of the wait, and of the last look before timers. */
TEST_EACH(timer_fires_only_after_a_look, failing_looks)
{
    struct probe probe;
    struct alarm alarm = {.quits = true, .probes = &probe, .count = 1};
    probe_add(&probe, 1);
    arm(&alarm, 1);
    fault_rules(c->rules);
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), c->hits);
    ck_assert_int_eq(r, c->result);
    ck_assert_uint_eq(alarm.fired, c->result == 0);
    ck_assert_uint_eq(alarm.called, c->result == 0);
    timer_disarm(&alarm.timer);
    probe_close(&probe);
}

TEST(stamps_follow_the_clock_in_a_long_turn)
{
    turn();
    uint64_t before = event_loop_stamp(&loop);
    ck_assert_uint_le(before, clock_monotonic_usec());
    /* An hour: how late the kernel's last tick is, which a busy machine decides, is nothing beside it. */
    clock_move(3600 * USEC_PER_SEC);
    ck_assert_uint_ge(event_loop_stamp(&loop), before + 1800 * USEC_PER_SEC);
    ck_assert_uint_le(event_loop_stamp(&loop), clock_monotonic_usec());
}

static const char *const init_rules[] = {"epoll_create1:ENOMEM:1", "eventfd:ENOMEM:1",
                                         "epoll_ctl_add:ENOMEM:1"};

TEST_EACH(failed_init_leaves_nothing, init_rules)
{
    struct event_loop other;
    unsigned before = open_descriptors();
    fault_rules(*c);
    int r = event_loop_init(&other, quit_on_wake);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(open_descriptors(), before);
}

/* stop_loop() finds no source. */
TEST(failed_add_counts_nothing)
{
    struct probe probe;
    probe_open(&probe, 1);
    fault_arm("epoll_ctl_add", ENOSPC, 1);
    int r = event_loop_add(&loop, &probe.source, EPOLLIN);
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
    close(probe.source.fd);
}

/* An hour is longer than a test may take. */
#define HOUR (3600 * USEC_PER_SEC)

static const uint32_t poll_times[] = {0, 200, HOUR};

/* It does not sleep past what comes, and neither sleeps nor polls past a timer. */
TEST_EACH(polls_before_it_sleeps, poll_times)
{
    struct probe probe;
    struct alarm alarm = {.quits = true};
    unsigned long looks;
    atomic_store(&loop.busy_poll_usec, *c);
    probe_add(&probe, 1);
    ck_assert_int_eq(turn_under("epoll_wait:count", &looks), 0);
    ck_assert_uint_eq(looks, 1);
    ck_assert_uint_eq(probe.calls, 1);
    probe_close(&probe);
    uint64_t begin = clock_monotonic_usec();
    arm(&alarm, begin + 20 * USEC_PER_MSEC);
    fault_rules("epoll_wait:count");
    int r = event_loop_run(&loop);
    looks = fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert_uint_ge(alarm.fired_usec, begin + 20 * USEC_PER_MSEC);
    /* The wheel may wake it on the way, at most once a millisecond. */
    ck_assert(*c > 0 || looks <= 20);
}

/* And a loop that sleeps looks no hundred times, since nothing comes. */
TEST(failing_poll_is_reported)
{
    atomic_store(&loop.busy_poll_usec, HOUR);
    fault_rules("epoll_wait:EINVAL:100");
    int r = event_loop_run(&loop);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, -EINVAL);
}
