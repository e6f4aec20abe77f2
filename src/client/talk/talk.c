#include "client/talk/talk.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/modes.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/json_document.h"
#include "client/report/terminal.h"
#include "client/talk/conversation.h"

#include <inttypes.h>
#include <unistd.h>

static void print_summary(const struct conversation_totals *totals, uint64_t usec, bool checked)
{
    char time[DURATION_TEXT_SIZE], rate[SIZE_TEXT_SIZE];
    uint64_t a_second = (uint64_t)((double)totals->received * USEC_PER_SEC / (double)(usec > 0 ? usec : 1));
    print_error("%" PRIu64 " byte%s sent, %" PRIu64 " received%s", totals->sent, plural(totals->sent),
                totals->received, checked ? ", every one right" : "");
    print_error("%s, %s/s received", units_format_duration(usec, time), units_format_size(a_second, rate));
}

/* With --json nothing but JSON goes to stderr: what would be told there is a text of the summary. */
static char message[HELD_ERROR_SIZE];

void talk_begin(const struct client_options *options)
{
    if (options->json)
        print_error_hold(message);
}

static void print_json(const struct session *session, const struct conversation_totals *totals, uint64_t usec,
                       int status)
{
    const struct client_options *options = session->options;
    const char *host = options->listen ? options->listen : options->host;
    struct json json = {.out = stderr, .one_line = true};
    double seconds = (double)usec / (double)USEC_PER_SEC;
    json_open_report(&json, options->listen ? "listen" : "talk",
                     session->peer[0] != '\0' ? session->peer : host, session->tried);
    json_text(&json, "event", "summary");
    json_number(&json, "elapsed_s", seconds);
    json_bool(&json, "interrupted", status == EXIT_INTERRUPTED);
    json_count(&json, "bytes_sent", totals->sent);
    json_count(&json, "bytes_received", totals->received);
    json_number(&json, "bytes_per_second", seconds > 0 ? (double)totals->received / seconds : 0);
    json_bool(&json, "checked", options->expect != EXPECT_ANYTHING);
    if (message[0] != '\0')
        json_text(&json, "message", message);
    if (status != EXIT_INTERRUPTED) /* then it ends by the signal */
        json_count(&json, "exit_status", (uint64_t)status);
    json_bool(&json, "clean", status == 0);
    json_close(&json, '}');
    fputc('\n', stderr);
}

int talk_fail(const struct session *session, int status)
{
    const struct conversation_totals none = {0};
    if (session->options->json)
        print_json(session, &none, 0, status);
    return status;
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
                                             .no_half_close = options->no_half_close,
                                             .crlf = options->crlf,
                                             .hex = options->hex};
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
    uint64_t usec = (totals.received_usec > 0 ? totals.received_usec : clock_monotonic_usec()) - start;
    if (options->json)
        print_json(session, &totals, usec, status);
    else if (options->verbose || status == EXIT_INTERRUPTED)
        print_summary(&totals, usec, is_right && options->expect != EXPECT_ANYTHING && totals.received > 0);
    if (status == EXIT_INTERRUPTED)
        interrupt_die();
    return status;
}

int talk_run(const struct client_options *options)
{
    CLEANUP(session_close) struct session session;
    talk_begin(options);
    int status = session_connect(&session, options);
    return status == 0 ? talk_with_peer(&session) : talk_fail(&session, status);
}
