#include "daemon/notify.h"

#include "base/clock.h"
#include "capture.h"
#include "faults.h"
#include "full_queue.h"
#include "manager_socket.h"

#include <inttypes.h>

START_TEST(tells_each_state)
{
    ck_assert(notify_is_wanted());
    notify_ready("0 connections");
    expect("READY=1\nSTATUS=0 connections");
    notify_status("1 connection");
    expect("STATUS=1 connection");
    notify_stopping();
    expect("STOPPING=1");
    notify_extend(10000000);
    expect("EXTEND_TIMEOUT_USEC=10000000");
    ck_assert(notify_alive());
    expect("WATCHDOG=1");
    notify_stuck();
    expect("WATCHDOG=trigger");
    notify_failed(98, "cannot listen on 127.0.0.1:7");
    expect("ERRNO=98\nSTATUS=cannot listen on 127.0.0.1:7");
    expect_nothing_yet(manager_fd);
}
END_TEST

START_TEST(reloading_with_the_time)
{
    char bytes[128] = "";
    uint64_t then, before = clock_monotonic_usec();
    notify_reloading();
    ck_assert_int_gt(recv(manager_fd, bytes, sizeof bytes - 1, 0), 0);
    ck_assert_int_eq(sscanf(bytes, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &then), 1);
    ck_assert_uint_ge(then, before);
    ck_assert_uint_le(then, clock_monotonic_usec());
}
END_TEST

START_TEST(repeats_nothing)
{
    notify_ready("same");
    expect("READY=1\nSTATUS=same");
    notify_status("same");
    expect_nothing_yet(manager_fd);
    notify_status("other");
    expect("STATUS=other");
    notify_status("other");
    expect_nothing_yet(manager_fd);
    notify_status("same");
    expect("STATUS=same");

    char longest[700]; /* longer than what is remembered */
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    notify_status(longest);
    notify_status(longest);
    char bytes[1024];
    ck_assert(becomes_readable(manager_fd));
    ssize_t length = recv(manager_fd, bytes, sizeof bytes, 0);
    ck_assert_int_ge(length, 7 + 500);
    ck_assert_mem_eq(bytes, "STATUS=xxx", 10);
    expect_nothing_yet(manager_fd);
}
END_TEST

START_TEST(without_a_manager)
{
    unsetenv("NOTIFY_SOCKET");
    ck_assert(!notify_is_wanted());
    capture(LOG_LEVEL_DEBUG);
    notify_ready("alone");
    notify_status("still alone");
    ck_assert(notify_alive());
    notify_stopping();
    notify_failed(1, "gone");
    ck_assert_str_eq(written(), "");
    expect_nothing_yet(manager_fd);
}
END_TEST

/* Once for each cause, and again after it was heard. */
START_TEST(deaf_manager_is_logged)
{
    notify_stopping();
    expect("STOPPING=1");
    for (int round = 0; round < 2; round++) {
        capture(LOG_LEVEL_DEBUG);
        fault_arm("sd_notify", ECONNREFUSED, 0);
        notify_stopping();
        notify_failed(1, "gone");
        unsigned long hits = fault_disarm();
        const char *text = written();
        ck_assert_uint_eq(hits, 2);
        const char *found = strstr(text, strerror(ECONNREFUSED));
        ck_assert_ptr_nonnull(found);
        ck_assert_ptr_null(strstr(found + 1, strerror(ECONNREFUSED)));
        ck_assert_ptr_nonnull(strstr(text, "NOTIFY_SOCKET"));
        notify_stopping();
        expect("STOPPING=1");
    }
}
END_TEST

START_TEST(heard_without_a_free_descriptor)
{
    notify_stopping(); /* sets the reserve aside */
    expect("STOPPING=1");
    unsigned before = open_descriptors();
    for (int round = 0; round < 2; round++) {
        capture(LOG_LEVEL_DEBUG);
        fault_arm("sd_notify", round == 0 ? EMFILE : ENFILE, 1);
        notify_stopping();
        unsigned long hits = fault_disarm();
        ck_assert_str_eq(written(), "");
        ck_assert_uint_eq(hits, 1);
        expect("STOPPING=1");
        ck_assert_uint_eq(open_descriptors(), before); /* set aside again */
    }
}
END_TEST

/* A manager that is frozen costs nobody but itself: what it missed is said with the next status. */
START_TEST(busy_manager_is_told_later)
{
    fill_queue(&manager_name, manager_length);
    notify_status("missed");
    notify_ready("ready, unheard");
    notify_status("missed, too");
    notify_status("ready, unheard");
    ck_assert_uint_eq(empty_queue(manager_fd), 0);

    notify_status("heard");
    expect("READY=1\nSTATUS=heard");
    notify_status("and on");
    expect("STATUS=and on");

    fill_queue(&manager_name, manager_length);
    notify_status("missed");
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    notify_status("missed"); /* so it is no repetition */
    expect("STATUS=missed");
    expect_nothing_yet(manager_fd);
}
END_TEST

START_TEST(busy_manager_is_not_told_ready_after_the_end)
{
    fill_queue(&manager_name, manager_length);
    notify_ready("ready");
    notify_stopping();
    notify_failed(98, "cannot listen");
    ck_assert_uint_eq(empty_queue(manager_fd), 0);
    notify_status("at the end");
    expect("STATUS=at the end");
    expect_nothing_yet(manager_fd);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("notify");
    tcase_add_checked_fixture(tests, manager_open, manager_close);
    tcase_add_test(tests, tells_each_state);
    tcase_add_test(tests, reloading_with_the_time);
    tcase_add_test(tests, repeats_nothing);
    tcase_add_test(tests, without_a_manager);
    tcase_add_test(tests, deaf_manager_is_logged);
    tcase_add_test(tests, heard_without_a_free_descriptor);
    tcase_add_test(tests, busy_manager_is_told_later);
    tcase_add_test(tests, busy_manager_is_not_told_ready_after_the_end);
    return run_case(tests);
}
