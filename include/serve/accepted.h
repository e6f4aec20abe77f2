/* A client on its way from the acceptor to its worker. */
#pragma once

#include "base/address.h"

#include <stdint.h>

struct source;
struct terms;

struct accepted {
    int fd;                /* whoever holds the structure owns it */
    struct terms *terms;   /* one reference, owned likewise */
    struct source *source; /* one connection counted, owned likewise */
    struct address client;
    uint64_t id;            /* unique for the life of the daemon, from 1 */
    uint64_t accepted_usec; /* CLOCK_MONOTONIC */
};
