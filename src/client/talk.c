#include "base/cleanup.h"
#include "base/clock.h"
#include "client/conversation.h"
#include "client/dial.h"
#include "client/exit_status.h"
#include "client/modes.h"
#include "client/terminal.h"

#include <inttypes.h>

int talk_run(const struct client_options *options)
{
    CLEANUP(target_clear) struct target target = {0};
    CLEANUP(fd_close) int fd = -1;
    char peer[ENDPOINT_TEXT_SIZE];
    size_t chosen;

    int status = target_resolve(options->host, options->port, &target);
    if (status == 0)
        status = dial(&target, options->connect_timeout_usec, -1, &fd, &chosen);
    if (status != 0)
        return status;
    endpoint_format(&target.items[chosen], peer);
    if (options->verbose)
        complain("connected to %s", peer);
    const struct conversation_terms terms = {.peer = peer, .wait_usec = options->wait_usec};
    struct conversation_totals totals;
    status = converse(fd, &terms, &totals);
    if (options->verbose)
        complain("%" PRIu64 " bytes sent, %" PRIu64 " received", totals.sent, totals.received);
    return status;
}
