/* One timer of an event loop that goes off to the microsecond, for what is sent on a schedule: timerfd(2).
 * The loop's own timers are cheap by the ten thousand and 8 ms coarse. */
#pragma once

#include "base/event_loop.h"

struct precise_timer {
    struct event_source source;
    struct event_loop *loop;
    void (*fire)(struct precise_timer *timer);
};

/* Returns 0, or a negative errno with nothing to release. */
int precise_timer_init(struct precise_timer *timer, struct event_loop *loop,
                       void (*fire)(struct precise_timer *timer));

/* Goes off once at this time of CLOCK_MONOTONIC, or at once when it is past; an earlier one is forgotten. 0
 * disarms. */
void precise_timer_arm(struct precise_timer *timer, uint64_t at_nsec);

void precise_timer_deinit(struct precise_timer *timer);
