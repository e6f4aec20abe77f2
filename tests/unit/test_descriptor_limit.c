#include "base/descriptor_limit.h"

#include "common.h"
#include "faults.h"

#include <sys/resource.h>

static void set_limits(rlim_t soft, rlim_t hard)
{
    const struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void expect_raise(const char *rules, int wanted, uint64_t wanted_limit, rlim_t in_force)
{
    struct rlimit now;
    uint64_t limit = 1;
    fault_rules(rules);
    int r = descriptor_limit_raise(&limit);
    fault_disarm();
    ck_assert_int_eq(r, wanted);
    ck_assert_uint_eq(limit, wanted_limit);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
    ck_assert_uint_eq(now.rlim_cur, in_force);
}

TEST(raised_where_that_is_allowed)
{
    set_limits(64, 200);
    expect_raise("setrlimit:EPERM", -EPERM, 64, 64);
    expect_raise("getrlimit:ENOSYS", -ENOSYS, 0, 64);
    expect_raise("getrlimit:count", 0, 200, 200);
    expect_raise("setrlimit:EPERM", 0, 200, 200); /* nothing to raise any more */
}

TEST(room_is_what_the_own_leave)
{
    ck_assert_uint_eq(descriptor_limit_room(40, 39), 1);
    ck_assert_uint_eq(descriptor_limit_room(39, 39), 0);
    ck_assert_uint_eq(descriptor_limit_room(0, 39), 0);
}
