/* A connection as its worker keeps it, and what the kernel knows of its socket. Only connection.c and the
 * files that it is divided into look inside; tests do not. Everything runs on the worker's thread. */
#pragma once

#include "base/event_loop.h"
#include "base/list.h"
#include "serve/new_client.h"
#include "serve/reason.h"
#include "serve/service.h"

#include <stdbool.h>

struct proxied;
struct tcp_info;
struct worker;

#define UNSENT_NOT_LOOKED (-1)

/* The rest of an answer that the kernel did not take. */
struct unsent {
    size_t start, end;
    int64_t taken; /* bytes that the client had acknowledged at the last look; UNSENT_NOT_LOOKED: nobody has
                      looked */
    uint8_t bytes[];
};

/* About 190 bytes: this is what an idle client costs. */
struct connection {
    struct event_source source;
    struct timer timer;
    struct list link; /* in its worker's list */
    struct worker *worker;
    struct service_config *config;
    struct peer_network *network;
    struct proxied *proxied; /* NULL: its client has come by no proxy */
    uint64_t id;
    uint64_t bytes_in, bytes_out;
    uint64_t accepted_usec;
    uint64_t active_usec; /* when bytes last moved, or the lingering began */
    struct service_state state;
    struct unsent *unsent; /* NULL: nothing */
    struct address client;
    union {
        uint32_t due;            /* draining: bytes that had arrived and are still to be answered */
        uint32_t unacknowledged; /* after the last byte: what the client had yet to take, at the last look */
    };
    uint8_t reason;         /* enum reason; REASON_NONE: SERVING */
    uint8_t timeout;        /* enum timeout: what the timer was armed for */
    bool client_closed : 1; /* its FIN has been read */
    bool draining : 1;
    bool lingering : 1;
    bool in_bulk : 1;    /* the last read says that the next is better spliced than copied */
    bool misbehaves : 1; /* more follows in the same piece of memory */
};

/* Copies. NULL: memory is short. */
struct unsent *unsent_new(const uint8_t *bytes, size_t length);

/* tcp(7), TCP_INFO, also of a connection that is lost. Returns false for a Unix socket. */
bool connection_tcp_info(const struct connection *connection, struct tcp_info *out);

/* Bytes of the client that are still to be read. 0 when the kernel does not say. */
uint32_t connection_arrived(const struct connection *connection);

/* Bytes that the kernel holds for the client: sent and not acknowledged, or not yet sent (tcp(7), SIOCOUTQ).
 * 0 when it does not say. */
uint32_t connection_unacknowledged(const struct connection *connection);

/* Whether the client has yet to acknowledge bytes that the kernel took; false for a Unix socket. */
bool connection_left_unread(const struct connection *connection);

/* Whether a client that leaves for this reason has neither sent a byte nor taken one of the service's own, or
 * is a proxy with a health check. */
bool connection_is_probe(const struct connection *connection, enum reason reason);
