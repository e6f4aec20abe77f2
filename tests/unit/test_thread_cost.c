#include "client/bench/thread_cost.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

static struct thread_cost cost_of_work(void)
{
    struct thread_cost cost;
    thread_cost_begin(&cost);
    for (uint64_t end = clock_monotonic_usec() + 20 * USEC_PER_MSEC; clock_monotonic_usec() < end;)
        continue;
    nap(); /* gives the CPU away, and gets it back */
    thread_cost_end(&cost);
    return cost;
}

TEST(of_this_thread)
{
    struct thread_cost cost = cost_of_work();
    ck_assert_uint_gt(cost.cpu_nsec, 0);
    ck_assert_uint_gt(cost.wall_nsec, cost.cpu_nsec);
    ck_assert_uint_ge(cost.wall_nsec, cost.cpu_nsec + cost.queued_nsec);
}

/* From a kernel that does not count, without /proc, or with descriptors short at the end. */
static const char *const rules[] = {"open:ENOENT", "open:EMFILE:2", "read:ESRCH", "read:ESRCH:2"};

TEST_EACH(what_is_not_counted_is_zero, rules)
{
    fault_rules(*c);
    struct thread_cost cost = cost_of_work();
    fault_disarm();
    ck_assert_uint_eq(cost.queued_nsec, 0);
    ck_assert_uint_gt(cost.wall_nsec, cost.cpu_nsec);
}
