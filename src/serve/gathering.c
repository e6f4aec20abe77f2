#include "serve/gathering.h"

/* The kernel's timer slack comes on top (prctl(2), PR_SET_TIMERSLACK: 50). */
#define GATHER_USEC 150

/* Clients who come further apart than this do not come in numbers. */
#define CROWD_INTERVAL_USEC 64

/* Of no more clients each turn the wait costs more than the wakes that it saves: four who wait for their
 * answers are served as fast without. */
#define TOO_FEW (4 * 16)
#define FIRST_GUESS (6 * 16)

/* After as many losses it looks behind every 16,384th turn. */
#define MOST_LOSSES 8
#define FIRST_SKIPS 64

#define LONGEST_INTERVAL_USEC 1000

static void smooth_interval(struct gathering *g, uint64_t since_usec)
{
    uint32_t interval = since_usec < LONGEST_INTERVAL_USEC ? (uint32_t)since_usec : LONGEST_INTERVAL_USEC;
    g->interval_usec = (7 * g->interval_usec + interval) / 8;
}

uint32_t gathering_begin(struct gathering *g, uint64_t now_usec)
{
    g->gathers = false;
    if (now_usec == g->turn_usec) /* another listener's share of the same turn */
        return 0;
    smooth_interval(g, now_usec - g->turn_usec);
    g->turn_usec = now_usec;
    if (g->interval_usec >= CROWD_INTERVAL_USEC)
        return 0;
    if (g->skips > 0) {
        g->skips--;
        return 0;
    }
    g->gathers = true;
    return GATHER_USEC;
}

void gathering_end(struct gathering *g, unsigned clients)
{
    for (unsigned i = 1; i < clients; i++) /* those who came with the first */
        smooth_interval(g, 0);
    if (!g->gathers)
        return;
    g->brought = g->brought == 0 ? FIRST_GUESS : (15 * g->brought + 16 * clients) / 16;
    if (g->brought > TOO_FEW) {
        if (clients * 16 > TOO_FEW)
            g->losses = 0;
        return;
    }
    if (g->losses < MOST_LOSSES)
        g->losses++;
    g->skips = FIRST_SKIPS << g->losses;
    g->brought = 0;
}
