/* Whether to try again what may not pay: each loss in a row doubles how often it is skipped before the next
 * try, and a win begins anew. Zeroed, it tries at once. One thread's. */
#pragma once

#include <stdbool.h>

struct backoff {
    unsigned losses; /* in a row */
    unsigned skips;  /* to be made before the next try */
};

/* True: not this time. */
static inline bool backoff_skips(struct backoff *backoff)
{
    if (backoff->skips == 0)
        return false;
    backoff->skips--;
    return true;
}

static inline void backoff_won(struct backoff *backoff)
{
    *backoff = (struct backoff){0};
}

/* Skips `first` times after the first loss, and at most first * 2^(most - 1) times after any. */
static inline void backoff_lost(struct backoff *backoff, unsigned first, unsigned most)
{
    if (backoff->losses < most)
        backoff->losses++;
    backoff->skips = first << (backoff->losses - 1);
}
