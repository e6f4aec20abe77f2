/* What a load is to do, and when each message of its schedule is due. Pure; any thread. */
#pragma once

#include "client/check/expectation.h"
#include "client/net/target.h"
#include "client/options.h"

#include <stdbool.h>
#include <stdint.h>

struct load_plan {
    const char *direction; /* "send" or "receive", one way; NULL: messages and their answers */
    struct endpoint endpoint;
    const struct source *source; /* from where to connect; NULL: anywhere */
    enum expectation expect;
    uint64_t run;  /* makes the bytes of this run its own */
    uint64_t size; /* bytes of a message */
    uint64_t connections;
    uint64_t threads;
    uint64_t count; /* messages of all connections together; 0: no limit */
    bool reconnect; /* a connection for each message; there is no rate then */
    uint64_t rate;  /* messages a second of all together; 0: the next as soon as the answer is there */
    uint64_t duration_usec;      /* with `rate`, what is due after it is not sent */
    uint64_t connect_usec;       /* patience for a connection to be made */
    uint64_t first_connect_nsec; /* what the first one took, which the caller made */
    uint64_t wait_usec;          /* patience for the last answers */
};

/* All that the command line says. What is known when the first connection is made, and `run`, is zero. */
struct load_plan load_plan_of(const struct client_options *options);

/* How many of `total` things fall to share number `index` of `shares` that take turns. */
uint64_t load_share(uint64_t total, uint64_t shares, uint64_t index);

/* When a message of a schedule that began at `start_nsec` is due. */
uint64_t load_due_nsec(const struct load_plan *plan, uint64_t start_nsec, uint64_t message);

/* How many messages of it are due by then; 0 without a schedule, or when it has not begun (start_nsec 0). */
uint64_t load_due_until(const struct load_plan *plan, uint64_t start_nsec, uint64_t until_nsec);
