#include "daemon/service_manager.h"

#include "base/clock.h"
#include "capture.h"
#include "faults.h"
#include "full_queue.h"
#include "manager_socket.h"
#include "serve/admission.h"

#include <inttypes.h>

#define IDLE "0 connections, 0 queued, 0 accepted, 0 refused, 0 waits"

static struct event_loop loop;
static struct capacity_signal capacity = {.loop = &loop};
static struct admission admission;
static struct worker_pool pool;
static struct event_set set;
static struct acceptor acceptor;

static void on_wake(struct event_loop *woken)
{
    event_loop_quit(woken);
}

static void setup(void)
{
    manager_open();
    ck_assert_int_eq(event_loop_init(&loop, on_wake), 0);
    ck_assert_int_eq(admission_init(&admission, 32, 64), 0);
    ck_assert_int_eq(worker_pool_init(&pool, 1, 16, &capacity, &admission), 0);
    ck_assert_int_eq(event_set_init(&set, &loop), 0);
    ck_assert_int_eq(acceptor_init(&acceptor, &set, &pool, &admission, &capacity), 0);
}

static void teardown(void)
{
    service_manager_detach(&manager);
    acceptor_deinit(&acceptor);
    event_set_deinit(&set);
    worker_pool_deinit(&pool);
    admission_deinit(&admission);
    event_loop_deinit(&loop);
    manager_close();
}

FIXTURE(setup, teardown)

static void become_ready(void)
{
    service_manager_ready(&manager, &loop, &acceptor, &pool);
}

static void wait_told(void)
{
    WAIT_FOR((event_loop_wake(&loop), event_loop_run(&loop) == 0) && is_readable(manager_fd));
}

TEST(says_each_state)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    service_manager_stopping(&manager, 0);
    expect("STOPPING=1");
    expect("EXTEND_TIMEOUT_USEC=10000000");
    ck_assert(service_manager_alive(&manager));
    expect("WATCHDOG=1");
    service_manager_stuck(&manager);
    expect("WATCHDOG=trigger");
    service_manager_failed(&manager, 98, "cannot listen on 127.0.0.1:7");
    expect("ERRNO=98\nSTATUS=cannot listen on 127.0.0.1:7");
    expect_nothing_yet(manager_fd);
}

TEST(reloading_with_the_time)
{
    char bytes[128] = "";
    uint64_t then, before = clock_monotonic_usec();
    service_manager_reloading(&manager);
    ck_assert_int_gt(recv(manager_fd, bytes, sizeof bytes - 1, 0), 0);
    ck_assert_int_eq(sscanf(bytes, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &then), 1);
    ck_assert_uint_ge(then, before);
    ck_assert_uint_le(then, clock_monotonic_usec());
}

/* Each second, and only what has changed. */
TEST(figures_are_kept_current)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    acceptor.refused[REASON_DENIED] = 3;
    wait_told();
    expect("STATUS=0 connections, 0 queued, 0 accepted, 3 refused (denied 3), 0 waits");
    uint64_t until = clock_monotonic_usec() + 1500 * USEC_PER_MSEC;
    while (clock_monotonic_usec() < until) {
        event_loop_wake(&loop);
        ck_assert_int_eq(event_loop_run(&loop), 0);
        clock_sleep(10 * USEC_PER_MSEC);
    }
    ck_assert(!is_readable(manager_fd));
}

TEST(says_how_long_a_stop_waits)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    service_manager_stopping(&manager, clock_monotonic_usec() + 2500 * USEC_PER_MSEC);
    expect("STOPPING=1");
    expect("EXTEND_TIMEOUT_USEC=10000000");
    wait_told();
    expect("STATUS=" IDLE "; stopping: new clients are accepted for 2 s more");
    expect("EXTEND_TIMEOUT_USEC=10000000");
    clock_move(2 * USEC_PER_SEC);
    wait_told();
    expect("STATUS=" IDLE);
}

TEST(failed_reload_shows_until_one_succeeds)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    service_manager_reloaded(&manager, "/etc/tcpechod.conf:3: mistake");
    expect("READY=1\nSTATUS=" IDLE "; not reloaded: /etc/tcpechod.conf:3: mistake");
    acceptor.accepted = 1;
    wait_told();
    expect("STATUS=0 connections, 0 queued, 1 accepted, 0 refused, 0 waits; not reloaded: "
           "/etc/tcpechod.conf:3: mistake");
    acceptor.accepted = 0;
    service_manager_reloaded(&manager, "");
    expect("READY=1\nSTATUS=" IDLE);
}

TEST(long_failure_is_cut)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    /* With one x, and with two: the cut falls into a character in one of them. */
    for (size_t before = 1; before <= 2; before++) {
        char failure[2 * SERVICE_MANAGER_STATUS_SIZE] = "xx";
        for (size_t i = before; i + 2 < sizeof failure; i += 2)
            memcpy(failure + i, "\u00e9", 3);
        service_manager_reloaded(&manager, failure);
        char bytes[2 * SERVICE_MANAGER_STATUS_SIZE];
        ssize_t length = recv(manager_fd, bytes, sizeof bytes - 1, 0);
        ck_assert_int_gt(length, SERVICE_MANAGER_STATUS_SIZE / 2);
        ck_assert_int_lt(length, 4096);
        bytes[length] = '\0';
        ck_assert_ptr_nonnull(strstr(bytes, "; not reloaded: x"));
        ck_assert_str_eq(bytes + length - 5, "\u00e9...");
    }
}

TEST(stop_asks_for_time_again_and_again)
{
    become_ready();
    expect("READY=1\nSTATUS=" IDLE);
    service_manager_stopping(&manager, 0);
    expect("STOPPING=1");
    for (int i = 0; i < 3; i++) {
        wait_told();
        expect("EXTEND_TIMEOUT_USEC=10000000");
    }
}

TEST(without_a_manager)
{
    unsetenv("NOTIFY_SOCKET");
    struct service_manager none;
    service_manager_init(&none);
    capture(LOG_LEVEL_DEBUG);
    service_manager_ready(&none, &loop, &acceptor, &pool);
    ck_assert(!timer_is_armed(&none.timer));
    ck_assert(service_manager_alive(&none));
    service_manager_stopping(&none, 0);
    service_manager_failed(&none, 1, "gone");
    service_manager_deinit(&none);
    ck_assert_str_eq(written(), "");
    expect_nothing_yet(manager_fd);
}

/* Once for each cause, and again after it was heard. */
TEST(deaf_manager_is_logged)
{
    for (int round = 0; round < 2; round++) {
        ck_assert(service_manager_alive(&manager));
        expect("WATCHDOG=1");
        capture(LOG_LEVEL_DEBUG);
        fault_arm("sd_pid_notify_with_fds", ECONNREFUSED, 0);
        service_manager_alive(&manager);
        service_manager_failed(&manager, 1, "gone");
        unsigned long hits = fault_disarm();
        const char *text = written();
        ck_assert_uint_eq(hits, 2);
        const char *found = strstr(text, strerror(ECONNREFUSED));
        ck_assert_ptr_nonnull(found);
        ck_assert_ptr_null(strstr(found + 1, strerror(ECONNREFUSED)));
        ck_assert_ptr_nonnull(strstr(text, "NOTIFY_SOCKET"));
    }
}

TEST(heard_without_a_free_descriptor)
{
    ck_assert(service_manager_alive(&manager)); /* sets the reserve aside */
    expect("WATCHDOG=1");
    unsigned before = open_descriptors();
    for (int round = 0; round < 2; round++) {
        capture(LOG_LEVEL_DEBUG);
        fault_arm("sd_pid_notify_with_fds", round == 0 ? EMFILE : ENFILE, 1);
        service_manager_alive(&manager);
        unsigned long hits = fault_disarm();
        ck_assert_str_eq(written(), "");
        ck_assert_uint_eq(hits, 1);
        expect("WATCHDOG=1");
        ck_assert_uint_eq(open_descriptors(), before); /* set aside again */
    }
}

/* A manager that is frozen costs nobody but itself: what it missed is said with the next status. */
TEST(busy_manager_is_told_later)
{
    fill_queue(&manager_name, manager_length);
    become_ready();
    ck_assert(!service_manager_alive(&manager));
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    wait_told();
    expect("READY=1\nSTATUS=" IDLE);
    acceptor.accepted = 1;
    wait_told();
    expect("STATUS=0 connections, 0 queued, 1 accepted, 0 refused, 0 waits");
}

TEST(busy_manager_is_not_told_ready_after_the_end)
{
    fill_queue(&manager_name, manager_length);
    become_ready();
    service_manager_stopping(&manager, 0);
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    wait_told();
    expect("STATUS=" IDLE);
}
