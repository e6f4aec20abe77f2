#include "client/watch/gap.h"

void gap_expect_answer(struct gap *gap, uint64_t at)
{
    if (gap->since == 0)
        gap->since = at;
}

uint64_t gap_answered(struct gap *gap, uint64_t at, bool more, uint64_t allowed)
{
    uint64_t length = gap->since != 0 && at > gap->since ? at - gap->since : 0;
    if (length > gap->longest_nsec) {
        gap->longest_nsec = length;
        gap->longest_at_nsec = gap->since;
    }
    if (length > allowed)
        gap->over++;
    gap->since = more ? at : 0;
    return length;
}
