#include "daemon/manager.h"

#include "base/clock.h"
#include "faults.h"
#include "manager_socket.h"
#include "serve/admission.h"

static struct event_loop loop;
static struct capacity_signal capacity = {.loop = &loop};
static struct admission admission;
static struct worker_pool pool;
static struct event_set set;
static struct acceptor acceptor;
static struct manager manager;

static void on_wake(struct event_loop *woken)
{
    event_loop_quit(woken);
}

static void setup(void)
{
    manager_open();
    ck_assert_int_eq(event_loop_init(&loop, on_wake), 0);
    ck_assert_int_eq(admission_init(&admission, 32, 64), 0);
    ck_assert_int_eq(worker_pool_init(&pool, 1, 16, &capacity), 0);
    ck_assert_int_eq(event_set_init(&set, &loop), 0);
    ck_assert_int_eq(acceptor_init(&acceptor, &set, &pool, &admission, &capacity), 0);
    manager_init(&manager, &loop, &acceptor, &pool);
}

static void teardown(void)
{
    manager_deinit(&manager);
    acceptor_deinit(&acceptor);
    event_set_deinit(&set);
    worker_pool_deinit(&pool);
    admission_deinit(&admission);
    event_loop_deinit(&loop);
    manager_close();
}

#define IDLE "0 connections, 0 queued, 0 accepted, 0 refused, 0 waits"

static void wait_told(void)
{
    WAIT_FOR((event_loop_wake(&loop), event_loop_run(&loop) == 0) && is_readable(manager_fd));
}

START_TEST(figures_are_kept_current)
{
    manager_ready(&manager);
    expect("READY=1\nSTATUS=" IDLE);
    acceptor.refused[REASON_DENIED] = 3;
    wait_told();
    expect("STATUS=0 connections, 0 queued, 0 accepted, 3 refused (denied 3), 0 waits");
}
END_TEST

START_TEST(failed_reload_shows_until_one_succeeds)
{
    char bytes[64] = "";
    manager_ready(&manager);
    expect("READY=1\nSTATUS=" IDLE);
    manager_reloading(&manager);
    ck_assert_int_gt(recv(manager_fd, bytes, sizeof bytes - 1, 0), 0);
    ck_assert_int_eq(strncmp(bytes, "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
    manager_reloaded(&manager, "/etc/tcpechod.conf:3: mistake");
    expect("READY=1\nSTATUS=" IDLE "; not reloaded: /etc/tcpechod.conf:3: mistake");
    acceptor.accepted = 1;
    wait_told();
    expect(
        "STATUS=0 connections, 0 queued, 1 accepted, 0 refused, 0 waits; not reloaded: /etc/tcpechod.conf:3: "
        "mistake");
    acceptor.accepted = 0;
    manager_reloaded(&manager, "");
    expect("READY=1\nSTATUS=" IDLE);
}
END_TEST

START_TEST(long_failure_is_cut)
{
    /* With one x, and with two: the cut falls into a character in one of them. */
    for (size_t before = 1; before <= 2; before++) {
        char failure[2 * NOTIFY_STATUS_SIZE] = "xx";
        for (size_t i = before; i + 2 < sizeof failure; i += 2)
            memcpy(failure + i, "\u00e9", 3);
        manager_reloaded(&manager, failure);
        char bytes[2 * NOTIFY_STATUS_SIZE];
        ssize_t length = recv(manager_fd, bytes, sizeof bytes - 1, 0);
        ck_assert_int_gt(length, NOTIFY_STATUS_SIZE / 2);
        ck_assert_int_lt(length, 4096);
        bytes[length] = '\0';
        ck_assert_ptr_nonnull(strstr(bytes, "; not reloaded: x"));
        ck_assert_str_eq(bytes + length - 5, "\u00e9...");
    }
}
END_TEST

START_TEST(stop_asks_for_time_again_and_again)
{
    manager_ready(&manager);
    expect("READY=1\nSTATUS=" IDLE);
    manager_stopping(&manager);
    expect("STOPPING=1");
    expect("EXTEND_TIMEOUT_USEC=10000000");
    for (int i = 0; i < 2; i++) {
        wait_told();
        expect("EXTEND_TIMEOUT_USEC=10000000");
    }
}
END_TEST

START_TEST(nobody_to_tell)
{
    unsetenv("NOTIFY_SOCKET");
    manager_ready(&manager);
    ck_assert(!timer_is_armed(&manager.timer));
    manager_stopping(&manager);
    expect_nothing_yet(manager_fd);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("manager");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, figures_are_kept_current);
    tcase_add_test(tests, failed_reload_shows_until_one_succeeds);
    tcase_add_test(tests, long_failure_is_cut);
    tcase_add_test(tests, stop_asks_for_time_again_and_again);
    tcase_add_test(tests, nobody_to_tell);
    return run_case(tests);
}
