#include "client/bench/load_plan.h"

#include "base/clock.h"
#include "client/check/chargen.h"

#define DEFAULT_DURATION (10 * USEC_PER_SEC)
#define DEFAULT_SIZE 64

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A schedule of so many messages ends, too, whether or not the server answers them. */
static uint64_t duration_of(const struct client_options *options)
{
    uint64_t duration = options->duration_usec;
    if (options->count == 0)
        return duration == USEC_NEVER ? DEFAULT_DURATION : duration;
    if (options->rate == 0)
        return duration;
    return smaller(duration, (options->count * USEC_PER_SEC + options->rate - 1) / options->rate);
}

struct load_plan load_plan_of(const struct client_options *options)
{
    const char *direction = options->send ? "send" : options->receive ? "receive" : NULL;
    uint64_t connections = options->connections;
    if (options->reconnect && options->count > 0) /* each is for a message */
        connections = smaller(connections, options->count);
    return (struct load_plan){
        .direction = direction,
        .expect = options->expect,
        .size = options->size > 0 ? options->size
                : direction       ? CHARGEN_SENT
                                  : DEFAULT_SIZE,
        .connections = connections,
        .threads = smaller(options->threads, connections), /* one without a connection has nothing to do */
        .count = options->count,
        .reconnect = options->reconnect,
        .rate = options->rate,
        .duration_usec = duration_of(options),
        .connect_usec = options->connect_timeout_usec,
        .wait_usec = options->wait_usec,
    };
}

uint64_t load_share(uint64_t total, uint64_t shares, uint64_t index)
{
    return total / shares + (index < total % shares ? 1 : 0);
}

uint64_t load_due_nsec(const struct load_plan *plan, uint64_t start_nsec, uint64_t message)
{
    uint64_t rate = plan->rate;
    return start_nsec + message / rate * NSEC_PER_SEC + message % rate * NSEC_PER_SEC / rate;
}

uint64_t load_due_until(const struct load_plan *plan, uint64_t start_nsec, uint64_t until_nsec)
{
    uint64_t rate = plan->rate, end_nsec = UINT64_MAX;
    if (rate == 0 || start_nsec == 0 || until_nsec < start_nsec)
        return 0;
    if (plan->duration_usec < UINT64_MAX / NSEC_PER_USEC)
        end_nsec = plan->duration_usec * NSEC_PER_USEC;
    /* What is due at the moment itself is due, but at the end of all there is nothing any more. */
    uint64_t passed_nsec = until_nsec - start_nsec;
    passed_nsec = passed_nsec < end_nsec ? passed_nsec + 1 : end_nsec;
    uint64_t due = passed_nsec / NSEC_PER_SEC * rate +
                   (passed_nsec % NSEC_PER_SEC * rate + NSEC_PER_SEC - 1) / NSEC_PER_SEC;
    return plan->count > 0 && plan->count < due ? plan->count : due;
}
