#include "base/patience.h"

/* Less is kept by the thread, so that the counter is not fought for. */
#define LEAST_REPORT 32

/* Whoever comes first behind a stretch looks for all. */
static void look(struct patience *patience, uint64_t now_usec)
{
    if (atomic_exchange(&patience->looks, true))
        return;
    /* Unless another has looked since this thread read the clock. */
    if (now_usec >= atomic_load(&patience->look_usec)) {
        trial_note(&patience->trial, atomic_exchange(&patience->done, 0));
        atomic_store(&patience->is_patient, trial_takes_second(&patience->trial, now_usec));
        atomic_store(&patience->look_usec, patience->trial.began_usec + TRIAL_STRETCH_USEC);
    }
    atomic_store(&patience->looks, false);
}

bool patience_begin(struct patience *patience, uint64_t now_usec, uint64_t *done)
{
    bool is_due = now_usec >= atomic_load_explicit(&patience->look_usec, memory_order_relaxed);
    if (*done >= LEAST_REPORT || (is_due && *done > 0)) {
        atomic_fetch_add_explicit(&patience->done, *done, memory_order_relaxed);
        *done = 0;
    }
    if (is_due)
        look(patience, now_usec);
    return atomic_load_explicit(&patience->is_patient, memory_order_relaxed);
}
