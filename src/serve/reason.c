#include "serve/reason.h"

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
    [REASON_QUEUE_FULL] = "queue_full",
    [REASON_MAX_CONNECTIONS] = "max_connections",
    [REASON_PER_SOURCE] = "per_source",
    [REASON_DENIED] = "denied",
    [REASON_DESCRIPTOR_LIMIT] = "descriptor_limit",
    [REASON_DRAINING] = "draining",
};

const char *reason_name(enum reason reason)
{
    return names[reason];
}
