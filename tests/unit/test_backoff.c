#include "base/backoff.h"

#include "common.h"

static unsigned skips_after_a_loss(struct backoff *backoff)
{
    unsigned skips = 0;
    backoff_lost(backoff, 3, 4);
    while (backoff_skips(backoff))
        skips++;
    return skips;
}

TEST(losses_double_what_is_skipped)
{
    struct backoff backoff = {0};
    static const unsigned expected[] = {3, 6, 12, 24, 24, 24};
    ck_assert(!backoff_skips(&backoff));
    for (size_t i = 0; i < COUNT_OF(expected); i++)
        ck_assert_uint_eq(skips_after_a_loss(&backoff), expected[i]);
    ck_assert(!backoff_skips(&backoff));
}

TEST(a_win_begins_anew)
{
    struct backoff backoff = {0};
    skips_after_a_loss(&backoff);
    backoff_lost(&backoff, 3, 4);
    backoff_won(&backoff);
    ck_assert(!backoff_skips(&backoff));
    ck_assert_uint_eq(skips_after_a_loss(&backoff), 3);
}
