#include "client/talk/conversation.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/net/dial.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"
#include "client/talk/hex.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of each direction. Larger ones are no faster: they do not fit beside each other into a CPU's cache. */
#define BUFFER_SIZE (128U << 10)

/* How long to see to it that the other side has taken the last bytes before it is left. */
#define ACKNOWLEDGE_USEC USEC_PER_SEC
#define ACKNOWLEDGE_STEP_MSEC 2

/* How long to wait, after the first wrong byte, for those that say what happened to it, however many come. */
#define EVIDENCE_USEC (USEC_PER_SEC / 2)

/* A server whose answer is not as long as what it got may be about to say more, and something on the way to
 * it may take a half-close for the end of all: so long may it be silent before ours. */
#define HOLD_USEC (USEC_PER_SEC / 2)

/* And however much it says: a server may talk on until it sees our end. */
#define HOLD_MOST_USEC (5 * USEC_PER_SEC)

/* The same under --no-half-close where only silence tells that an answer is whole. */
#define HOLD_ON_REQUEST_USEC (5 * USEC_PER_SEC)

#define WHY_SIZE 512

/* So much of what came is as much as a buffer when it is shown: 16 bytes are a line. */
#define HEX_PART ((size_t)16 << 10)
static_assert(HEX_PART / 16 * HEX_LINE_SIZE <= BUFFER_SIZE, "what is shown of it fits");

struct flow {
    uint8_t *bytes;
    size_t start, end; /* what is between has come in and not yet gone out */
    bool ended;        /* nothing more comes in */
};

struct conversation {
    const struct conversation_terms *terms;
    struct conversation_totals *totals;
    int fd;
    struct flow up, down;
    uint8_t *raw;  /* what was read, where it is sent or shown as something else; NULL: it is not */
    bool after_cr; /* the last byte of stdin was a CR */
    struct answer_check *check; /* NULL: anything is right */
    bool at_terminal;           /* stdin is one */
    bool half_closed;           /* we have sent our FIN */
    bool ended_after_ours;      /* and then the other side has ended */
    bool hung_up;      /* a Unix socket whose other side is closed: poll(2) says so again and again */
    uint64_t said_all; /* when our half-close was first held back; 0: not yet */
    uint64_t heard;    /* when the other side was last heard, or its turn began */
    uint64_t evidence_deadline; /* USEC_NEVER: nothing is wrong so far */
    char why[WHY_SIZE];         /* of an exit status; told once it is known that nothing says more */
};

static bool is_empty(const struct flow *flow)
{
    return flow->start == flow->end;
}

/* EAGAIN: others share our stdin or stdout and want it not to block. */
static bool is_temporary(int error)
{
    return error == EAGAIN || error == EINTR;
}

static int __attribute__((format(printf, 3, 4))) fail(struct conversation *c, int status, const char *format,
                                                      ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->why, sizeof c->why, format, arguments);
    va_end(arguments);
    return status;
}

#define ADVICE "--no-half-close keeps our side open until the answer is whole"

/* Something on the way may have taken our half-close for the end of all. */
static const char *advice(const struct conversation *c, bool after_ours)
{
    return after_ours && !c->terms->no_half_close ? "; that was after our half-close: " ADVICE : "";
}

static int fail_connection(struct conversation *c, int error)
{
    return fail(c, dial_exit_status(error),
                "%s closed the connection before the end: %s (%" PRIu64 " byte%s sent, %" PRIu64
                " received)%s",
                c->terms->peer, strerror(error), c->totals->sent, plural(c->totals->sent),
                c->totals->received, advice(c, c->half_closed));
}

static int fail_file(struct conversation *c, const char *what, int error)
{
    return fail(c, EXIT_FILE, "cannot %s: %s", what, strerror(error));
}

/* All of stdin has been sent, and our half-close is held back. */
static bool is_holding(const struct conversation *c)
{
    return c->up.ended && is_empty(&c->up) && !c->half_closed;
}

/* How long the other side may be silent before our half-close; 0: it is due. That an answer exactly as long
 * as the question is whole is known of those that are checked and likely of others; a longer one is no echo.
 */
static uint64_t hold_usec(const struct conversation *c)
{
    bool is_as_long = c->totals->received == c->totals->sent;
    if (c->down.ended || (c->check && answer_check_is_wrong(c->check)))
        return 0;
    if (!c->terms->no_half_close)
        return is_as_long ? 0 : HOLD_USEC;
    if (c->check)
        return is_as_long ? 0 : USEC_NEVER;
    return c->terms->wait_usec != USEC_NEVER ? c->terms->wait_usec : HOLD_ON_REQUEST_USEC;
}

/* When our half-close is due whatever the other side says. */
static uint64_t hold_limit(const struct conversation *c)
{
    return c->terms->no_half_close ? USEC_NEVER : c->said_all + HOLD_MOST_USEC;
}

/* It is for the other side to say something: we have said all, or as much as may go unanswered. */
static bool is_their_turn(const struct conversation *c)
{
    bool said_all = c->half_closed || (c->terms->no_half_close && is_holding(c));
    return is_empty(&c->down) && (said_all || (c->check && answer_check_room(c->check) == 0));
}

/* What was read, with CR LF in the place of each LF that has no CR. Returns its length. */
static size_t end_lines(struct conversation *c, size_t length)
{
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        if (c->raw[i] == '\n' && !c->after_cr)
            c->up.bytes[out++] = '\r';
        c->up.bytes[out++] = c->raw[i];
        c->after_cr = c->raw[i] == '\r';
    }
    return out;
}

/* Returns 0 or an exit status, as all the steps do. */
static int read_input(struct conversation *c)
{
    size_t room = c->check ? answer_check_room(c->check) : BUFFER_SIZE;
    size_t most = room < BUFFER_SIZE ? room : BUFFER_SIZE;
    bool grows = c->terms->crlf;
    ssize_t n = read(STDIN_FILENO, grows ? c->raw : c->up.bytes, grows ? (most + 1) / 2 : most);
    if (n < 0)
        return is_temporary(errno) ? 0 : fail_file(c, "read stdin", errno);
    c->up.start = 0;
    c->up.end = grows ? end_lines(c, (size_t)n) : (size_t)n;
    if (c->check)
        answer_check_sent(c->check, c->up.bytes, c->up.end);
    c->up.ended = n == 0;
    if (c->up.ended || is_their_turn(c))
        c->heard = clock_monotonic_usec();
    return 0;
}

static int send_input(struct conversation *c)
{
    ssize_t n = send(c->fd, c->up.bytes + c->up.start, c->up.end - c->up.start, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return is_temporary(errno) ? 0 : fail_connection(c, errno);
    c->up.start += (size_t)n;
    c->totals->sent += (uint64_t)n;
    return 0;
}

static int receive_answer(struct conversation *c)
{
    uint8_t *came = c->terms->hex ? c->raw : c->down.bytes;
    ssize_t n = recv(c->fd, came, c->terms->hex ? HEX_PART : BUFFER_SIZE, MSG_DONTWAIT);
    if (n < 0)
        return is_temporary(errno) ? 0 : fail_connection(c, errno);
    c->heard = clock_monotonic_usec();
    c->down.start = 0;
    c->down.end =
        c->terms->hex ? hex_format(c->totals->received, came, (size_t)n, (char *)c->down.bytes) : (size_t)n;
    c->down.ended = n == 0;
    c->ended_after_ours = n == 0 && c->half_closed;
    c->totals->received += (uint64_t)n;
    if (n > 0)
        c->totals->received_usec = c->heard;
    if (c->check)
        answer_check_received(c->check, came, (size_t)n);
    if (c->check && answer_check_is_wrong(c->check) && c->evidence_deadline == USEC_NEVER)
        c->evidence_deadline = c->heard + EVIDENCE_USEC;
    return 0;
}

/* A reader that has seen enough (head(1)) ends the conversation, and that is no failure. */
static int write_answer(struct conversation *c, bool *left)
{
    const uint8_t *from = c->down.bytes + c->down.start;
    size_t length = c->down.end - c->down.start;
    ssize_t n = output_write(c->terms->output, from, length);
    if (n < 0 && errno == EPIPE)
        *left = true;
    if (n < 0)
        return is_temporary(errno) || *left ? 0 : fail_file(c, "write to stdout", errno);
    c->down.start += (size_t)n;
    c->heard = clock_monotonic_usec(); /* while our reader was slow, it could not be */
    return 0;
}

static int half_close(struct conversation *c)
{
    int r = dial_half_close(c->fd);
    if (r < 0)
        return fail_connection(c, -r);
    c->half_closed = true;
    c->heard = clock_monotonic_usec(); /* from here on it is the other side that we wait for */
    return 0;
}

/* The last bytes may meet a socket that is closed already. Only the answer to them says so. */
static int see_off(struct conversation *c)
{
    uint64_t deadline = clock_monotonic_usec() + ACKNOWLEDGE_USEC;
    int waiting = 0, r = 0;
    do {
        r = dial_error(c->fd);
        if (r < 0)
            return fail_connection(c, -r);
        if (ioctl(c->fd, SIOCOUTQ, &waiting) < 0)
            return 0; /* a socket that knows no such thing has nothing to wait for */
        if (waiting > 0)
            poll(NULL, 0, ACKNOWLEDGE_STEP_MSEC);
    } while (waiting > 0 && clock_monotonic_usec() < deadline);
    return 0;
}

static bool may_read(const struct conversation *c)
{
    return !c->up.ended && is_empty(&c->up) && !(c->check && answer_check_room(c->check) == 0);
}

enum { INPUT, SOCKET, OUTPUT, INTERRUPT, WATCHED };

/* -1 for a descriptor that nothing is wanted of: poll(2) reports errors and hang-ups unasked, for ever. */
static void choose(const struct conversation *c, struct pollfd items[static WATCHED])
{
    bool wants_answer = !c->down.ended && is_empty(&c->down);
    short socket_events = (short)((wants_answer ? POLLIN : 0) | (is_empty(&c->up) ? 0 : POLLOUT));
    /* After its FIN the other side is still watched: a RST ends what we send. */
    bool watched = socket_events != 0 || (c->down.ended && !c->half_closed && !c->hung_up);

    items[INPUT] = (struct pollfd){.fd = may_read(c) ? STDIN_FILENO : -1, .events = POLLIN};
    items[SOCKET] = (struct pollfd){.fd = watched ? c->fd : -1, .events = socket_events};
    items[OUTPUT] = (struct pollfd){.fd = c->terms->output->fd, .events = is_empty(&c->down) ? 0 : POLLOUT};
    items[INTERRUPT] = (struct pollfd){.fd = c->terms->interrupt_fd, .events = POLLIN};
}

/* When they will have been silent for too long. */
static uint64_t silence_deadline(const struct conversation *c)
{
    uint64_t usec = is_their_turn(c) ? c->terms->wait_usec : USEC_NEVER;
    /* While our own reader is slow, nobody listens to the other side. */
    bool is_holding_on = is_holding(c) && is_empty(&c->down);
    if (is_holding_on && hold_usec(c) < usec)
        usec = hold_usec(c);
    uint64_t deadline = usec == USEC_NEVER ? USEC_NEVER : c->heard + usec;
    return is_holding_on && hold_limit(c) < deadline ? hold_limit(c) : deadline;
}

/* In milliseconds for poll(2); -1: for ever. */
static int patience(const struct conversation *c)
{
    uint64_t silence = silence_deadline(c);
    return clock_wait_msec(silence < c->evidence_deadline ? silence : c->evidence_deadline);
}

static int fail_silent(struct conversation *c, uint64_t usec)
{
    char text[DURATION_TEXT_SIZE];
    return fail(c, EXIT_TIMED_OUT,
                "%s has been silent for %s (%" PRIu64 " byte%s sent, %" PRIu64 " received)", c->terms->peer,
                units_format_duration(usec, text), c->totals->sent, plural(c->totals->sent),
                c->totals->received);
}

/* The other side has been silent for as long as it may be. Returns 0 to go on, or an exit status. */
static int end_patience(struct conversation *c)
{
    /* That an answer has ended is only known where one has begun. */
    if (is_holding(c) && hold_usec(c) != USEC_NEVER && (!c->terms->no_half_close || c->totals->received > 0))
        return half_close(c);
    return fail_silent(c, is_holding(c) && !c->check ? hold_usec(c) : c->terms->wait_usec);
}

/* What poll(2) found. */
static int turn(struct conversation *c, const struct pollfd items[static WATCHED], bool *left)
{
    short socket_events = items[SOCKET].revents;
    int status = 0;

    if (items[OUTPUT].revents & (POLLERR | POLLHUP) && is_empty(&c->down)) {
        *left = true;
        return 0;
    }
    if (items[OUTPUT].revents)
        status = write_answer(c, left);
    if (status == 0 && !*left && items[INPUT].revents)
        status = read_input(c);
    if (status == 0 && !is_empty(&c->up))
        status = send_input(c);
    if (status == 0 && items[SOCKET].events & POLLIN && socket_events & (POLLIN | POLLERR | POLLHUP))
        status = receive_answer(c);
    else if (items[SOCKET].events == 0 && socket_events & POLLHUP)
        c->hung_up = true;
    if (status == 0 && items[SOCKET].events == 0 && socket_events & POLLERR)
        status = fail_connection(c, -dial_error(c->fd));
    if (status == 0 && is_holding(c) && is_empty(&c->down)) {
        uint64_t now = clock_monotonic_usec();
        if (c->said_all == 0)
            c->said_all = now;
        if (hold_usec(c) == 0 || now >= hold_limit(c))
            status = half_close(c);
    }
    return status;
}

static bool is_over(const struct conversation *c)
{
    if (c->check && answer_check_is_certain(c->check))
        return true;
    if (c->evidence_deadline != USEC_NEVER && clock_monotonic_usec() >= c->evidence_deadline)
        return true;
    return c->down.ended && is_empty(&c->down) && (c->half_closed || c->at_terminal);
}

static int exchange(struct conversation *c)
{
    bool left = false;
    while (!is_over(c)) {
        struct pollfd items[WATCHED];
        choose(c, items);
        int count = poll(items, WATCHED, patience(c));
        if (count < 0 && errno != EINTR)
            return fail(c, EXIT_SYSTEM, "cannot wait for input: %s", strerror(errno));
        if (count > 0 && items[INTERRUPT].revents)
            return EXIT_INTERRUPTED;
        int status = 0;
        if (count > 0)
            status = turn(c, items, &left);
        else if (count == 0 && clock_monotonic_usec() >= silence_deadline(c) && !is_over(c))
            status = end_patience(c);
        if (status != 0 || left)
            return status;
    }
    return c->down.ended ? see_off(c) : 0;
}

/* Something was asked, and nothing came, also after our half-close. A server that only takes is like that. */
static bool is_unanswered(const struct conversation *c)
{
    return !c->check && !c->terms->is_peer && c->ended_after_ours && c->totals->sent > 0 &&
           c->totals->received == 0;
}

/* A wrong answer says more than the way in which the connection ended after it. */
static int judge(const struct conversation *c, int status)
{
    char text[FAULT_TEXT_SIZE];
    struct fault fault;
    if (!c->check || !answer_check_fault(c->check, c->down.ended && status == 0, &fault)) {
        if (c->why[0] != '\0')
            print_error("%s", c->why);
        else if (status == 0 && is_unanswered(c))
            print_error("%s has answered nothing and closed at our half-close; if an answer is due, " ADVICE,
                        c->terms->peer);
        else if (status == 0 && c->at_terminal && c->down.ended && !c->half_closed)
            print_error("%s closed the connection", c->terms->peer);
        return status;
    }
    print_error("wrong answer from %s: %s%s", c->terms->peer, fault_format(&fault, text),
                advice(c, fault.kind == FAULT_CUT && c->ended_after_ours));
    return EXIT_WRONG_ANSWER;
}

int converse(int fd, const struct conversation_terms *terms, struct conversation_totals *totals)
{
    CLEANUP(free_pointer) uint8_t *up = malloc(BUFFER_SIZE);
    CLEANUP(free_pointer) uint8_t *down = malloc(BUFFER_SIZE);
    bool has_raw = terms->crlf || terms->hex;
    CLEANUP(free_pointer) uint8_t *raw = has_raw ? malloc(BUFFER_SIZE) : NULL;
    CLEANUP(answer_check_deinit) struct answer_check check = {0};
    bool checked = terms->expect != EXPECT_ANYTHING;
    *totals = (struct conversation_totals){0};
    if (!up || !down || (has_raw && !raw) || (checked && answer_check_init(&check, terms->expect) < 0)) {
        print_error("%s", strerror(ENOMEM));
        return EXIT_SYSTEM;
    }
    struct conversation c = {
        .terms = terms,
        .totals = totals,
        .fd = fd,
        .up.bytes = up,
        .down.bytes = down,
        .raw = raw,
        .check = checked ? &check : NULL,
        .at_terminal = isatty(STDIN_FILENO) == 1,
        .heard = clock_monotonic_usec(),
        .evidence_deadline = USEC_NEVER,
    };
    return judge(&c, exchange(&c));
}
