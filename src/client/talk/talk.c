#include "client/talk/talk.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/modes.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/terminal.h"
#include "client/talk/conversation.h"

#include <inttypes.h>
#include <unistd.h>

static void print_summary(const struct conversation_totals *totals, uint64_t usec, bool checked)
{
    char time[DURATION_TEXT_SIZE], rate[SIZE_TEXT_SIZE];
    uint64_t a_second = (uint64_t)((double)totals->received * USEC_PER_SEC / (double)(usec > 0 ? usec : 1));
    print_error("%" PRIu64 " byte%s sent, %" PRIu64 " received%s in %s (%s/s)", totals->sent,
                plural(totals->sent), totals->received, checked ? ", every one right" : "",
                units_format_duration(usec, time), units_format_size(a_second, rate));
}

int talk_with_peer(const struct session *session)
{
    const struct client_options *options = session->options;
    const struct conversation_terms terms = {.peer = session->peer,
                                             .interrupt_fd = session->interrupt_fd,
                                             .output = &session->output,
                                             .expect = options->expect,
                                             .wait_usec = options->wait_usec,
                                             .is_peer = options->mode == MODE_CHAT,
                                             .no_half_close = options->no_half_close};
    struct conversation_totals totals;
    uint64_t start = clock_monotonic_usec();

    if (options->verbose)
        print_error("connected to %s%s%s", session->peer, session->tried[0] != '\0' ? "; also tried: " : "",
                    session->tried);
    int status = converse(session->fd, &terms, &totals);
    bool is_right = status == 0 || status == EXIT_INTERRUPTED;
    /* Not after the "^C" that a terminal shows. */
    if (status == EXIT_INTERRUPTED && isatty(STDERR_FILENO) == 1)
        fputc('\n', stderr);
    if (options->verbose || status == EXIT_INTERRUPTED)
        print_summary(&totals,
                      (totals.received_usec > 0 ? totals.received_usec : clock_monotonic_usec()) - start,
                      is_right && options->expect != EXPECT_ANYTHING);
    if (status == EXIT_INTERRUPTED)
        interrupt_die();
    return status;
}

int talk_run(const struct client_options *options)
{
    CLEANUP(session_close) struct session session;
    int status = session_connect(&session, options);
    return status == 0 ? talk_with_peer(&session) : status;
}
