/* Why a connection closed, or was not let in: one word, the same in the log, the journal's fields and the
 * counters. */
#pragma once

#include <stdbool.h>

enum reason {
    REASON_NONE, /* it goes on */

    REASON_CLIENT_CLOSED,
    REASON_END_WORD,
    REASON_SERVED,
    REASON_IDLE_TIMEOUT,
    REASON_WRITE_TIMEOUT,
    REASON_RESET,
    REASON_DRAINED,
    REASON_ERROR,
    REASON_FAULT,       /* one that the listener is set to have */
    REASON_NOT_RESUMED, /* after a restart: how far it had come could not be read */

    REASON_QUEUE_FULL, /* from here on: refused */
    REASON_MAX_CONNECTIONS,
    REASON_PER_SOURCE,
    REASON_DENIED,
    REASON_DESCRIPTOR_LIMIT,
    REASON_DRAINING,
    REASON_BAD_PROXY_HEADER,

    REASON_COUNT,
};

/* It keeps a client out, who was never served. */
static inline bool reason_refuses(enum reason reason)
{
    return reason >= REASON_QUEUE_FULL;
}

/* "client_closed" and so on. */
const char *reason_name(enum reason reason);

/* REASON_COUNT: there is none of that name. */
enum reason reason_find(const char *name);
