#include "serve/gathering.h"

#include "base/clock.h"

/* The kernel's timer slack comes on top (prctl(2), PR_SET_TIMERSLACK: 50). */
#define GATHER_USEC 150

/* Long enough for some dozens of clients, short enough that a try which loses costs little. */
#define STRETCH_USEC (16 * USEC_PER_MSEC)

/* Below so many a second a thread has the time to be woken for each. */
#define LEAST_RATE 8000

#define FIRST_INTERVAL 2
#define LONGEST_INTERVAL 32

/* What the other way has to gain, in percent, to be kept: more than chance does. */
#define LEAST_GAIN 5

static void schedule_try(struct gathering *g, unsigned interval)
{
    g->interval = interval;
    g->until_try = interval;
}

static void judge_try(struct gathering *g, uint64_t rate)
{
    g->tries = false;
    if (rate * 100 < g->rate * (100 + LEAST_GAIN)) {
        schedule_try(g, g->interval < LONGEST_INTERVAL ? 2 * g->interval : LONGEST_INTERVAL);
        return;
    }
    g->gathers = !g->gathers;
    g->rate = rate;
    schedule_try(g, FIRST_INTERVAL);
}

static void judge(struct gathering *g, uint64_t rate)
{
    if (g->tries) {
        judge_try(g, rate);
    } else if (rate < LEAST_RATE) {
        g->gathers = false;
        g->rate = 0;
    } else if (g->rate == 0) {
        g->rate = rate;
        schedule_try(g, FIRST_INTERVAL);
    } else {
        g->rate = (3 * g->rate + rate) / 4;
        g->tries = --g->until_try == 0;
    }
}

uint32_t gathering_begin(struct gathering *g, uint64_t now_usec)
{
    if (now_usec == g->turn_usec)
        return 0;
    g->turn_usec = now_usec;
    uint64_t took = now_usec - g->began_usec;
    if (took >= STRETCH_USEC) {
        judge(g, g->clients * USEC_PER_SEC / took);
        g->began_usec = now_usec;
        g->clients = 0;
    }
    return g->gathers != g->tries ? GATHER_USEC : 0;
}

void gathering_end(struct gathering *g, unsigned clients)
{
    g->clients += clients;
}
