#include "base/busy_poll.h"

#include "common.h"

static struct poll_seats seats;
static struct busy_poll own;

static void setup(void)
{
    seats = (struct poll_seats){.limit = 1};
    own = (struct busy_poll){.usec = 50, .seats = &seats};
}

START_TEST(off)
{
    atomic_store(&own.usec, 0);
    ck_assert_uint_eq(busy_poll_begin(&own), 0);
    ck_assert_uint_eq(seats.taken, 0);
}
END_TEST

/* Ever more rarely, and never less than before each 64th sleep. */
START_TEST(losses_make_it_rare)
{
    unsigned expected = 1;
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_eq(busy_poll_begin(&own), 50);
        busy_poll_end(&own, false);
        for (unsigned sleep = 0; sleep < expected; sleep++)
            ck_assert_uint_eq(busy_poll_begin(&own), 0);
        expected = expected < 63 ? 2 * expected + 1 : 63;
    }
}
END_TEST

START_TEST(one_gain_pays_for_all_losses)
{
    for (int i = 0; i < 5; i++) {
        own.skips = 0;
        busy_poll_begin(&own);
        busy_poll_end(&own, false);
    }
    own.skips = 0;
    busy_poll_begin(&own);
    busy_poll_end(&own, true);
    ck_assert_uint_eq(busy_poll_begin(&own), 50);
    busy_poll_end(&own, true);
}
END_TEST

/* Whoever took the CPU from it has had to wait for it. */
START_TEST(being_in_the_way_is_the_greatest_loss)
{
    busy_poll_begin(&own);
    busy_poll_wait(&own);
    own.preempted--; /* since then */
    busy_poll_end(&own, true);
    ck_assert_uint_eq(own.skips, 63);
}
END_TEST

/* What others took while it served, or slept, is no matter of the poll; nor does one wait that finds
 * something at once. */
START_TEST(being_preempted_between_polls_is_none)
{
    busy_poll_begin(&own);
    busy_poll_wait(&own);
    busy_poll_end(&own, true);
    own.preempted--;
    busy_poll_begin(&own);
    busy_poll_end(&own, true);
    ck_assert_uint_eq(own.skips, 0);
    busy_poll_begin(&own);
    busy_poll_wait(&own);
    busy_poll_end(&own, true);
    ck_assert_uint_eq(own.skips, 0);
}
END_TEST

START_TEST(so_many_at_a_time)
{
    struct busy_poll other = {.usec = 70, .seats = &seats};
    ck_assert_uint_eq(busy_poll_begin(&own), 50);
    ck_assert_uint_eq(busy_poll_begin(&other), 0);
    atomic_store(&seats.limit, 2);
    ck_assert_uint_eq(busy_poll_begin(&other), 70);
    busy_poll_end(&own, true);
    busy_poll_end(&other, true);
    ck_assert_uint_eq(seats.taken, 0);
}
END_TEST

START_TEST(without_seats)
{
    struct busy_poll free = {.usec = 70};
    ck_assert_uint_eq(busy_poll_begin(&free), 70);
    busy_poll_end(&free, true);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("busy_poll");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, off);
    tcase_add_test(tests, losses_make_it_rare);
    tcase_add_test(tests, one_gain_pays_for_all_losses);
    tcase_add_test(tests, being_in_the_way_is_the_greatest_loss);
    tcase_add_test(tests, being_preempted_between_polls_is_none);
    tcase_add_test(tests, so_many_at_a_time);
    tcase_add_test(tests, without_seats);
    return run_case(tests);
}
