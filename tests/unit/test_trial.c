#include "base/trial.h"

#include "common.h"

#include "base/clock.h"

/* Clients that are accepted at once, or after they have gathered: how many a turn brings, and how long it
 * takes with and without the wait. */
struct crowd {
    unsigned at_once, at_once_usec;
    unsigned gathered, gathered_usec;
};

static struct trial own;
static uint64_t now_usec;

static void setup(void)
{
    own = (struct trial){0};
    now_usec = 3 * USEC_PER_SEC;
}

/* Returns in how many of a thousand turns it waited. */
static unsigned live_with(const struct crowd *crowd, uint64_t usec)
{
    unsigned waits = 0, turns = 0;
    for (uint64_t end = now_usec + usec; now_usec < end; turns++) {
        bool waits_now = trial_takes_second(&own, now_usec);
        trial_note(&own, waits_now ? crowd->gathered : crowd->at_once);
        now_usec += waits_now ? crowd->gathered_usec : crowd->at_once_usec;
        waits += waits_now;
    }
    return waits * 1000 / turns;
}

/* 32 on two CPUs, as measured: one each 52 microseconds, or five each 190. */
static const struct crowd many = {1, 52, 5, 190};

/* Each waits for its answer before the next comes. */
static const struct crowd one = {1, 70, 1, 220};

START_TEST(many_gather)
{
    live_with(&many, USEC_PER_SEC);
    ck_assert_uint_gt(live_with(&many, USEC_PER_SEC), 850);
}
END_TEST

START_TEST(one_does_not_wait)
{
    live_with(&one, USEC_PER_SEC);
    ck_assert_uint_lt(live_with(&one, USEC_PER_SEC), 30);
}
END_TEST

/* Three who wait for their answers: what gathers is all that comes. */
START_TEST(few_do_not_wait)
{
    const struct crowd few = {1, 52, 3, 260};
    live_with(&few, USEC_PER_SEC);
    ck_assert_uint_lt(live_with(&few, USEC_PER_SEC), 30);
}
END_TEST

/* They come when they come: waiting gains nothing but wakes. */
START_TEST(as_many_either_way_do_not_wait)
{
    const struct crowd steady = {1, 50, 4, 200};
    live_with(&steady, USEC_PER_SEC);
    ck_assert_uint_lt(live_with(&steady, USEC_PER_SEC), 30);
}
END_TEST

START_TEST(few_a_second_never_wait)
{
    const struct crowd calm = {1, 130, 50, 100};
    ck_assert_uint_eq(live_with(&calm, USEC_PER_SEC), 0);
}
END_TEST

START_TEST(clients_change)
{
    for (int i = 0; i < 3; i++) {
        live_with(&one, USEC_PER_SEC);
        ck_assert_uint_lt(live_with(&one, USEC_PER_SEC), 30);
        live_with(&many, USEC_PER_SEC);
        ck_assert_uint_gt(live_with(&many, USEC_PER_SEC), 850);
    }
}
END_TEST

/* Nobody pays for a crowd that has left. */
START_TEST(after_a_calm)
{
    live_with(&many, USEC_PER_SEC);
    now_usec += USEC_PER_SEC;
    ck_assert(!trial_takes_second(&own, now_usec));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("trial");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, many_gather);
    tcase_add_test(tests, one_does_not_wait);
    tcase_add_test(tests, few_do_not_wait);
    tcase_add_test(tests, as_many_either_way_do_not_wait);
    tcase_add_test(tests, few_a_second_never_wait);
    tcase_add_test(tests, clients_change);
    tcase_add_test(tests, after_a_calm);
    return run_case(tests);
}
