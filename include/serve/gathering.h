/* Whether clients gather in the backlog for a moment before they are accepted.
 *
 * A client that connects wakes the acceptor, which wakes a worker: when clients come by the ten thousand a
 * second, each on its own, waking is most of the work. An acceptor that looks a moment later finds several,
 * and wakes the workers once for all. It goes on so as long as enough of them come in that moment. Where few
 * clients wait for their answers before they come again, a moment later is only later: then it stops, and
 * looks ever more rarely whether that has changed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nothing gathers. The acceptor's thread. */
struct gathering {
    uint64_t turn_usec;     /* when the last turn began */
    uint32_t interval_usec; /* between clients, smoothed */
    uint32_t brought;       /* sixteenths of a client that a gathered turn brings, smoothed */
    unsigned losses;        /* times in a row that too few came */
    unsigned skips;         /* turns to take without looking whether more come */
    bool gathers;           /* the present turn */
};

/* A turn begins: returns how many microseconds to wait before the first accept, 0 for not at all. */
uint32_t gathering_begin(struct gathering *gathering, uint64_t now_usec);

/* The turn has brought so many clients. */
void gathering_end(struct gathering *gathering, unsigned clients);
