#include "serve/accept_coalescing.h"

#include "base/clock.h"

#include "common.h"

static struct accept_coalescing own;
static uint64_t now_usec, random_state;

static void setup(void)
{
    own = (struct accept_coalescing){0};
    now_usec = 3 * USEC_PER_SEC;
    random_state = 3;
}

FIXTURE(setup, NULL)

/* Clients who come each `each_usec`, a third more or less; or, of the `waiting` who wait for their answers,
 * all in a turn that waits. Returns how many of a thousand turns waited. */
static unsigned share(unsigned each_usec, unsigned waiting)
{
    unsigned waits = 0, turns = 0;
    for (uint64_t end = now_usec + 4 * USEC_PER_SEC; now_usec < end; turns++) {
        uint32_t wait = accept_coalescing_begin(&own, now_usec);
        uint64_t time = (each_usec + wait) * (67 + next_random(&random_state) % 67) / 100;
        unsigned clients = (unsigned)(time / each_usec);
        if (clients == 0)
            clients = 1;
        accept_coalescing_end(&own, wait > 0 && clients < waiting ? clients : wait > 0 ? waiting : 1);
        now_usec += time;
        waits += wait > 0;
    }
    return waits * 1000 / turns;
}

TEST(crowd)
{
    ck_assert_uint_gt(share(30, 100), 900);
    ck_assert_uint_gt(share(30, 6), 900);
}

/* Then they would only be slower. */
TEST(few_who_wait)
{
    for (unsigned waiting = 1; waiting <= 4; waiting++)
        ck_assert_msg(share(30, waiting) < 30, "%u", waiting);
}

TEST(too_seldom)
{
    ck_assert_uint_eq(share(100, 100), 0);
    ck_assert_uint_eq(share(1000000, 100), 0);
}

TEST(times_change)
{
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_lt(share(100, 1), 5);
        ck_assert_uint_lt(share(30, 3), 30);
        ck_assert_uint_gt(share(30, 100), 400); /* once it has found out */
    }
}

TEST(alone_after_a_crowd)
{
    share(30, 100);
    now_usec += USEC_PER_SEC;
    ck_assert_uint_eq(accept_coalescing_begin(&own, now_usec), 0);
}

/* Several listeners are ready in one turn of the loop. */
TEST(one_wait_a_turn)
{
    share(30, 100);
    ck_assert_uint_gt(accept_coalescing_begin(&own, now_usec), 0);
    accept_coalescing_end(&own, 9);
    ck_assert_uint_eq(accept_coalescing_begin(&own, now_usec), 0);
    accept_coalescing_end(&own, 0);
}
