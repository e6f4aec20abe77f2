#include "base/patience.h"

#include "common.h"

#include <pthread.h>

static struct patience own;
static uint64_t now_usec;

static void setup(void)
{
    own = (struct patience){0};
    now_usec = 3 * USEC_PER_SEC;
}

/* Turns of two loops that share their CPUs with their clients: each message takes `usec`, or `yielded_usec`
 * when both have yielded. Returns in how many of a thousand turns they did. */
static unsigned turns(uint64_t usec, uint64_t yielded_usec)
{
    unsigned waits = 0, count = 0;
    uint64_t done = 0;
    for (uint64_t end = now_usec + 2 * USEC_PER_SEC; now_usec < end; count++) {
        bool waits_now = patience_begin(&own, now_usec, done);
        done = 4;
        now_usec += done * (waits_now ? yielded_usec : usec);
        waits += waits_now;
    }
    return waits * 1000 / count;
}

START_TEST(what_gets_more_done)
{
    turns(8, 6);
    ck_assert_uint_gt(turns(8, 6), 850);
    turns(8, 20);
    ck_assert_uint_lt(turns(8, 20), 30);
    ck_assert_uint_lt(turns(8, 8), 60);
}
END_TEST

START_TEST(nothing_done)
{
    for (int i = 0; i < 10000; i++, now_usec += 100)
        ck_assert(!patience_begin(&own, now_usec, 0));
}
END_TEST

static void *take_turns(void *argument)
{
    (void)argument;
    for (int i = 0; i < 200000; i++)
        patience_begin(&own, clock_monotonic_usec(), 1);
    return NULL;
}

/* Nothing that is done is lost or counted twice, whoever looks. */
START_TEST(many_threads)
{
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert(!atomic_load(&own.looks));
    ck_assert_uint_le(atomic_load(&own.done) + own.trial.done, 4 * 200000);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("patience");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, what_gets_more_done);
    tcase_add_test(tests, nothing_done);
    tcase_add_test(tests, many_threads);
    return run_case(tests);
}
