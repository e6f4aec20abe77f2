/* --connect: a new connection each time, of which only the handshake is timed. It is closed at once: nothing
 * is sent, and the port may be of any service or of none. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/socket_option.h"
#include "client/ping/host.h"
#include "client/process/exit_status.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

/* At most so many wait for an answer: a silent port with the usual --wait is tried 500 times a second. */
#define MOST_UNANSWERED 1000

/* The side that closes first keeps its local port for a minute (TIME_WAIT), and there are about 28000. In
 * less time than this only one is closed in order; the others are reset. */
#define ORDERLY_USEC (5 * USEC_PER_MSEC)

struct handshake {
    int fd; /* -1: free */
    uint64_t number;
    uint64_t began_nsec;
};

struct handshakes {
    struct handshake items[MOST_UNANSWERED];
    size_t used; /* those after it are free */
    uint64_t begun, made, refused, silent, unreachable, not_sent;
    uint64_t own; /* of those not sent: this host was short of something */
    int own_error;
    bool is_short;         /* so was the latest */
    int failure;           /* the exit status of the latest that failed */
    bool failed_otherwise; /* and there were others */
    uint64_t orderly;      /* usec; when one was closed in order last */
    struct ping_times times, refusals;
};

static struct handshakes *of(const struct ping_host *host)
{
    return host->state;
}

static bool all_begun(const struct ping_host *host)
{
    const struct handshakes *mine = of(host);
    const struct client_options *options = host->run->options;
    if (options->count == 0)
        return false;
    return options->deadline_usec != USEC_NEVER ? mine->made >= options->count
                                                : mine->begun + mine->not_sent == options->count;
}

static struct handshake *find_free(struct handshakes *mine)
{
    for (size_t i = 0; i < MOST_UNANSWERED; i++)
        if (mine->items[i].fd < 0) {
            mine->used = i >= mine->used ? i + 1 : mine->used;
            return &mine->items[i];
        }
    return NULL;
}

static void trim(struct handshakes *mine)
{
    while (mine->used > 0 && mine->items[mine->used - 1].fd < 0)
        mine->used--;
}

static void close_handshake(struct handshakes *mine, struct handshake *handshake)
{
    uint64_t now = clock_monotonic_usec();
    if (now < mine->orderly + ORDERLY_USEC)
        socket_reset_on_close(handshake->fd);
    else
        mine->orderly = now;
    fd_close(&handshake->fd);
    trim(mine);
}

static void note_failure(struct handshakes *mine, int status)
{
    mine->failed_otherwise = mine->failed_otherwise || (mine->failure != 0 && mine->failure != status);
    mine->failure = status;
}

/* `error` is 0 when it has been made. */
static int settle(struct ping_host *host, struct handshake *handshake, int error)
{
    struct handshakes *mine = of(host);
    struct ping_line line = {.number = handshake->number,
                             .usec = (clock_monotonic_nsec() - handshake->began_nsec) / NSEC_PER_USEC,
                             .error = error};
    if (error == 0) {
        line.kind = PING_LINE_MADE;
        mine->made++;
        ping_times_add(&mine->times, line.usec);
    } else if (error == ECONNREFUSED || error == ECONNRESET) {
        line.kind = PING_LINE_REFUSED;
        mine->refused++;
        ping_times_add(&mine->refusals, line.usec);
    } else if (error == ETIMEDOUT) {
        line.kind = PING_LINE_SILENT;
        mine->silent++;
    } else {
        line.kind = PING_LINE_UNREACHABLE;
        mine->unreachable++;
    }
    if (error != 0)
        note_failure(mine, line.kind == PING_LINE_REFUSED ? EXIT_REFUSED : dial_exit_status(error));
    close_handshake(mine, handshake);
    return ping_tell(host, line);
}

static bool is_due(const struct ping_host *host, uint64_t now)
{
    bool is_flood = host->run->options->flood && host->run->options->interval_usec == USEC_NEVER;
    return now >= host->next || (is_flood && of(host)->used == 0 && !of(host)->is_short);
}

/* Without a descriptor or a local port of ours, nothing can be said about the server. */
static int fail_to_begin(struct ping_host *host, int error)
{
    struct handshakes *mine = of(host);
    mine->not_sent++;
    mine->own++;
    mine->own_error = error;
    mine->is_short = true;
    trim(mine);
    return ping_tell(host, (struct ping_line){.kind = PING_LINE_UNCONNECTED, .error = error});
}

static int begin_one(struct ping_host *host, uint64_t now)
{
    struct handshakes *mine = of(host);
    struct handshake *handshake = find_free(mine);
    if (now >= host->next)
        ping_schedule_next(host, now);
    else
        host->next = now + host->run->interval_usec;
    if (!handshake) {
        mine->not_sent++;
        return 0;
    }
    uint64_t began_nsec = clock_monotonic_nsec();
    int fd = dial_start(&host->endpoint, &host->run->session.source, 0);
    if (fd < 0 && dial_is_short(-fd))
        return fail_to_begin(host, -fd);
    mine->is_short = false;
    *handshake =
        (struct handshake){.fd = fd < 0 ? -1 : fd, .number = ++mine->begun, .began_nsec = began_nsec};
    ping_print_sent(&host->run->report);
    if (fd >= 0)
        return 0;
    return settle(host, handshake,
                  fd == -EAGAIN ? ETIMEDOUT : -fd); /* the backlog of a Unix socket is full */
}

static int advance(struct ping_host *host)
{
    struct handshakes *mine = of(host);
    uint64_t now = clock_monotonic_usec();
    int status = 0;
    for (size_t i = 0; i < mine->used && status == 0; i++) {
        struct handshake *handshake = &mine->items[i];
        uint64_t until = handshake->began_nsec / NSEC_PER_USEC + host->run->options->wait_usec;
        if (handshake->fd >= 0 && until <= host->looked)
            status = settle(host, handshake, ETIMEDOUT);
    }
    if (status == 0 && !all_begun(host) && is_due(host, now))
        status = begin_one(host, now);
    return status;
}

static size_t watch(const struct ping_host *host, struct pollfd *items)
{
    const struct handshakes *mine = of(host);
    for (size_t i = 0; i < mine->used; i++)
        items[i] = (struct pollfd){.fd = mine->items[i].fd, .events = POLLOUT};
    return mine->used;
}

static int look(struct ping_host *host, const struct pollfd *items)
{
    struct handshakes *mine = of(host);
    int status = 0;
    for (size_t i = mine->used; i-- > 0 && status == 0;)
        if (items[i].fd >= 0 && items[i].revents != 0)
            status = settle(host, &mine->items[i], -dial_result(mine->items[i].fd));
    return status;
}

static uint64_t next_deadline(const struct ping_host *host)
{
    const struct handshakes *mine = of(host);
    uint64_t deadline = all_begun(host) ? USEC_NEVER : host->next;
    for (size_t i = 0; i < mine->used; i++) {
        uint64_t until = mine->items[i].began_nsec / NSEC_PER_USEC + host->run->options->wait_usec;
        if (mine->items[i].fd >= 0 && until < deadline)
            deadline = until;
    }
    return deadline;
}

static bool is_over(const struct ping_host *host)
{
    return all_begun(host) && (of(host)->used == 0 || host->run->options->deadline_usec != USEC_NEVER);
}

static void count(const struct ping_host *host, struct ping_counts *out)
{
    const struct handshakes *mine = of(host);
    uint64_t failed = mine->refused + mine->silent + mine->unreachable;
    *out = (struct ping_counts){
        .sent = mine->begun,
        .received = mine->made,
        .lost = failed + mine->not_sent,
        .refused = mine->refused,
        .silent = mine->silent,
        .unreachable = mine->unreachable,
        .not_sent = mine->not_sent,
        .own = mine->own,
        .own_error = mine->own_error,
        .late = host->late,
        .pending = mine->begun - mine->made - failed,
        .failure = mine->made == 0 && !mine->failed_otherwise ? mine->failure : 0,
        .times = mine->times,
        .refusals = mine->refusals,
        .usec = clock_monotonic_usec() - host->start,
    };
}

static int begin(struct ping_host *host)
{
    struct handshakes *mine = calloc(1, sizeof *mine);
    host->state = mine;
    if (!mine)
        return session_fail("start", ENOMEM);
    for (size_t i = 0; i < MOST_UNANSWERED; i++)
        mine->items[i].fd = -1;
    host->endpoint = host->target.items[0];
    endpoint_format(&host->endpoint, host->peer);
    return 0;
}

static void print_start(const struct ping_host *host)
{
    const struct ping_report *report = &host->run->report;
    print_wrapped(report->out, terminal_width(&report->terminal), 0,
                  "PING %s (%s): a new connection each time", host->name, host->peer);
    fputc('\n', report->out);
}

static void end(struct ping_host *host)
{
    for (size_t i = 0; host->state && i < of(host)->used; i++)
        fd_close(&of(host)->items[i].fd);
    free(host->state);
}

const struct ping_kind ping_handshakes = {
    .items = MOST_UNANSWERED,
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
