#include "base/trial.h"

#include "common.h"

#include "base/clock.h"

/* How much a turn gets done, and how long it takes, either way. */
struct ways {
    unsigned first, first_usec;
    unsigned second, second_usec;
};

static struct trial own;
static uint64_t now_usec, random_state;

static void setup(void)
{
    own = (struct trial){0};
    now_usec = 3 * USEC_PER_SEC;
    random_state = 7;
}

/* Turns that take up to a third more or less, by chance. Returns how many of a thousand were done the second
 * way. */
static unsigned turn_for(uint64_t usec, const struct ways *ways)
{
    unsigned seconds = 0, turns = 0;
    for (uint64_t end = now_usec + usec; now_usec < end; turns++) {
        bool is_second = trial_takes_second(&own, now_usec);
        trial_note(&own, is_second ? ways->second : ways->first);
        now_usec +=
            (is_second ? ways->second_usec : ways->first_usec) * (67 + next_random(&random_state) % 67) / 100;
        seconds += is_second;
    }
    return seconds * 1000 / turns;
}

/* Of the second way once it is settled. */
static unsigned share(const struct ways *ways)
{
    turn_for(5 * USEC_PER_SEC, ways);
    return turn_for(10 * USEC_PER_SEC, ways);
}

static const struct ways gains = {2, 52, 10, 190}, loses = {2, 70, 2, 220};

START_TEST(gain_is_kept)
{
    ck_assert_uint_gt(share(&gains), 900);
}
END_TEST

START_TEST(loss_is_tried_rarely)
{
    const struct ways small_loss = {2, 52, 6, 260};
    ck_assert_uint_lt(share(&loses), 20);
    ck_assert_uint_lt(share(&small_loss), 20);
}
END_TEST

START_TEST(as_much_either_way)
{
    const struct ways equal = {2, 50, 8, 200};
    ck_assert_uint_lt(share(&equal), 100);
}
END_TEST

/* What comes at a fixed rate tells nothing; it is fitful, too. */
START_TEST(fixed_rate)
{
    for (unsigned each_usec = 10; each_usec <= 300; each_usec += 29) {
        const struct ways steady = {1, each_usec, 1, each_usec};
        ck_assert_msg(share(&steady) < 150, "each %u us: %u", each_usec, share(&steady));
    }
}
END_TEST

START_TEST(little_is_done_the_first_way)
{
    const struct ways calm = {1, 130, 50, 100};
    ck_assert_uint_eq(share(&calm), 0);
}
END_TEST

START_TEST(times_change)
{
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_lt(share(&loses), 20);
        ck_assert_uint_gt(share(&gains), 900);
    }
}
END_TEST

/* Nobody pays for what was before. */
START_TEST(after_a_calm)
{
    turn_for(USEC_PER_SEC, &gains);
    now_usec += USEC_PER_SEC;
    ck_assert(!trial_takes_second(&own, now_usec));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("trial");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, gain_is_kept);
    tcase_add_test(tests, loss_is_tried_rarely);
    tcase_add_test(tests, as_much_either_way);
    tcase_add_test(tests, fixed_rate);
    tcase_add_test(tests, little_is_done_the_first_way);
    tcase_add_test(tests, times_change);
    tcase_add_test(tests, after_a_calm);
    return run_case(tests);
}
