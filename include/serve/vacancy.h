/* How an acceptor that is full hears of room: it sets the flag and looks once more; whoever takes a client
 * out of the queue or closes a connection finds the flag and wakes the acceptor's loop, once. Nobody polls,
 * and while there is room nobody pays more than one load. */
#pragma once

#include "base/event_loop.h"

#include <stdatomic.h>
#include <stdbool.h>

struct vacancy {
    atomic_bool awaited;
    struct event_loop *loop; /* the acceptor's */
};

/* The acceptor's thread; look for room again behind it. */
static inline void vacancy_await(struct vacancy *vacancy)
{
    atomic_store(&vacancy->awaited, true);
}

/* Any thread, behind making room. What the acceptor looks at (the queue's length, the counters of closed
 * connections) and the flag are all accessed with sequential consistency: either the acceptor's second look
 * sees the room, or this load sees the flag. */
static inline void vacancy_announce(struct vacancy *vacancy)
{
    if (atomic_load(&vacancy->awaited) && atomic_exchange(&vacancy->awaited, false))
        event_loop_wake(vacancy->loop);
}
