#include "serve/accept_coalescing.h"

/* The kernel's timer slack comes on top (prctl(2), PR_SET_TIMERSLACK: 50). */
#define WAIT_USEC 150

/* Clients who come further apart than this do not come in numbers. */
#define CROWD_INTERVAL_USEC 64

/* Of no more clients each turn the wait costs more than the wakes that it saves: four who wait for their
 * answers are served as fast without. */
#define TOO_FEW (4 * 16)
#define FIRST_GUESS (6 * 16)

/* After as many losses it tries every 16,384th turn. */
#define MOST_LOSSES 8
#define FIRST_SKIPS 128

#define LONGEST_INTERVAL_USEC 1000

static void smooth_interval(struct accept_coalescing *c, uint64_t since_usec)
{
    uint32_t interval = since_usec < LONGEST_INTERVAL_USEC ? (uint32_t)since_usec : LONGEST_INTERVAL_USEC;
    c->interval_usec = (7 * c->interval_usec + interval) / 8;
}

uint32_t accept_coalescing_begin(struct accept_coalescing *c, uint64_t now_usec)
{
    c->waits = false;
    if (now_usec == c->turn_usec) /* another listener's share of the same turn */
        return 0;
    smooth_interval(c, now_usec - c->turn_usec);
    c->turn_usec = now_usec;
    if (c->interval_usec >= CROWD_INTERVAL_USEC || backoff_skips(&c->backoff))
        return 0;
    c->waits = true;
    return WAIT_USEC;
}

void accept_coalescing_end(struct accept_coalescing *c, unsigned clients)
{
    for (unsigned i = 1; i < clients; i++) /* those who came with the first */
        smooth_interval(c, 0);
    if (!c->waits)
        return;
    c->found = c->found == 0 ? FIRST_GUESS : (15 * c->found + 16 * clients) / 16;
    if (c->found <= TOO_FEW) {
        backoff_lost(&c->backoff, FIRST_SKIPS, MOST_LOSSES);
        c->found = 0;
    } else if (clients * 16 > TOO_FEW) {
        backoff_won(&c->backoff);
    }
}
