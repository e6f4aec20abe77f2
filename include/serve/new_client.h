/* A client on its way to its worker: from the acceptor, or from another process. */
#pragma once

#include "base/address.h"

#include <stdint.h>

struct peer_network;
struct progress;
struct proxied;
struct service_config;

struct new_client {
    int fd;                        /* whoever holds the structure owns it */
    struct service_config *config; /* one reference, owned likewise */
    struct peer_network *network;  /* one connection counted, owned likewise */
    struct address client;
    struct proxied *proxied;   /* owned likewise; NULL: it has come by no proxy */
    uint64_t id;               /* unique for the life of the daemon, from 1 */
    uint64_t number;           /* on its listener, in the order of acceptance, from 1 */
    uint64_t accepted_usec;    /* CLOCK_MONOTONIC */
    struct progress *progress; /* another process has served it so far; owned likewise. NULL: it is new */
};
