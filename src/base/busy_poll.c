#include "base/busy_poll.h"

#include <sys/resource.h>

/* After this many losses in a row the loop polls before every 64th sleep. */
#define MAX_LOSSES 6

static bool take_seat(struct poll_seats *seats)
{
    if (!seats)
        return true;
    if (atomic_fetch_add(&seats->taken, 1) < atomic_load(&seats->limit))
        return true;
    atomic_fetch_sub(&seats->taken, 1);
    return false;
}

uint32_t busy_poll_begin(struct busy_poll *poll)
{
    uint32_t usec = atomic_load_explicit(&poll->usec, memory_order_relaxed);
    if (usec == 0)
        return 0;
    if (poll->skips > 0) {
        poll->skips--;
        return 0;
    }
    return take_seat(poll->seats) ? usec : 0;
}

/* How often somebody has taken the CPU from this thread (getrusage(2): cannot fail so). */
static long preemptions(void)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

void busy_poll_wait(struct busy_poll *poll)
{
    poll->waits = true;
    poll->preempted = preemptions();
}

void busy_poll_end(struct busy_poll *poll, bool gained)
{
    if (poll->seats)
        atomic_fetch_sub(&poll->seats->taken, 1);
    bool was_in_the_way = poll->waits && preemptions() != poll->preempted;
    poll->waits = false;
    if (was_in_the_way)
        poll->losses = MAX_LOSSES;
    else if (gained)
        poll->losses = 0;
    else if (poll->losses < MAX_LOSSES)
        poll->losses++;
    poll->skips = (1U << poll->losses) - 1;
}
