#include "base/batch_work.h"

#include "common.h"
#include "faults.h"

#include <sched.h>

static struct batch_work own;
static uint64_t now_usec;

static void setup(void)
{
    const struct sched_param none = {0};
    ck_assert_int_eq(sched_setscheduler(0, SCHED_OTHER, &none), 0); /* whoever runs the tests */
    batch_work_begin(&own);
    ck_assert(own.adapts);
    now_usec = 3 * USEC_PER_SEC;
}

static void teardown(void)
{
    batch_work_end(&own);
}

/* Turns until the next look, which sees that the thread has had `per_mille` of a CPU since the last one, in
 * so many runs, each of which it waited for so long. */
static void pass(unsigned per_mille, uint64_t runs, uint64_t wait_usec)
{
    struct thread_time now;
    sched_yield(); /* makes the scheduler count up to here */
    ck_assert_int_eq(thread_time_read(own.time_fd, &now), 0);
    own.time = (struct thread_time){
        .ran_nsec = now.ran_nsec - BATCH_WORK_LOOK_USEC * per_mille,
        .waited_nsec = now.waited_nsec - runs * wait_usec * NSEC_PER_USEC,
        .runs = now.runs - runs,
    };
    for (unsigned i = 0; i < 8; i++)
        batch_work_turn(&own, now_usec + i);
    now_usec += BATCH_WORK_LOOK_USEC;
    batch_work_turn(&own, now_usec);
}

static void pass_busily(void)
{
    pass(500, 20, 100);
}

static void pass_waiting(void)
{
    pass(200, 10, 4000);
}

static void expect_batch(bool is_batch)
{
    ck_assert_int_eq(sched_getscheduler(0), is_batch ? SCHED_BATCH : SCHED_OTHER);
    ck_assert(own.is_batch == is_batch);
}

static void become_batch(void)
{
    pass_busily(); /* the first look has nothing to compare with */
    expect_batch(false);
    pass_busily();
    expect_batch(true);
}

START_TEST(busy)
{
    become_batch();
    for (int i = 0; i < 100; i++)
        pass_busily();
    expect_batch(true);
}
END_TEST

START_TEST(little_work)
{
    for (int i = 0; i < 10; i++)
        pass(50, 20, 0);
    expect_batch(false);
}
END_TEST

START_TEST(less_work)
{
    become_batch();
    pass(100, 20, 0); /* little enough not to begin, and too much to end */
    expect_batch(true);
    pass(30, 20, 0);
    expect_batch(false);
    pass_busily();
    expect_batch(true);
}
END_TEST

/* The first turn after a pause: whoever comes next waits for nobody. */
START_TEST(nothing_to_do)
{
    become_batch();
    now_usec += USEC_PER_SEC;
    batch_work_turn(&own, now_usec);
    expect_batch(false);
    pass_busily();
    expect_batch(true);
}
END_TEST

/* How many busy looks pass until it is batch work again. */
static unsigned looks_until_batch(void)
{
    unsigned looks = 0;
    for (; !own.is_batch; looks++)
        pass_busily();
    return looks;
}

START_TEST(long_waits_end_it_ever_longer)
{
    become_batch();
    for (unsigned skips = 2; skips < 3000; skips *= 2) {
        pass_waiting();
        expect_batch(false);
        ck_assert_uint_eq(looks_until_batch(), (skips < 1024 ? skips : 1024) + 1);
    }
}
END_TEST

/* So long that there are hardly any turns. */
START_TEST(very_long_waits)
{
    become_batch();
    struct thread_time now;
    ck_assert_int_eq(thread_time_read(own.time_fd, &now), 0);
    own.time = (struct thread_time){now.ran_nsec, now.waited_nsec - 16000000, now.runs - 2};
    now_usec += BATCH_WORK_LOOK_USEC;
    batch_work_turn(&own, now_usec);
    expect_batch(false);
    ck_assert_uint_eq(looks_until_batch(), 3);
}
END_TEST

START_TEST(short_waits_pay_for_long_ones)
{
    become_batch();
    for (int i = 0; i < 3; i++) {
        pass_waiting();
        looks_until_batch();
    }
    for (int i = 0; i < 3; i++)
        pass_busily();
    pass_waiting();
    ck_assert_uint_eq(looks_until_batch(), 3);
}
END_TEST

/* It shares the CPU with others by time slices, as it would anyway. */
START_TEST(long_waits_for_long_runs)
{
    become_batch();
    for (int i = 0; i < 10; i++)
        pass(500, 3, 3500);
    expect_batch(true);
}
END_TEST

START_TEST(policy_of_somebody_else)
{
    const struct sched_param none = {0};
    ck_assert_int_eq(sched_setscheduler(0, SCHED_BATCH, &none), 0);
    pass_busily();
    pass_busily();
    ck_assert(!own.adapts && !own.is_batch);
    pass(0, 20, 0);
    ck_assert_int_eq(sched_getscheduler(0), SCHED_BATCH);
}
END_TEST

START_TEST(policy_of_somebody_else_meanwhile)
{
    const struct sched_param none = {0};
    become_batch();
    ck_assert_int_eq(sched_setscheduler(0, SCHED_OTHER, &none), 0);
    pass_waiting();
    ck_assert(!own.adapts);
    ck_assert_uint_eq(batch_work_next_usec(&own), USEC_NEVER);
    ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
}
END_TEST

/* The look that ends it is due, also when nothing happens. */
START_TEST(next_turn)
{
    ck_assert_uint_eq(batch_work_next_usec(&own), USEC_NEVER);
    become_batch();
    ck_assert_uint_eq(batch_work_next_usec(&own), now_usec + BATCH_WORK_LOOK_USEC);
    pass(0, 0, 0);
    expect_batch(false);
    ck_assert_uint_eq(batch_work_next_usec(&own), USEC_NEVER);
}
END_TEST

START_TEST(off)
{
    batch_work_end(&own);
    own = (struct batch_work){0};
    now_usec += USEC_PER_SEC;
    batch_work_turn(&own, now_usec);
    expect_batch(false);
    own.time_fd = -1;
}
END_TEST

/* A filter of system calls that forbids them. */
START_TEST(may_not)
{
    static const char *const calls[] = {"sched_getscheduler", "sched_setscheduler"};
    pass_busily();
    fault_arm(calls[_i], EPERM, 0);
    pass_busily();
    unsigned long refused = fault_disarm();
    ck_assert_uint_eq(refused, 1);
    expect_batch(false);
    for (int i = 0; i < 10; i++)
        pass_busily();
    expect_batch(false);
}
END_TEST

START_TEST(end)
{
    become_batch();
    unsigned descriptors = open_descriptors();
    batch_work_end(&own);
    expect_batch(false);
    ck_assert_uint_eq(open_descriptors(), descriptors - 1);
    batch_work_begin(&own); /* as a loop that runs a second time does */
    become_batch();
}
END_TEST

/* Without knowing of its waits it does not let others go first. */
START_TEST(no_waits_are_counted)
{
    batch_work_end(&own);
    fault_arm("open", ENOENT, 0);
    batch_work_begin(&own);
    fault_disarm();
    ck_assert(!own.adapts);
}
END_TEST

START_TEST(unknown_waits)
{
    become_batch();
    now_usec += BATCH_WORK_LOOK_USEC;
    for (unsigned i = 0; i < 8; i++)
        batch_work_turn(&own, now_usec - 8 + i);
    fault_arm("pread", EIO, 0);
    batch_work_turn(&own, now_usec);
    fault_disarm();
    expect_batch(false);
    become_batch();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("batch_work");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, busy);
    tcase_add_test(tests, little_work);
    tcase_add_test(tests, less_work);
    tcase_add_test(tests, nothing_to_do);
    tcase_add_test(tests, long_waits_end_it_ever_longer);
    tcase_add_test(tests, short_waits_pay_for_long_ones);
    tcase_add_test(tests, long_waits_for_long_runs);
    tcase_add_test(tests, policy_of_somebody_else);
    tcase_add_test(tests, policy_of_somebody_else_meanwhile);
    tcase_add_test(tests, very_long_waits);
    tcase_add_test(tests, next_turn);
    tcase_add_test(tests, off);
    tcase_add_loop_test(tests, may_not, 0, 2);
    tcase_add_test(tests, end);
    tcase_add_test(tests, no_waits_are_counted);
    tcase_add_test(tests, unknown_waits);
    return run_case(tests);
}
