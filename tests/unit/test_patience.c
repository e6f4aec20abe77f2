#include "base/patience.h"

#include "common.h"

#include <pthread.h>

static struct patience own;
static uint64_t now_usec, random_state;

static void setup(void)
{
    own = (struct patience){0};
    now_usec = 3 * USEC_PER_SEC;
    random_state = 42;
}

/* Turns of 4 messages each, which take `usec`, or `waited_usec` when all have waited, and up to a fifth more
 * or less. Returns in how many of a thousand turns they waited. */
static unsigned turns(uint64_t usec, uint64_t waited_usec)
{
    unsigned waits = 0, count = 0;
    uint64_t done = 0;
    for (uint64_t end = now_usec + 10 * USEC_PER_SEC; now_usec < end; count++) {
        bool waits_now = patience_begin(&own, now_usec, &done);
        done += 4;
        uint64_t time = 4 * (waits_now ? waited_usec : usec);
        now_usec += time * (80 + next_random(&random_state) % 41) / 100;
        waits += waits_now;
    }
    return waits * 1000 / count;
}

START_TEST(what_gets_more_done)
{
    turns(8, 6);
    ck_assert_uint_gt(turns(8, 6), 900);
    turns(8, 20);
    ck_assert_uint_lt(turns(8, 20), 50);
    ck_assert_uint_lt(turns(8, 8), 100);
}
END_TEST

START_TEST(nothing_done)
{
    uint64_t done = 0;
    for (int i = 0; i < 10000; i++, now_usec += 100)
        ck_assert(!patience_begin(&own, now_usec, &done));
}
END_TEST

/* A thread that read the clock, and then had to wait while another looked. */
START_TEST(late_look)
{
    turns(8, 6);
    ck_assert(atomic_load(&own.is_patient));
    uint64_t began = own.trial.began_usec, done = 0;
    own.trial.began_usec = now_usec + 1000;
    atomic_store(&own.look_usec, own.trial.began_usec + TRIAL_STRETCH_USEC);
    ck_assert(patience_begin(&own, now_usec, &done));
    ck_assert_uint_gt(own.trial.began_usec, began);
    ck_assert(!trial_takes_second(&(struct trial){.began_usec = now_usec, .done = 9}, now_usec - 1));
}
END_TEST

static void *take_turns(void *argument)
{
    uint64_t done = 0;
    (void)argument;
    for (int i = 0; i < 200000; i++) {
        done++;
        patience_begin(&own, 1, &done);
    }
    atomic_fetch_add(&own.done, done);
    return NULL;
}

/* Nothing that is done is lost or counted twice. */
START_TEST(many_threads)
{
    pthread_t threads[4];
    atomic_store(&own.look_usec, UINT64_MAX);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&own.done), 4 * 200000);
}
END_TEST

static void *look_around(void *argument)
{
    uint64_t done = 0;
    (void)argument;
    for (int i = 0; i < 200000; i++) {
        done += 100;
        patience_begin(&own, clock_monotonic_usec(), &done);
    }
    return NULL;
}

/* For the thread sanitizer above all. */
START_TEST(many_threads_look)
{
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, look_around, NULL), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert(!atomic_load(&own.looks));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("patience");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, what_gets_more_done);
    tcase_add_test(tests, nothing_done);
    tcase_add_test(tests, late_look);
    tcase_add_test(tests, many_threads);
    tcase_add_test(tests, many_threads_look);
    return run_case(tests);
}
