#include "client/watch/gap.h"

#include "common.h"

#define ALLOWED 100

static struct gap gap;

static void set_up(void)
{
    gap = (struct gap){0};
}

FIXTURE(set_up, NULL)

TEST(nothing_owed_is_no_gap)
{
    ck_assert_uint_eq(gap_answered(&gap, 5000, false, ALLOWED), 0);
    ck_assert_uint_eq(gap.longest_nsec, 0);
    ck_assert_uint_eq(gap.over, 0);
}

/* It begins with the first message that was not answered, and not with the last answer. */
TEST(counts_from_the_first_unanswered)
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

/* An answer is service, whatever else is still owed. */
TEST(begins_anew_with_each_answer)
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

TEST(a_clock_that_stands_still)
{
    gap_expect_answer(&gap, 1000);
    ck_assert_uint_eq(gap_answered(&gap, 1000, false, ALLOWED), 0);
    gap_expect_answer(&gap, 1000);
    ck_assert_uint_eq(gap_answered(&gap, 999, false, ALLOWED), 0);
}
