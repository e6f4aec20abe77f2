/* How an acceptor that is full hears of room: it sets the flag and looks once more; whoever takes a client
 * out of the queue or closes a connection finds the flag and wakes the acceptor's loop, once. Nobody polls,
 * and while there is room nobody pays more than one load. */
#pragma once

#include "base/event_loop.h"

#include <stdatomic.h>
#include <stdbool.h>

struct capacity_signal {
    atomic_bool awaited;
    struct event_loop *loop; /* the acceptor's */
};

/* The acceptor's thread; look for room again after it. */
static inline void capacity_signal_await(struct capacity_signal *capacity)
{
    atomic_store(&capacity->awaited, true);
}

/* Any thread, after making room. What the acceptor looks at (the queue's length, the counters of closed
 * connections) and the flag are all accessed with sequential consistency: either the acceptor's second look
 * sees the room, or this load sees the flag. */
static inline void capacity_signal_announce(struct capacity_signal *capacity)
{
    if (atomic_load(&capacity->awaited) && atomic_exchange(&capacity->awaited, false))
        event_loop_wake(capacity->loop);
}
