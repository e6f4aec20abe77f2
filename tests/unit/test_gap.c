#include "client/watch/gap.h"

#include "common.h"

#define ALLOWED 100

static struct gap gap;

static void set_up(void)
{
    gap = (struct gap){0};
}

START_TEST(nothing_owed_is_no_gap)
{
    ck_assert_uint_eq(gap_answered(&gap, 5000, false, ALLOWED), 0);
    ck_assert_uint_eq(gap.longest_nsec, 0);
    ck_assert_uint_eq(gap.over, 0);
}
END_TEST

/* It begins with the first message that was not answered, and not with the last answer. */
START_TEST(counts_from_the_first_unanswered)
{
    gap_expect_answer(&gap, 1000);
    ck_assert_uint_eq(gap_answered(&gap, 1010, false, ALLOWED), 10);
    gap_expect_answer(&gap, 2000);
    gap_expect_answer(&gap, 2050);
    gap_expect_answer(&gap, 2100);
    ck_assert_uint_eq(gap_answered(&gap, 2300, true, ALLOWED), 300);
    ck_assert_uint_eq(gap.longest_nsec, 300);
    ck_assert_uint_eq(gap.longest_at_nsec, 2000);
    ck_assert_uint_eq(gap.over, 1);
}
END_TEST

/* An answer is service, whatever else is still owed. */
START_TEST(begins_anew_with_each_answer)
{
    gap_expect_answer(&gap, 1000);
    gap_expect_answer(&gap, 1010);
    ck_assert_uint_eq(gap_answered(&gap, 1100, true, ALLOWED), 100);
    ck_assert_uint_eq(gap.over, 0); /* allowed to the nanosecond */
    ck_assert_uint_eq(gap_answered(&gap, 1201, false, ALLOWED), 101);
    ck_assert_uint_eq(gap.over, 1);
    gap_expect_answer(&gap, 9000);
    ck_assert_uint_eq(gap_answered(&gap, 9001, false, ALLOWED), 1);
    ck_assert_uint_eq(gap.longest_nsec, 101);
    ck_assert_uint_eq(gap.longest_at_nsec, 1100);
}
END_TEST

START_TEST(a_clock_that_stands_still)
{
    gap_expect_answer(&gap, 1000);
    ck_assert_uint_eq(gap_answered(&gap, 1000, false, ALLOWED), 0);
    gap_expect_answer(&gap, 1000);
    ck_assert_uint_eq(gap_answered(&gap, 999, false, ALLOWED), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("gap");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, nothing_owed_is_no_gap);
    tcase_add_test(tests, counts_from_the_first_unanswered);
    tcase_add_test(tests, begins_anew_with_each_answer);
    tcase_add_test(tests, a_clock_that_stands_still);
    return run_case(tests);
}
