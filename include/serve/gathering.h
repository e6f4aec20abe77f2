/* Whether clients gather in the backlog for a moment before they are accepted.
 *
 * A client that connects wakes the acceptor, which wakes a worker: when clients come by the thousand a
 * second, each on its own, waking is most of the work. An acceptor that looks a moment later finds several,
 * and wakes the workers once for all. But where few clients wait for their answers before they come again, a
 * moment later is only later.
 *
 * So both are tried. Time is cut into stretches; now and then one is done the other way, and what takes in
 * more clients is kept. The tries become rare as long as they lose. Clients who do not come in numbers are
 * never kept waiting. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nothing gathers. The acceptor's thread. */
struct gathering {
    uint64_t turn_usec; /* when the present turn began */
    uint64_t began_usec;
    unsigned clients;             /* of the present stretch */
    bool gathers;                 /* in each stretch but the tries */
    bool tries;                   /* the present stretch is a try */
    uint64_t rate;                /* clients a second without the tries, smoothed; 0: not known */
    unsigned interval, until_try; /* in stretches */
};

/* A turn begins: returns how many microseconds to wait before the first accept, 0 for not at all. A turn may
 * begin more than once, as one of several listeners. */
uint32_t gathering_begin(struct gathering *gathering, uint64_t now_usec);

/* The turn has brought so many clients. */
void gathering_end(struct gathering *gathering, unsigned clients);
