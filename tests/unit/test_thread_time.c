#include "base/thread_time.h"

#include "common.h"
#include "faults.h"

START_TEST(time_passes)
{
    struct thread_time before, after;
    ck_assert_int_eq(thread_time_read(&before), 0);
    ck_assert_uint_gt(before.runs, 0);
    do {
        nap(); /* gives the CPU away, and gets it back */
        ck_assert_int_eq(thread_time_read(&after), 0);
    } while (after.runs == before.runs);
    ck_assert_uint_gt(after.ran_nsec, before.ran_nsec);
    ck_assert_uint_ge(after.waited_nsec, before.waited_nsec);
    ck_assert_uint_gt(after.runs, before.runs);
}
END_TEST

static const struct {
    const char *rules;
    int r;
} failures[] = {
    {"open:ENOENT", -ENOENT},
    {"read:EIO", -EIO},
    {"read:short=1", -EIO},
};

START_TEST(fails)
{
    struct thread_time time = {.ran_nsec = 7};
    unsigned descriptors = open_descriptors();
    fault_rules(failures[_i].rules);
    int r = thread_time_read(&time);
    fault_disarm();
    ck_assert_int_eq(r, failures[_i].r);
    ck_assert_uint_eq(time.ran_nsec, 7);
    ck_assert_uint_eq(open_descriptors(), descriptors);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("thread_time");
    tcase_add_test(tests, time_passes);
    tcase_add_loop_test(tests, fails, 0, COUNT_OF(failures));
    return run_case(tests);
}
