#include "client/talk/talk.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/talk/conversation.h"
#include "client/net/dial.h"
#include "client/exit_status.h"
#include "client/interrupt.h"
#include "client/modes.h"
#include "client/report/terminal.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static void print_summary(const struct conversation_totals *totals, uint64_t usec, bool checked)
{
    char time[DURATION_TEXT_SIZE], rate[SIZE_TEXT_SIZE];
    uint64_t a_second = (uint64_t)((double)totals->received * USEC_PER_SEC / (double)(usec > 0 ? usec : 1));

    complain("%" PRIu64 " byte%s sent, %" PRIu64 " received%s in %s (%s/s)", totals->sent,
             plural(totals->sent), totals->received, checked ? ", every one right" : "",
             units_format_duration(usec, time), units_format_size(a_second, rate));
}

int talk_with(int fd, const char *peer, int interrupt_fd, const struct client_options *options)
{
    const struct conversation_terms terms = {.peer = peer,
                                             .interrupt_fd = interrupt_fd,
                                             .expect = options->expect,
                                             .wait_usec = options->wait_usec,
                                             .is_peer = options->mode == MODE_CHAT,
                                             .no_half_close = options->no_half_close};
    struct conversation_totals totals;
    uint64_t start = clock_monotonic_usec();

    if (options->verbose)
        complain("connected to %s", peer);
    int status = converse(fd, &terms, &totals);
    bool is_right = status == 0 || status == EXIT_INTERRUPTED;
    /* Not behind the "^C" that a terminal shows. */
    if (status == EXIT_INTERRUPTED && isatty(STDERR_FILENO) == 1)
        (void)fputc('\n', stderr);
    if (options->verbose || status == EXIT_INTERRUPTED)
        print_summary(&totals,
                      (totals.received_usec > 0 ? totals.received_usec : clock_monotonic_usec()) - start,
                      is_right && options->expect != EXPECT_ANYTHING);
    if (status == EXIT_INTERRUPTED)
        interrupt_die_of(interrupt_fd);
    return status;
}

int talk_run(const struct client_options *options)
{
    CLEANUP(target_clear) struct target target = {0};
    struct dialled dialled;
    char peer[ENDPOINT_TEXT_SIZE];

    int status = target_resolve(options->host, options->port, &target);
    if (status != 0)
        return status;
    CLEANUP(fd_close) int interrupt_fd = interrupt_open();
    if (interrupt_fd < 0) {
        complain("cannot wait for signals: %s", strerror(-interrupt_fd));
        return EXIT_SYSTEM;
    }
    status = dial(&target, options->connect_timeout_usec, interrupt_fd, &dialled);
    if (status == EXIT_INTERRUPTED)
        interrupt_die_of(interrupt_fd);
    if (status != 0)
        return status;
    CLEANUP(fd_close) int fd = dialled.fd;
    return talk_with(fd, endpoint_format(&target.items[dialled.chosen], peer), interrupt_fd, options);
}
