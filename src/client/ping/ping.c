#include "base/cleanup.h"
#include "base/clock.h"
#include "base/escape.h"
#include "client/modes.h"
#include "client/ping/report.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/session.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

struct ping {
    const struct client_options *options;
    struct session session;
    struct terminal terminal;    /* stdout */
    char host[TARGET_TEXT_SIZE]; /* as it can be shown */

    struct ping_stream stream;
    struct ping_times times;
    uint64_t start, next; /* when the ping began, and when the next message is due */
    uint64_t looked;      /* usec; what had come by then has been read */
    uint64_t noted;       /* up to this message it has been said that no answer has come in time */
    uint8_t *message;     /* the one that is being sent */
    size_t unsent;        /* of it */
    uint64_t dropped;     /* due, but the one before did not leave in time */

    bool half_closed, interrupted;
    uint64_t deadline; /* of the other side's end, once we have half-closed */
    bool ended;        /* the other side has closed */
    bool reader_gone;  /* nobody reads stdout any more */
};

/* What has been printed is to be seen now, also through a pipe. */
static int show(struct ping *ping)
{
    int r = output_finish(&ping->session.output);
    ping->reader_gone = r == -EPIPE;
    return output_exit_status(r);
}

static int fail_connection(const struct ping *ping, int error)
{
    print_error("%s closed the connection: %s", ping->session.peer, strerror(error));
    return dial_exit_status(error);
}

/* The last message may still be leaving. */
static bool all_begun(const struct ping *ping)
{
    return ping->options->count > 0 && ping->stream.sent + ping->dropped == ping->options->count;
}

static int send_rest(struct ping *ping)
{
    const uint8_t *from = ping->message + ping->options->size - ping->unsent;
    ssize_t n = send(ping->session.fd, from, ping->unsent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail_connection(ping, errno);
    ping->unsent -= (size_t)n;
    return 0;
}

/* The other side takes nothing, so there is no room for what is due. It has as long as an answer has. */
static void drop_due(struct ping *ping, uint64_t now)
{
    while (!all_begun(ping) && ping->next + ping->options->wait_usec <= now) {
        ping->next += ping->options->interval_usec;
        ping->dropped++;
    }
}

/* The schedule is kept: a late message does not make the next one late. */
static int send_due(struct ping *ping)
{
    uint64_t now = clock_monotonic_usec();
    if (ping->unsent > 0)
        drop_due(ping, now);
    if (ping->unsent > 0 || all_begun(ping) || now < ping->next)
        return 0;
    ping->next += ping->options->interval_usec;
    if (ping->next <= now)
        ping->next = now + ping->options->interval_usec;
    ping_stream_send(&ping->stream, now, ping->message);
    ping->unsent = ping->options->size;
    return send_rest(ping);
}

/* Until the user has had enough: of many small answers at once, each is a line, and stdout may be slow. */
static int report_events(struct ping *ping)
{
    uint64_t now = clock_monotonic_usec();
    struct ping_event event;
    bool is_enough = false;
    int status = 0;
    for (; status == 0 && !is_enough && ping_stream_next(&ping->stream, ping->ended, &event);
         is_enough = interrupt_number() != 0) {
        uint64_t usec = now - event.sent_usec;
        if (event.kind == PING_REPLY)
            ping_times_add(&ping->times, usec);
        if (ping->options->quiet)
            continue;
        ping_print_event(ping->session.output.stream, &ping->terminal, &event, ping->session.peer,
                         ping->options->size, usec);
        status = show(ping);
    }
    ping->interrupted = ping->interrupted || is_enough;
    return status;
}

static int receive(struct ping *ping)
{
    size_t room;
    uint8_t *space = ping_stream_space(&ping->stream, &room);
    ssize_t n = recv(ping->session.fd, space, room, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail_connection(ping, errno);
    ping->ended = n == 0;
    ping_stream_received(&ping->stream, (size_t)n);
    int status = report_events(ping);
    if (status == 0 && ping->ended && !ping->half_closed) {
        print_error("%s closed the connection", ping->session.peer);
        return EXIT_CLOSED_EARLY;
    }
    return status;
}

/* Says of each message once that its answer has not come in time. It may still come. */
static int note_late(struct ping *ping)
{
    int status = 0;
    while (status == 0 && ping->noted < ping->stream.sent) {
        const struct ping_message *message = ping_stream_message(&ping->stream, ping->noted + 1);
        if (message && message->state == PING_WAITING &&
            message->sent_usec + ping->options->wait_usec > ping->looked)
            break;
        ping->noted++;
        if (!message || message->state != PING_WAITING || ping->options->quiet)
            continue;
        fprintf(ping->session.output.stream, "%sno answer from %s: seq=%" PRIu64 "%s\n",
                terminal_colour(&ping->terminal, COLOUR_BAD), ping->session.peer, ping->noted,
                terminal_colour(&ping->terminal, COLOUR_OFF));
        status = show(ping);
    }
    return status;
}

/* After the last answer the end is waited for as well: what comes before it came twice. */
static int half_close(struct ping *ping)
{
    if (ping->half_closed || !all_begun(ping) || ping->unsent > 0 || ping_stream_waiting(&ping->stream) > 0)
        return 0;
    int r = dial_half_close(ping->session.fd);
    if (r < 0)
        return fail_connection(ping, -r);
    ping->half_closed = true;
    ping->deadline = clock_monotonic_usec() + ping->options->wait_usec;
    return 0;
}

static bool is_over(const struct ping *ping)
{
    if (ping->interrupted || ping->reader_gone || ping->ended)
        return true;
    if (ping->half_closed)
        return ping->looked >= ping->deadline;
    return all_begun(ping) && ping->noted == ping->stream.sent;
}

/* When to look again although nothing has come: the next message is due, or an answer late. */
static uint64_t next_deadline(const struct ping *ping)
{
    uint64_t deadline = ping->half_closed  ? ping->deadline
                        : all_begun(ping)  ? USEC_NEVER
                        : ping->unsent > 0 ? ping->next + ping->options->wait_usec
                                           : ping->next;
    const struct ping_message *oldest = ping_stream_message(&ping->stream, ping->noted + 1);

    if (oldest && oldest->sent_usec + ping->options->wait_usec < deadline)
        deadline = oldest->sent_usec + ping->options->wait_usec;
    return deadline;
}

static int wait_for_events(struct ping *ping)
{
    short interest = (short)(POLLIN | (ping->unsent > 0 ? POLLOUT : 0));
    struct pollfd items[] = {{.fd = ping->session.fd, .events = interest},
                             {.fd = ping->session.interrupt_fd, .events = POLLIN}};
    uint64_t deadline = next_deadline(ping), now = clock_monotonic_usec();
    struct timespec timeout = clock_timespec(now < deadline ? deadline - now : 0);
    int count = ppoll(items, 2, deadline == USEC_NEVER ? NULL : &timeout, NULL);

    if (count < 0 && errno != EINTR)
        return session_fail("wait for an answer", errno);
    /* Interrupted is what a stopped process wakes up, signal(7): then nothing was looked at. */
    if (count >= 0)
        ping->looked = now;
    if (count <= 0)
        return 0;
    ping->interrupted = items[1].revents != 0;
    if (items[0].revents & POLLOUT && ping->unsent > 0) {
        int status = send_rest(ping);
        if (status != 0)
            return status;
    }
    return items[0].revents & (POLLIN | POLLERR | POLLHUP) ? receive(ping) : 0;
}

static int exchange(struct ping *ping)
{
    int status = 0;
    ping->start = ping->next = clock_monotonic_usec();
    while (status == 0 && !is_over(ping)) {
        status = send_due(ping);
        if (status == 0 && !is_over(ping)) /* the last message may have been given up */
            status = wait_for_events(ping);
        if (status == 0)
            status = note_late(ping);
        if (status == 0 && !ping->ended)
            status = half_close(ping);
    }
    return status;
}

/* Messages whose answers were not late yet when the user had enough. */
static uint64_t count_pending(const struct ping *ping)
{
    uint64_t pending = 0;
    for (uint64_t i = ping->noted + 1; ping->interrupted && i <= ping->stream.sent; i++) {
        const struct ping_message *message = ping_stream_message(&ping->stream, i);
        pending += message && message->state == PING_WAITING;
    }
    return pending;
}

/* Also after a failure, but of stdout: what was measured until then is not lost. */
static int sum_up(struct ping *ping, int status)
{
    const struct ping_stream *stream = &ping->stream;
    uint64_t pending = count_pending(ping);
    if (ping->session.output.error == 0) {
        const struct ping_summary summary = {
            .host = ping->host,
            .stream = stream,
            .times = &ping->times,
            .pending = pending,
            .dropped = ping->dropped,
            .usec = clock_monotonic_usec() - ping->start,
        };
        ping_print_summary(ping->session.output.stream, &summary);
        int shown = show(ping);
        status = status == 0 ? shown : status;
    }
    if (status != 0 || ping->reader_gone)
        return status;
    bool is_right = ping_stream_waiting(stream) == pending && ping->dropped == 0 && stream->corrupted == 0 &&
                    stream->duplicates == 0 && stream->too_late == 0;
    return is_right && stream->answered > 0 ? EXIT_SUCCESS : EXIT_WRONG_ANSWER;
}

static int prepare(struct ping *ping)
{
    const struct client_options *options = ping->options;
    uint64_t run;
    if (getrandom(&run, sizeof run, GRND_NONBLOCK) != (ssize_t)sizeof run)
        run = clock_monotonic_usec(); /* only a little more alike than they should be */
    terminal_init(&ping->terminal, STDOUT_FILENO);
    escape_controls(options->host, ping->host, sizeof ping->host);
    ping->message = malloc(options->size);
    if (ping->message && ping_stream_init(&ping->stream, options->size, options->expect, run) == 0)
        return 0;
    return session_fail("start", ENOMEM);
}

static void ping_clear(struct ping *ping)
{
    session_close(&ping->session);
    ping_stream_deinit(&ping->stream);
    free(ping->message);
}

int ping_run(const struct client_options *options)
{
    CLEANUP(ping_clear) struct ping ping = {.options = options};
    char time[PING_TIME_TEXT_SIZE];
    int status = session_connect(&ping.session, options);
    if (status == 0)
        status = prepare(&ping);
    if (status != 0)
        return status;
    fprintf(ping.session.output.stream, "PING %s (%s): %" PRIu64 " bytes a message, connected in %s ms\n",
            ping.host, ping.session.peer, options->size,
            ping_format_time(ping.session.connect_nsec / NSEC_PER_USEC, time));
    print_tried(ping.session.output.stream, ping.session.tried);
    status = show(&ping);
    if (status == 0 && !ping.reader_gone)
        status = exchange(&ping);
    return sum_up(&ping, status);
}
