/* Which of two ways to do the same is better, found out by doing.
 *
 * Time is cut into stretches; now and then one is done the other way. The second way is kept as long as it
 * gets more done than the first by more than chance; the tries become rare as long as they change nothing.
 * Where little is done, it is done the first way. */
#pragma once

#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

/* Short enough that a try which loses costs little. */
#define TRIAL_STRETCH_USEC (16 * USEC_PER_MSEC)

/* Zeroed: nothing is known, the first way. One thread. */
struct trial {
    uint64_t began_usec;          /* the present stretch */
    uint64_t done;                /* in it so far */
    bool takes_second;            /* in each stretch but the tries */
    bool tries;                   /* the present stretch is a try */
    uint64_t rate;                /* done a second without the tries, smoothed; 0: not known */
    unsigned interval, until_try; /* in stretches */
};

/* A turn begins: returns whether to do it the second way. */
bool trial_takes_second(struct trial *trial, uint64_t now_usec);

/* So much was done in this turn, in units of the caller's. */
static inline void trial_note(struct trial *trial, uint64_t done)
{
    trial->done += done;
}
