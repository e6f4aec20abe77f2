/* Whether the acceptor waits for a moment before it accepts, so that it finds several clients at once.
 *
 * A client that connects wakes the acceptor, which wakes a worker: when clients come by the ten thousand a
 * second, each on its own, waking is most of the work. An acceptor that looks a moment later finds several,
 * and wakes the workers once for all. It goes on so as long as enough of them come in that moment. Where few
 * clients wait for their answers before they come again, a moment later is only later: then it stops, and
 * tries ever more rarely whether that has changed. */
#pragma once

#include "base/backoff.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: it does not wait. The acceptor's thread. */
struct accept_coalescing {
    uint64_t turn_usec;     /* when the last turn began */
    uint32_t interval_usec; /* between clients, smoothed */
    uint32_t found;         /* sixteenths of a client that a turn finds which has waited, smoothed */
    struct backoff backoff;
    bool waits; /* the present turn */
};

/* A turn begins: returns how many microseconds to wait before the first accept, 0 for not at all. */
uint32_t accept_coalescing_begin(struct accept_coalescing *coalescing, uint64_t now_usec);

/* The turn has accepted so many clients. */
void accept_coalescing_end(struct accept_coalescing *coalescing, unsigned clients);
