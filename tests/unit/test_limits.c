#include "daemon/limits.h"

#include "capture.h"
#include "faults.h"

#include <sched.h>
#include <sys/resource.h>

static struct rlimit before;

static void setup(void)
{
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
}

static void teardown(void)
{
    setrlimit(RLIMIT_NOFILE, &before);
}

static rlim_t soft_limit(void)
{
    struct rlimit now;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
    return now.rlim_cur;
}

static void lower(void)
{
    struct rlimit low = {.rlim_cur = 64, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
}

START_TEST(raises_to_the_hard_limit)
{
    lower();
    ck_assert_uint_eq(limits_raise_descriptors(), before.rlim_max);
    ck_assert_uint_eq(soft_limit(), before.rlim_max);
    fault_arm("setrlimit", EPERM, 0); /* nothing to raise any more */
    uint64_t limit = limits_raise_descriptors();
    ck_assert_uint_eq(fault_disarm(), 0);
    ck_assert_uint_eq(limit, before.rlim_max);
}
END_TEST

START_TEST(keeps_what_it_cannot_raise)
{
    lower();
    capture(LOG_LEVEL_WARNING);
    fault_arm("setrlimit", EPERM, 1);
    uint64_t limit = limits_raise_descriptors();
    fault_disarm();
    const char *text = written();
    ck_assert_uint_eq(limit, 64);
    ck_assert_uint_eq(soft_limit(), 64);
    ck_assert_ptr_nonnull(strstr(text, "64"));
    ck_assert_ptr_nonnull(strstr(text, strerror(EPERM)));

    capture(LOG_LEVEL_WARNING);
    fault_arm("getrlimit", EINVAL, 1);
    limit = limits_raise_descriptors();
    fault_disarm();
    text = written();
    ck_assert_uint_eq(limit, 0);
    ck_assert_ptr_nonnull(strstr(text, strerror(EINVAL)));
}
END_TEST

START_TEST(room_is_what_the_daemon_leaves)
{
    /* 32, and two for the main loop, one for the set of listeners, four for each worker, and one for each
     * listener */
    ck_assert_uint_eq(limits_room(1024, 4, 2), 1024 - 32 - 3 - 16 - 2);
    ck_assert_uint_eq(limits_room(40, 1, 0), 1);
    ck_assert_uint_eq(limits_room(39, 1, 0), 0);
    ck_assert_uint_eq(limits_room(38, 1, 0), 0);
    ck_assert_uint_eq(limits_room(0, 4, 4), 0);
    ck_assert_uint_gt(limits_room(UINT64_MAX, 1000, 1000), UINT64_MAX / 2);
}
END_TEST

START_TEST(cpus_are_those_it_may_use)
{
    cpu_set_t all, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_uint_eq(limits_cpus(), (unsigned)CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    unsigned cpus = limits_cpus();
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    ck_assert_uint_eq(cpus, 1);
    fault_arm("sched_getaffinity", EINVAL, 1);
    cpus = limits_cpus();
    fault_disarm();
    ck_assert_uint_eq(cpus, (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("limits");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, raises_to_the_hard_limit);
    tcase_add_test(tests, keeps_what_it_cannot_raise);
    tcase_add_test(tests, room_is_what_the_daemon_leaves);
    tcase_add_test(tests, cpus_are_those_it_may_use);
    return run_case(tests);
}
