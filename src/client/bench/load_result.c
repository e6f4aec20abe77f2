#include "client/bench/load_result.h"

#include "client/net/opening.h"

#include <string.h>

const char *load_connect_reason(int error)
{
    return error == 0 ? OPENING_ENDED : strerror(error);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void load_result_add(struct load_result *into, const struct load_result *from)
{
    if (into->unconnected == 0)
        into->connect_error = from->connect_error;
    if (into->broken == 0)
        into->break_error = from->break_error;
    for (unsigned i = 0; i < from->fault_count && into->fault_count < LOAD_FAULTS; i++)
        into->faults[into->fault_count++] = from->faults[i];
    into->messages += from->messages;
    into->bytes += from->bytes;
    into->unanswered += from->unanswered;
    into->connected += from->connected;
    into->unconnected += from->unconnected;
    into->broken += from->broken;
    into->wrong += from->wrong;
    into->unended += from->unended;
    into->cpu_nsec += from->cpu_nsec;
    into->queued_nsec += from->queued_nsec;
    into->last_answer_nsec = larger(into->last_answer_nsec, from->last_answer_nsec);
    into->over_nsec = larger(into->over_nsec, from->over_nsec);
    into->wall_nsec = larger(into->wall_nsec, from->wall_nsec);
    into->busy = from->busy > into->busy ? from->busy : into->busy;
    histogram_merge(&into->latency, &from->latency);
    histogram_merge(&into->connect, &from->connect);
    histogram_merge(&into->lag, &from->lag);
}
