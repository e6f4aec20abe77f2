/* Timers by the ten thousand: a hierarchical wheel (Varghese & Lauck, 1987, scheme 6).
 *
 * Time is cut into ticks of TIMER_TICK_USEC. Level 0 has a slot for each of the next 64 ticks, level 1 for
 * each of the next 64 spans of 64 ticks, and so on; a bit for each slot says whether it may hold timers.
 * Adding and removing cost a few instructions. When a slot of a higher level comes round its timers move down
 * a level, so a timer far away is touched once a level and fires at the tick after its deadline, never
 * before it.
 *
 * A timer is often pushed back: every byte of a connection moves its idle deadline. Do not move the timer
 * then; write down the new deadline, and when the timer fires, add it again if its time has not come.
 *
 * One thread a wheel. Nothing here fails. */
#pragma once

#include "base/list.h"

#include <stdint.h>

/* Short enough that a timer is at most a quarter of a millisecond late by the wheel's own doing. */
#define TIMER_TICK_USEC UINT64_C(256)
#define TIMER_LEVELS 6 /* 64^6 ticks: half a year; what is farther away is placed again */
#define TIMER_SLOTS 64

struct timer {
    struct list link;
    uint64_t tick; /* the first tick at which it may fire */
    void (*fire)(struct timer *timer);
};

struct timer_wheel {
    uint64_t tick; /* every timer before this one has fired */
    uint64_t occupied[TIMER_LEVELS];
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_usec);

/* Makes a timer that is in no wheel. The wheel never calls `fire`: whoever advances it does. */
void timer_init(struct timer *timer, void (*fire)(struct timer *timer));

static inline bool timer_is_armed(const struct timer *timer)
{
    return !list_is_empty(&timer->link);
}

/* Arms the timer for `deadline_usec` (CLOCK_MONOTONIC), or moves it there. USEC_NEVER disarms it. */
void timer_wheel_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_usec);

void timer_disarm(struct timer *timer);

/* Takes every timer whose time has come out of the wheel and appends it to `due`, where timer_disarm still
 * works. */
void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_usec, struct list *due);

/* When to call timer_wheel_advance next: not after the first deadline, perhaps before it. USEC_NEVER: no
 * timer. */
uint64_t timer_wheel_next_usec(const struct timer_wheel *wheel);
