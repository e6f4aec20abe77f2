#include "daemon/watchdog.h"

#include "base/clock.h"
#include "capture.h"
#include "faults.h"
#include "full_queue.h"
#include "manager_socket.h"

static struct event_loop loop;
static struct vacancy vacancy = {.loop = &loop};
static struct worker_pool pool;
static struct watchdog watchdog;

static void on_wake(struct event_loop *woken)
{
    event_loop_quit(woken);
}

static void turn(void)
{
    event_loop_wake(&loop);
    ck_assert_int_eq(event_loop_run(&loop), 0);
}

static bool is_told(void)
{
    turn();
    return is_readable(manager_fd);
}

static void setup(void)
{
    manager_open();
    ck_assert_int_eq(event_loop_init(&loop, on_wake), 0);
    ck_assert_int_eq(worker_pool_init(&pool, 2, 16, &vacancy), 0);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
}

static void teardown(void)
{
    watchdog_stop(&watchdog);
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    event_loop_deinit(&loop);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    manager_close();
}

static void start(const char *usec)
{
    ck_assert_int_eq(setenv("WATCHDOG_USEC", usec, 1), 0);
    watchdog_start(&watchdog, &loop, &pool);
}

static void expect_when_told(const char *message)
{
    WAIT_FOR(is_told());
    expect(message);
}

/* Whatever comes before it. */
static void wait_told(const char *message)
{
    char bytes[64];
    do {
        WAIT_FOR(is_told());
        ssize_t length = recv(manager_fd, bytes, sizeof bytes - 1, 0);
        ck_assert_int_gt(length, 0);
        bytes[length] = '\0';
    } while (strcmp(bytes, message) != 0);
}

START_TEST(not_wanted)
{
    watchdog_start(&watchdog, &loop, &pool);
    ck_assert(!timer_is_armed(&watchdog.timer));
    watchdog_stop(&watchdog);

    ck_assert_int_eq(setenv("WATCHDOG_PID", "1", 1), 0); /* meant for another process */
    start("100000");
    ck_assert(!timer_is_armed(&watchdog.timer));
}
END_TEST

START_TEST(never_started)
{
    static struct watchdog untouched;
    watchdog_stop(&untouched);
}
END_TEST

START_TEST(cannot_be_read)
{
    capture(LOG_LEVEL_DEBUG);
    start("a moment");
    const char *text = written();
    expect_in(text, "warning: no watchdog: ");
    expect_in(text, strerror(EINVAL));
    ck_assert(!timer_is_armed(&watchdog.timer));
}
END_TEST

START_TEST(alive_at_half_the_time)
{
    uint64_t before = clock_monotonic_usec();
    start("100000");
    for (int i = 0; i < 3; i++)
        expect_when_told("WATCHDOG=1");
    ck_assert_uint_ge(clock_monotonic_usec() - before, 150000);
}
END_TEST

START_TEST(stuck_worker_is_named)
{
    turn();
    WAIT_FOR(atomic_load(&pool.workers[1].tid) != 0);
    capture(LOG_LEVEL_DEBUG);
    /* It comes out of the wait that it is in, and not out of the next one. */
    fault_rules("epoll_wait@worker-2:sleep=60000");
    uint64_t before = clock_monotonic_usec();
    start("200000");
    wait_told("WATCHDOG=trigger");
    uint64_t after = clock_monotonic_usec();
    fault_disarm();
    const char *text = written();
    char named[64];
    snprintf(named, sizeof named, "worker 2 (thread %d) has not turned its loop", (int)pool.workers[1].tid);
    expect_in(text, "error: ");
    expect_in(text, named);
    ck_assert_uint_ge(after - before, 150000);
    wait_told("WATCHDOG=1"); /* it turns again */
}
END_TEST

START_TEST(late_is_not_stuck)
{
    capture(LOG_LEVEL_DEBUG);
    start("2000000");
    atomic_store(&pool.workers[0].turned, false);
    watchdog.timer.fire(&watchdog.timer);
    expect_nothing_yet(manager_fd);
    ck_assert(watchdog.is_late);
    atomic_store(&pool.workers[0].turned, true);
    WAIT_FOR(!worker_pool_stuck(&pool));
    watchdog.timer.fire(&watchdog.timer);
    expect("WATCHDOG=1");
    ck_assert(!watchdog.is_late);
    ck_assert_str_eq(written(), "");
}
END_TEST

START_TEST(busy_manager_is_told_sooner_again)
{
    start("100000");
    fill_queue(&manager_name, manager_length);
    uint64_t end = clock_monotonic_usec() + 60000;
    while (clock_monotonic_usec() < end)
        turn();
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    expect_when_told("WATCHDOG=1");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("watchdog");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, not_wanted);
    tcase_add_test(tests, never_started);
    tcase_add_test(tests, cannot_be_read);
    tcase_add_test(tests, alive_at_half_the_time);
    tcase_add_test(tests, stuck_worker_is_named);
    tcase_add_test(tests, late_is_not_stuck);
    tcase_add_test(tests, busy_manager_is_told_sooner_again);
    return run_case(tests);
}
