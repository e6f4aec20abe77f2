#include "client/net/descriptors.h"

#include "common.h"
#include "faults.h"

#include <sys/resource.h>

static rlim_t soft_limit(void)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

static void set_limits(rlim_t soft, rlim_t hard)
{
    struct rlimit limit = {soft, hard};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(raised_to_the_hard_limit)
{
    set_limits(64, 200);
    ck_assert_uint_eq(descriptors_raise_limit(), 200);
    ck_assert_uint_eq(soft_limit(), 200);
    ck_assert_uint_eq(descriptors_raise_limit(), 200);
}
END_TEST

START_TEST(stays_when_it_cannot_be_raised)
{
    set_limits(64, 200);
    fault_arm("setrlimit", EPERM, 0);
    uint64_t limit = descriptors_raise_limit();
    fault_disarm();
    ck_assert_uint_eq(limit, 64);
    ck_assert_uint_eq(soft_limit(), 64);
}
END_TEST

START_TEST(unknown)
{
    fault_arm("getrlimit", ENOSYS, 0);
    uint64_t limit = descriptors_raise_limit();
    fault_disarm();
    ck_assert_uint_eq(limit, 20);
}
END_TEST

START_TEST(room)
{
    ck_assert_uint_eq(descriptors_room(1024, 3), 1005);
    ck_assert_uint_eq(descriptors_room(19, 3), 0);
    ck_assert_uint_eq(descriptors_room(20, 3), 1);
    ck_assert_uint_eq(descriptors_room(0, 0), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("descriptors");
    tcase_add_test(tests, raised_to_the_hard_limit);
    tcase_add_test(tests, stays_when_it_cannot_be_raised);
    tcase_add_test(tests, unknown);
    tcase_add_test(tests, room);
    return run_case(tests);
}
