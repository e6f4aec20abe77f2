#include "base/thread_time.h"

#include "common.h"
#include "faults.h"

#include <fcntl.h>

TEST(time_passes)
{
    struct thread_time before, after;
    int fd = thread_time_open();
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(thread_time_read(fd, &before), 0);
    ck_assert_uint_gt(before.runs, 0);
    do {
        nap(); /* gives the CPU away, and gets it back */
        ck_assert_int_eq(thread_time_read(fd, &after), 0);
    } while (after.runs == before.runs);
    ck_assert_uint_gt(after.ran_nsec, before.ran_nsec);
    ck_assert_uint_ge(after.waited_nsec, before.waited_nsec);
    ck_assert_uint_gt(after.runs, before.runs);
    close(fd);
}

TEST(cannot_be_opened)
{
    fault_arm("open", ENOENT, 0);
    int r = thread_time_open();
    fault_disarm();
    ck_assert_int_eq(r, -ENOENT);
}

TEST(cannot_be_read)
{
    struct thread_time time = {.ran_nsec = 7};
    int fd = thread_time_open();
    fault_arm("pread", ESRCH, 0);
    int r = thread_time_read(fd, &time);
    fault_disarm();
    close(fd);
    ck_assert_int_eq(r, -ESRCH);
    ck_assert_uint_eq(time.ran_nsec, 7);
}

TEST(is_something_else)
{
    struct thread_time time = {.ran_nsec = 7};
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(thread_time_read(fd, &time), -EIO);
    close(fd);
    ck_assert_uint_eq(time.ran_nsec, 7);
}
