#include "serve/reason.h"

#include <string.h>

static const char *const names[REASON_COUNT] = {
    [REASON_NONE] = "none",
    [REASON_CLIENT_CLOSED] = "client_closed",
    [REASON_END_WORD] = "end_word",
    [REASON_SERVED] = "served",
    [REASON_IDLE_TIMEOUT] = "idle_timeout",
    [REASON_WRITE_TIMEOUT] = "write_timeout",
    [REASON_RESET] = "reset",
    [REASON_DRAINED] = "drained",
    [REASON_ERROR] = "error",
    [REASON_FAULT] = "fault",
    [REASON_NOT_RESUMED] = "not_resumed",
    [REASON_QUEUE_FULL] = "queue_full",
    [REASON_MAX_CONNECTIONS] = "max_connections",
    [REASON_PER_SOURCE] = "per_source",
    [REASON_DENIED] = "denied",
    [REASON_DESCRIPTOR_LIMIT] = "descriptor_limit",
    [REASON_DRAINING] = "draining",
    [REASON_BAD_PROXY_HEADER] = "bad_proxy_header",
};

enum reason reason_find(const char *name)
{
    enum reason reason = REASON_NONE;
    while (reason < REASON_COUNT && strcmp(names[reason], name) != 0)
        reason++;
    return reason;
}

const char *reason_name(enum reason reason)
{
    return names[reason];
}
