/* How long nobody was served: the longest time in which an answer was due and none came. It counts from when
 * the first unanswered message was due, so it does not depend on how often one is sent. Pure; nanoseconds of
 * CLOCK_MONOTONIC. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gap {
    uint64_t since;                         /* an answer has been due from here on; 0: none is */
    uint64_t longest_nsec, longest_at_nsec; /* and when it began; 0 and 0: nothing was ever due */
    uint64_t over;                          /* how many were longer than they may be */
};

/* A message was due at `at`. */
void gap_expect_answer(struct gap *gap, uint64_t at);

/* An answer came at `at`, and there are `more` to come. Returns how long it had been waited for, and counts
 * it when that is more than `allowed`. */
uint64_t gap_answered(struct gap *gap, uint64_t at, bool more, uint64_t allowed);
