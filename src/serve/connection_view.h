/* What a service may say of its connection: all that it would have to ask a socket, a clock or the system
 * for, gathered, so that the service stays pure. Nothing in it outlives the call that it is for. */
#pragma once

#include "base/proxy_header.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* As the kernel says it of a TCP connection. */
struct tcp_view {
    uint32_t rtt_usec, rttvar_usec; /* 0: not measured yet */
    uint32_t mss;                   /* bytes in a segment to the peer */
    char congestion_control[16];    /* "cubic" */
};

struct connection_view {
    uint64_t id;
    uint64_t accepted_usec; /* CLOCK_REALTIME */
    const char *listener, *service;
    const char *host;                   /* NULL: the system does not say */
    unsigned worker;                    /* from 1 */
    struct proxy_endpoint peer, server; /* of the socket; a proxy has its own client behind it */
    const struct ucred *credentials;    /* of the peer of a Unix socket, when it connected; NULL: TCP */
    const struct tcp_view *tcp;         /* NULL: a Unix socket */
    const struct proxy_header *header;  /* COMPLETE, with which the peer has begun; NULL: none was due */
};
