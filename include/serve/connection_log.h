/* What happens to connections, as messages: one function a kind of event, so that its words, its level and
 * its fields stand in one place. Any thread. */
#pragma once

#include "base/address.h"
#include "base/span.h"
#include "serve/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a message about a connection tells. */
struct connection_facts {
    uint64_t id;
    struct address client;
    struct span path;            /* of a client at a Unix socket, where its proxy says it; else empty */
    const struct address *proxy; /* that has brought it; NULL: none has */
    const char *listener;
    const char *service;
    unsigned worker;
    uint64_t bytes_in, bytes_out;
    uint64_t duration_usec;
    const char *fault; /* that ended it: "limit"; NULL: none did */
};

/* log.connections and log.addresses. Main thread, at start and on reload; the workers see it soon. */
void connection_log_configure(bool connections, enum address_detail detail);

/* At debug. */
void connection_log_connected(const struct connection_facts *facts);

/* At info; a probe, which left without having sent or taken a byte, at debug. `error` is a positive errno or
 * 0. */
void connection_log_closed(const struct connection_facts *facts, enum reason reason, int error,
                           bool is_probe);

/* A client that was accepted and not let in; of the facts its addresses, the listener and the service count,
 * and at a worker the id and the worker (0: it has come to none). `why` says more than the reason; NULL:
 * nothing does. At notice, whatever log.connections says. */
void connection_log_refused(const struct connection_facts *facts, enum reason reason, const char *why);

/* The first of a stretch of time in which new clients wait in the backlog (overload = "wait"). At notice. */
void connection_log_waiting(enum reason reason, uint64_t connections, size_t queued);

/* accept4(2) failed for a cause that is not a client's. At warning. */
void connection_log_accept_failed(const char *listener, int error);

/* One read or write of a listener with `trace`. At info. */
void connection_log_trace(const struct connection_facts *facts, bool is_read, const void *bytes,
                          size_t length);
