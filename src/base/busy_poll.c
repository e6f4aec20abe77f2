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

/* Whether somebody has taken the CPU from this thread since the last time (getrusage(2): cannot fail so). */
static bool was_in_the_way(struct busy_poll *poll)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_THREAD, &usage);
    bool is_more = usage.ru_nivcsw != poll->preempted;
    poll->preempted = usage.ru_nivcsw;
    return is_more;
}

void busy_poll_end(struct busy_poll *poll, bool gained, bool waited)
{
    if (poll->seats)
        atomic_fetch_sub(&poll->seats->taken, 1);
    if (waited && was_in_the_way(poll))
        poll->losses = MAX_LOSSES;
    else if (gained)
        poll->losses = 0;
    else if (poll->losses < MAX_LOSSES)
        poll->losses++;
    poll->skips = (1U << poll->losses) - 1;
}
