#include "client/bench/load_plan.h"

#include "base/clock.h"

uint64_t load_share(uint64_t total, uint64_t shares, uint64_t index)
{
    return total / shares + (index < total % shares ? 1 : 0);
}

uint64_t load_due_nsec(const struct load_plan *plan, uint64_t start_nsec, uint64_t message)
{
    uint64_t rate = plan->rate;
    return start_nsec + message / rate * NSEC_PER_SEC + message % rate * NSEC_PER_SEC / rate;
}

uint64_t load_due_until(const struct load_plan *plan, uint64_t start_nsec, uint64_t until_nsec)
{
    uint64_t rate = plan->rate, end_nsec = UINT64_MAX;
    if (rate == 0 || start_nsec == 0 || until_nsec < start_nsec)
        return 0;
    if (plan->duration_usec < UINT64_MAX / NSEC_PER_USEC)
        end_nsec = plan->duration_usec * NSEC_PER_USEC;
    /* What is due at the moment itself is due, but at the end of all there is nothing any more. */
    uint64_t passed_nsec = until_nsec - start_nsec;
    passed_nsec = passed_nsec < end_nsec ? passed_nsec + 1 : end_nsec;
    uint64_t due = passed_nsec / NSEC_PER_SEC * rate +
                   (passed_nsec % NSEC_PER_SEC * rate + NSEC_PER_SEC - 1) / NSEC_PER_SEC;
    return plan->count > 0 && plan->count < due ? plan->count : due;
}
