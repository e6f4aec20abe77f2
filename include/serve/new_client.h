/* A client on its way from the acceptor to its worker. */
#pragma once

#include "base/address.h"

#include <stdint.h>

struct peer_network;
struct service_config;

struct new_client {
    int fd;                        /* whoever holds the structure owns it */
    struct service_config *config; /* one reference, owned likewise */
    struct peer_network *network;  /* one connection counted, owned likewise */
    struct address client;
    uint64_t id;            /* unique for the life of the daemon, from 1 */
    uint64_t accepted_usec; /* CLOCK_MONOTONIC */
};
