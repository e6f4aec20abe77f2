#include "daemon/watchdog.h"

#include "capture.h"
#include "full_queue.h"
#include "loop_fixture.h"
#include "manager_socket.h"

static struct capacity_signal capacity = {.loop = &loop};
static struct worker_pool pool;
static struct watchdog watchdog;

static bool is_told(void)
{
    turn();
    return is_readable(manager_fd);
}

static void setup(void)
{
    manager_open();
    start_loop();
    ck_assert_int_eq(worker_pool_init(&pool, 2, 16, &capacity, NULL), 0);
    ck_assert_int_eq(worker_pool_start(&pool), 0);
}

static void teardown(void)
{
    watchdog_stop(&watchdog);
    worker_pool_stop(&pool);
    worker_pool_deinit(&pool);
    stop_loop();
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    manager_close();
}

static bool init(const char *usec)
{
    ck_assert_int_eq(setenv("WATCHDOG_USEC", usec, 1), 0);
    return watchdog_init(&watchdog, &loop, &pool, &manager);
}

static void start(const char *usec)
{
    ck_assert(init(usec));
    ck_assert_int_eq(watchdog_start(&watchdog), 0);
}

static void expect_when_told(const char *message)
{
    WAIT_FOR(is_told());
    expect(message);
}

FIXTURE(setup, teardown)

TEST(not_wanted)
{
    ck_assert(!watchdog_init(&watchdog, &loop, &pool, &manager));
    ck_assert_int_eq(setenv("WATCHDOG_PID", "1", 1), 0); /* meant for another process */
    ck_assert(!init("100000"));
}

TEST(never_started)
{
    static struct watchdog untouched;
    watchdog_stop(&untouched);
}

TEST(cannot_be_read)
{
    capture(LOG_LEVEL_DEBUG);
    ck_assert(!init("a moment"));
    const char *text = written();
    expect_in(text, "warning: no watchdog: cannot read ");
    expect_in(text, strerror(EINVAL));
}

TEST(no_thread)
{
    ck_assert(init("1000000"));
    capture(LOG_LEVEL_DEBUG);
    fault_arm("pthread_create", EAGAIN, 1);
    int r = watchdog_start(&watchdog);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
    const char *text = written();
    expect_in(text, "warning: no watchdog: cannot start its thread: ");
    expect_in(text, strerror(EAGAIN));
}

TEST(alive_at_half_the_time)
{
    uint64_t before = clock_monotonic_usec();
    start("1000000");
    expect_when_told("WATCHDOG=1");
    ck_assert_uint_ge(clock_monotonic_usec() - before, 500000);
    expect_when_told("WATCHDOG=1");
}

/* The second look finds it where the first did: that is when it is told, and only then. */
static void expect_stuck(const char *who, pid_t thread)
{
    char named[64];
    capture(LOG_LEVEL_DEBUG);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(watchdog_look(&watchdog), 500000);
    expect("WATCHDOG=trigger");
    expect_nothing_yet(manager_fd);
    const char *text = written();
    snprintf(named, sizeof named, "error: %s (thread %d) has not responded", who, (int)thread);
    expect_in(text, named);
    ck_assert_ptr_null(strstr(strstr(text, named) + 1, named));
}

/* A thread whose work is done: proc(5), the state in stat. */
static bool is_asleep(pid_t thread)
{
    char path[64], state = '?';
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
    fclose(file);
    return state == 'S';
}

TEST(stuck_worker_is_named)
{
    turn();
    WAIT_FOR(is_asleep(pool.workers[1].tid));
    ck_assert(init("2000000"));
    /* It comes out of the wait that it is in, and not out of the next one. */
    fault_rules("epoll_wait@worker-2:sleep=60000");
    watchdog_ask(&watchdog);
    turn();
    WAIT_FOR(event_loop_has_responded(&pool.workers[0].loop) &&
             event_loop_has_responded(&pool.workers[1].loop));
    watchdog_ask(&watchdog);
    turn();
    WAIT_FOR(event_loop_has_responded(&pool.workers[0].loop));
    expect_stuck("worker 2", pool.workers[1].tid);
    fault_disarm();
    WAIT_FOR(!worker_pool_stuck(&pool));
    watchdog_look(&watchdog);
    expect("WATCHDOG=1"); /* it turns again */
}

/* The test's own thread is the main thread, and turns its loop when it likes. */
TEST(late_is_not_stuck)
{
    capture(LOG_LEVEL_DEBUG);
    ck_assert(init("2000000"));
    watchdog_ask(&watchdog);
    ck_assert_uint_eq(watchdog_look(&watchdog), 500000);
    expect_nothing_yet(manager_fd);
    turn();
    WAIT_FOR(!worker_pool_stuck(&pool));
    ck_assert_uint_eq(watchdog_look(&watchdog), 1000000);
    expect("WATCHDOG=1");
    ck_assert_str_eq(written(), "");
}

TEST(stuck_acceptor_is_named)
{
    ck_assert(init("2000000"));
    watchdog_ask(&watchdog);
    expect_stuck("the acceptor", getpid());
    turn();
    WAIT_FOR(!worker_pool_stuck(&pool));
    watchdog_look(&watchdog);
    expect("WATCHDOG=1"); /* it turns again */
}

TEST(busy_manager_is_told_sooner_again)
{
    ck_assert(init("2000000"));
    watchdog_ask(&watchdog);
    turn();
    WAIT_FOR(!worker_pool_stuck(&pool));
    fill_queue(&manager_name, manager_length);
    ck_assert_uint_eq(watchdog_look(&watchdog), 500000);
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    ck_assert_uint_eq(watchdog_look(&watchdog), 1000000);
    expect("WATCHDOG=1");
}
