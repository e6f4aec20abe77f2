/* Messages over one connection to a host, which is dialled again when it breaks. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/net/opening.h"
#include "client/ping/host.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

struct messages {
    struct ping_stream stream;
    struct ping_times times;
    int fd; /* the connection; -1: none */
    bool is_connecting;
    struct opening_progress progress; /* connecting */
    uint64_t connect_nsec;            /* how long the first took */
    uint64_t dialled;                 /* usec; when a further one was begun */
    uint64_t noted;   /* up to this message it has been said that no answer has come in time */
    uint8_t *message; /* the one that is being sent */
    size_t unsent;    /* of it */
    uint64_t dropped; /* due, but given up before it was sent */
    uint64_t own;     /* of these: this host was short of something */
    int own_error;
    uint64_t broken, reconnected, unconnected;
    bool half_closed;
    uint64_t deadline; /* of the other side's end, once we have half-closed */
    bool ended;        /* the other side has closed after us */
};

static struct messages *of(const struct ping_host *host)
{
    return host->state;
}

static const struct client_options *options_of(const struct ping_host *host)
{
    return host->run->options;
}

/* The last message may still be leaving. With --deadline the answers count, as in ping(8). */
static bool all_begun(const struct ping_host *host)
{
    const struct messages *mine = of(host);
    const struct client_options *options = options_of(host);
    if (options->count == 0)
        return false;
    return options->deadline_usec != USEC_NEVER ? mine->stream.answered >= options->count
                                                : mine->stream.sent + mine->dropped == options->count;
}

/* ---- the connection ---- */

static int report_events(struct ping_host *host, bool ended);

/* What it has still brought is looked at, what it has not is lost, and the next message that is due makes
 * another connection. `error` is 0 for a plain end. */
static int lose_connection(struct ping_host *host, int error)
{
    struct messages *mine = of(host);
    int status = report_events(host, true);
    fd_close(&mine->fd);
    mine->unsent = 0;
    mine->broken++;
    ping_stream_restart(&mine->stream);
    mine->noted = mine->stream.sent;
    return status == 0 ? ping_tell(host, (struct ping_line){.kind = PING_LINE_BROKEN, .error = error})
                       : status;
}

static int fail_to_connect(struct ping_host *host, int error)
{
    struct messages *mine = of(host);
    fd_close(&mine->fd);
    mine->is_connecting = false;
    mine->unconnected++;
    mine->dropped++;
    if (dial_is_short(error)) {
        mine->own++;
        mine->own_error = error;
    }
    ping_schedule_next(host, clock_monotonic_usec());
    return ping_tell(host, (struct ping_line){.kind = PING_LINE_UNCONNECTED,
                                              .error = error,
                                              .text = mine->progress.has_ended ? OPENING_ENDED : NULL});
}

static int dial_again(struct ping_host *host)
{
    struct messages *mine = of(host);
    mine->progress = (struct opening_progress){0};
    int fd = dial_start(&host->endpoint, &host->run->session.source, 0);
    if (fd < 0)
        return fail_to_connect(host, -fd);
    mine->fd = fd;
    mine->is_connecting = true;
    mine->dialled = clock_monotonic_usec();
    return 0;
}

static int finish_dialling(struct ping_host *host)
{
    struct messages *mine = of(host);
    int r = opening_go_on(&host->run->session.source.opening, &mine->progress, mine->fd);
    if (r == -EAGAIN)
        return 0;
    if (r < 0)
        return fail_to_connect(host, -r);
    mine->is_connecting = false;
    mine->reconnected++;
    return ping_tell(host, (struct ping_line){.kind = PING_LINE_RECONNECTED,
                                              .usec = clock_monotonic_usec() - mine->dialled});
}

/* ---- to send ---- */

static int send_rest(struct ping_host *host)
{
    struct messages *mine = of(host);
    const uint8_t *from = mine->message + mine->stream.size - mine->unsent;
    ssize_t n = send(mine->fd, from, mine->unsent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : lose_connection(host, errno);
    mine->unsent -= (size_t)n;
    return 0;
}

/* The other side takes nothing, so there is no room for what is due. It has as long as an answer has. */
static void drop_due(struct ping_host *host, uint64_t now)
{
    while (!all_begun(host) && host->next + options_of(host)->wait_usec <= now) {
        host->next += host->run->interval_usec;
        of(host)->dropped++;
    }
}

/* A flood does not wait for its interval when it has the answer. */
static bool is_due(const struct ping_host *host, uint64_t now)
{
    bool is_flood = options_of(host)->flood && options_of(host)->interval_usec == USEC_NEVER;
    return now >= host->next || (is_flood && ping_stream_waiting(&of(host)->stream) == 0);
}

static int send_due(struct ping_host *host)
{
    struct messages *mine = of(host);
    uint64_t now = clock_monotonic_usec();
    if (mine->fd < 0 && !all_begun(host) && now >= host->next) {
        int status = dial_again(host);
        if (status != 0)
            return status;
    }
    if (mine->is_connecting || mine->unsent > 0)
        drop_due(host, now);
    if (mine->fd < 0 || mine->is_connecting || mine->unsent > 0 || all_begun(host) || !is_due(host, now))
        return 0;
    if (now >= host->next)
        ping_schedule_next(host, now);
    else
        host->next = now + host->run->interval_usec;
    ping_stream_send(&mine->stream, now, mine->message);
    mine->unsent = mine->stream.size;
    ping_print_sent(&host->run->report);
    return send_rest(host);
}

/* ---- to receive ---- */

static_assert((int)PING_LINE_REPLY == (int)PING_REPLY && (int)PING_LINE_DUPLICATE == (int)PING_DUPLICATE &&
                  (int)PING_LINE_CORRUPT == (int)PING_CORRUPT &&
                  (int)PING_LINE_TOO_LATE == (int)PING_TOO_LATE,
              "the lines of answers are the events of the stream");

/* Until the user has had enough: of many small answers at once, each is a line, and stdout may be slow. */
static int report_events(struct ping_host *host, bool ended)
{
    struct messages *mine = of(host);
    uint64_t now = clock_monotonic_usec();
    struct ping_event event;
    int status = 0;
    while (status == 0 && interrupt_number() == 0 && ping_stream_next(&mine->stream, ended, &event)) {
        uint64_t usec = now - event.sent_usec;
        if (event.kind == PING_REPLY)
            ping_times_add(&mine->times, usec);
        status = ping_tell(host, (struct ping_line){.kind = (enum ping_line_kind)event.kind,
                                                    .number = event.number,
                                                    .usec = usec,
                                                    .fault = &event.fault});
    }
    if (interrupt_number() != 0) /* and what is left of them stays */
        host->run->interrupted = true;
    return status;
}

static int receive(struct ping_host *host)
{
    struct messages *mine = of(host);
    size_t room;
    uint8_t *space = ping_stream_space(&mine->stream, &room);
    ssize_t n = recv(mine->fd, space, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0 || (n == 0 && !mine->half_closed))
        return lose_connection(host, n < 0 ? errno : 0);
    mine->ended = n == 0;
    ping_stream_received(&mine->stream, (size_t)n);
    return report_events(host, mine->ended);
}

/* Says of each message once that its answer has not come in time. It may still come. */
static int note_late(struct ping_host *host)
{
    struct messages *mine = of(host);
    int status = 0;
    while (status == 0 && mine->noted < mine->stream.sent) {
        const struct ping_message *message = ping_stream_message(&mine->stream, mine->noted + 1);
        if (message && message->state == PING_WAITING &&
            message->sent_usec + options_of(host)->wait_usec > host->looked)
            break;
        mine->noted++;
        if (message && message->state == PING_WAITING)
            status = ping_tell(host, (struct ping_line){.kind = PING_LINE_SILENT, .number = mine->noted});
    }
    return status;
}

/* After the last answer the end is waited for as well: what comes before it came twice. */
static int half_close(struct ping_host *host)
{
    struct messages *mine = of(host);
    if (mine->fd < 0 || mine->is_connecting || mine->half_closed || mine->ended || !all_begun(host) ||
        mine->unsent > 0 || ping_stream_waiting(&mine->stream) > 0)
        return 0;
    int r = dial_half_close(mine->fd);
    if (r < 0)
        return lose_connection(host, -r);
    mine->half_closed = true;
    mine->deadline = clock_monotonic_usec() + options_of(host)->wait_usec;
    return 0;
}

/* ---- the kind ---- */

static int advance(struct ping_host *host)
{
    int status = note_late(host);
    if (status == 0)
        status = half_close(host);
    return status == 0 ? send_due(host) : status;
}

static size_t watch(const struct ping_host *host, struct pollfd *items)
{
    const struct messages *mine = of(host);
    bool is_dialling = mine->is_connecting && !mine->progress.is_connected;
    short sending = is_dialling || mine->unsent > 0 ? POLLOUT : 0;
    short receiving = is_dialling ? 0 : POLLIN;
    items[0] = (struct pollfd){.fd = mine->fd, .events = (short)(sending | receiving)};
    return 1;
}

static int look(struct ping_host *host, const struct pollfd *items)
{
    struct messages *mine = of(host);
    uint64_t limit = mine->dialled + options_of(host)->connect_timeout_usec;
    if (mine->is_connecting && items[0].revents == 0)
        return host->looked >= limit ? fail_to_connect(host, ETIMEDOUT) : 0;
    if (mine->is_connecting)
        return finish_dialling(host);
    int status = 0;
    if (items[0].revents & POLLOUT && mine->unsent > 0)
        status = send_rest(host);
    if (status == 0 && mine->fd >= 0 && items[0].revents & (POLLIN | POLLERR | POLLHUP))
        status = receive(host);
    return status;
}

/* When to look again although nothing has come: the next message is due, or an answer late. */
static uint64_t next_deadline(const struct ping_host *host)
{
    const struct messages *mine = of(host);
    uint64_t wait = options_of(host)->wait_usec;
    bool is_held = mine->unsent > 0 || mine->is_connecting;
    uint64_t deadline = mine->half_closed ? mine->deadline
                        : all_begun(host) ? USEC_NEVER
                        : is_held         ? host->next + wait
                                          : host->next;
    const struct ping_message *oldest = ping_stream_message(&mine->stream, mine->noted + 1);
    uint64_t dialling = mine->dialled + options_of(host)->connect_timeout_usec;
    if (mine->is_connecting && dialling < deadline)
        deadline = dialling;
    if (oldest && oldest->sent_usec + wait < deadline)
        deadline = oldest->sent_usec + wait;
    return deadline;
}

static bool is_over(const struct ping_host *host)
{
    const struct messages *mine = of(host);
    if (mine->ended)
        return true;
    if (mine->half_closed && mine->fd >= 0)
        return host->looked >= mine->deadline;
    return all_begun(host) && (mine->noted == mine->stream.sent || mine->fd < 0);
}

/* Messages whose answers were not late yet when the user had enough. */
static uint64_t count_pending(const struct ping_host *host)
{
    const struct messages *mine = of(host);
    uint64_t pending = 0;
    for (uint64_t i = mine->noted + 1; i <= mine->stream.sent; i++) {
        const struct ping_message *message = ping_stream_message(&mine->stream, i);
        pending += message && message->state == PING_WAITING;
    }
    return pending;
}

static void count(const struct ping_host *host, struct ping_counts *out)
{
    const struct messages *mine = of(host);
    const struct ping_stream *stream = &mine->stream;
    uint64_t pending = count_pending(host);
    *out = (struct ping_counts){
        .sent = stream->sent,
        .received = stream->answered,
        .lost = stream->sent - stream->answered - pending + mine->dropped,
        .duplicates = stream->duplicates,
        .corrupted = stream->corrupted,
        .too_late = stream->too_late,
        .not_sent = mine->dropped,
        .own = mine->own,
        .own_error = mine->own_error,
        .late = host->late,
        .pending = pending,
        .broken = mine->broken,
        .reconnected = mine->reconnected,
        .unconnected = mine->unconnected,
        .times = mine->times,
        .usec = clock_monotonic_usec() - host->start,
    };
}

static int begin(struct ping_host *host)
{
    const struct client_options *options = options_of(host);
    struct dialled dialled;
    uint64_t run;
    struct messages *mine = calloc(1, sizeof *mine);
    host->state = mine;
    if (!mine)
        return session_fail("start", ENOMEM);
    mine->fd = -1;
    if (getrandom(&run, sizeof run, GRND_NONBLOCK) != (ssize_t)sizeof run)
        run = clock_monotonic_usec(); /* only a little more alike than they should be */
    mine->message = malloc(options->size);
    if (!mine->message || ping_stream_init(&mine->stream, options->size, options->expect, run) < 0)
        return session_fail("start", ENOMEM);
    int status =
        dial(&host->target, options->connect_timeout_usec, host->run->session.interrupt_fd, &dialled);
    if (status != 0)
        return status;
    host->is_up = true;
    mine->fd = dialled.fd;
    mine->connect_nsec = dialled.nsec;
    memcpy(host->tried, dialled.tried, sizeof host->tried);
    host->endpoint = host->target.items[dialled.chosen];
    endpoint_format(&host->endpoint, host->peer);
    return 0;
}

static void print_start(const struct ping_host *host)
{
    char time[PING_TIME_TEXT_SIZE];
    const struct ping_report *report = &host->run->report;
    print_wrapped(report->out, terminal_width(&report->terminal), 0,
                  "PING %s (%s): %" PRIu64 " bytes a message, connected in %s" NO_BREAK "ms", host->name,
                  host->peer, options_of(host)->size,
                  ping_format_time(of(host)->connect_nsec / NSEC_PER_USEC, time));
    fputc('\n', report->out);
    print_tried(report->out, host->tried);
}

static void end(struct ping_host *host)
{
    struct messages *mine = of(host);
    if (!mine)
        return;
    fd_close(&mine->fd);
    ping_stream_deinit(&mine->stream);
    free(mine->message);
    free(mine);
}

const struct ping_kind ping_messages = {
    .items = 1,
    .begin = begin,
    .print_start = print_start,
    .advance = advance,
    .watch = watch,
    .look = look,
    .deadline = next_deadline,
    .is_over = is_over,
    .count = count,
    .end = end,
};
