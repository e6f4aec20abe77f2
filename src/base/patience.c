#include "base/patience.h"

/* Whoever comes first behind a stretch looks for all. */
static void look(struct patience *patience, uint64_t now_usec)
{
    if (atomic_exchange(&patience->looks, true))
        return;
    trial_note(&patience->trial, atomic_exchange(&patience->done, 0));
    atomic_store(&patience->is_patient, trial_takes_second(&patience->trial, now_usec));
    atomic_store(&patience->look_usec, patience->trial.began_usec + TRIAL_STRETCH_USEC);
    atomic_store(&patience->looks, false);
}

bool patience_begin(struct patience *patience, uint64_t now_usec, uint64_t done)
{
    if (done > 0)
        atomic_fetch_add_explicit(&patience->done, done, memory_order_relaxed);
    if (now_usec >= atomic_load_explicit(&patience->look_usec, memory_order_relaxed))
        look(patience, now_usec);
    return patience_waits(patience);
}
