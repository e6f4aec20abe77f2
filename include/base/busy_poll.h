/* When a loop looks for events once more, for a bounded time, before it sleeps: what comes in that time is
 * answered without the time that waking a thread takes, for the price of CPU.
 *
 * A poll that gains nothing makes the loop sleep twice as often before the next, and one that was in the way
 * of others, who took the CPU from it, at once as often as ever it gets. So neither a loop that nobody talks
 * to burns, nor one whose CPU has better things to do. Of several loops only so many poll at a time. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How many may poll at a time, and how many do. Shared by loops; any thread. */
struct poll_seats {
    _Atomic unsigned limit;
    _Atomic unsigned taken;
};

struct busy_poll {
    _Atomic uint32_t usec;    /* the longest poll; 0: none. Any thread */
    struct poll_seats *seats; /* NULL: no limit */
    unsigned losses;          /* polls in a row that nothing came of */
    unsigned skips;           /* sleeps to make without polling first */
    bool waits;               /* the poll under way found nothing at its first look */
    long preempted;           /* how often others had taken the CPU by then */
};

/* Before a sleep: returns how many microseconds to poll, behind which busy_poll_end is due, or 0 not to. The
 * loop's thread, like the next two. */
uint32_t busy_poll_begin(struct busy_poll *poll);

/* Nothing was there at the first look: from here on time is spent on it. */
void busy_poll_wait(struct busy_poll *poll);

/* `gained`: something came. */
void busy_poll_end(struct busy_poll *poll, bool gained);
