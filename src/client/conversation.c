#include "client/conversation.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/dial.h"
#include "client/exit_status.h"
#include "client/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of each direction. Larger ones are no faster: they do not fit beside each other into a CPU's cache. */
#define BUFFER_SIZE (128U << 10)

/* How long to see to it that the other side has taken the last bytes before it is left. */
#define ACKNOWLEDGE_USEC USEC_PER_SEC
#define ACKNOWLEDGE_STEP_MSEC 2

struct flow {
    uint8_t *bytes;
    size_t start, end; /* what is between has come in and not yet gone out */
    bool ended;        /* nothing more comes in */
};

struct conversation {
    const struct conversation_terms *terms;
    struct conversation_totals *totals;
    int fd;
    int out; /* stdout, or a description of it that is ours and does not block */
    struct flow up, down;
    bool at_terminal; /* stdin is one */
    bool half_closed; /* we have sent our FIN */
    uint64_t heard;   /* when the other side was last heard */
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

static int fail_connection(const struct conversation *c, int error)
{
    complain("%s closed the connection before the end: %s (%" PRIu64 " bytes sent, %" PRIu64 " received)",
             c->terms->peer, strerror(error), c->totals->sent, c->totals->received);
    return dial_exit_status(error);
}

static int fail_file(const char *what, int error)
{
    complain("cannot %s: %s", what, strerror(error));
    return EXIT_FILE;
}

/* Returns 0 or an exit status, as all the steps do. */
static int read_input(struct conversation *c)
{
    ssize_t n = read(STDIN_FILENO, c->up.bytes, BUFFER_SIZE);

    if (n < 0)
        return is_temporary(errno) ? 0 : fail_file("read stdin", errno);
    c->up.start = 0;
    c->up.end = (size_t)n;
    c->up.ended = n == 0;
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
    ssize_t n = recv(c->fd, c->down.bytes, BUFFER_SIZE, MSG_DONTWAIT);

    if (n < 0)
        return is_temporary(errno) ? 0 : fail_connection(c, errno);
    c->heard = clock_monotonic_usec();
    c->down.start = 0;
    c->down.end = (size_t)n;
    c->down.ended = n == 0;
    c->totals->received += (uint64_t)n;
    return 0;
}

/* A reader that has seen enough (head(1)) ends the conversation, and that is no failure. */
static int write_answer(struct conversation *c, bool *left)
{
    ssize_t n = write(c->out, c->down.bytes + c->down.start, c->down.end - c->down.start);

    if (n < 0 && errno == EPIPE)
        *left = true;
    if (n < 0)
        return is_temporary(errno) || *left ? 0 : fail_file("write to stdout", errno);
    c->down.start += (size_t)n;
    return 0;
}

static int half_close(struct conversation *c)
{
    if (shutdown(c->fd, SHUT_WR) < 0)
        return fail_connection(c, errno == ENOTCONN ? ECONNRESET : errno);
    c->half_closed = true;
    c->heard = clock_monotonic_usec(); /* from here on it is the other side that we wait for */
    return 0;
}

/* The last bytes may meet a socket that is closed already. Only the answer to them says so. */
static int see_off(const struct conversation *c)
{
    uint64_t deadline = clock_monotonic_usec() + ACKNOWLEDGE_USEC;
    int waiting = 0, r = 0;

    do {
        r = dial_result(c->fd);
        if (r < 0)
            return fail_connection(c, -r);
        if (ioctl(c->fd, SIOCOUTQ, &waiting) < 0)
            return 0; /* a socket that knows no such thing has nothing to wait for */
        if (waiting > 0)
            (void)poll(NULL, 0, ACKNOWLEDGE_STEP_MSEC);
    } while (waiting > 0 && clock_monotonic_usec() < deadline);
    return 0;
}

enum { INPUT, SOCKET, OUTPUT, WATCHED };

/* -1 for a descriptor that nothing is wanted of: poll(2) reports errors and hang-ups unasked, for ever. */
static void choose(const struct conversation *c, struct pollfd items[static WATCHED])
{
    bool wants_input = !c->up.ended && is_empty(&c->up);
    bool wants_answer = !c->down.ended && is_empty(&c->down);
    short socket_events = (short)((wants_answer ? POLLIN : 0) | (is_empty(&c->up) ? 0 : POLLOUT));
    /* Behind its FIN the other side is still watched: a RST ends what we send. */
    bool watched = socket_events != 0 || (c->down.ended && !c->half_closed);

    items[INPUT] = (struct pollfd){.fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN};
    items[SOCKET] = (struct pollfd){.fd = watched ? c->fd : -1, .events = socket_events};
    items[OUTPUT] = (struct pollfd){.fd = c->out, .events = is_empty(&c->down) ? 0 : POLLOUT};
}

/* In milliseconds for poll(2); -1: for ever. */
static int patience(const struct conversation *c)
{
    if (!c->half_closed || c->terms->wait_usec == USEC_NEVER)
        return -1;
    uint64_t deadline = c->heard + c->terms->wait_usec, now = clock_monotonic_usec();
    return now >= deadline ? 0 : (int)((deadline - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
}

static int fail_silent(const struct conversation *c)
{
    complain("%s has been silent for %.6g s since the end of stdin (%" PRIu64 " bytes sent, %" PRIu64
             " received)",
             c->terms->peer, (double)c->terms->wait_usec / (double)USEC_PER_SEC, c->totals->sent,
             c->totals->received);
    return EXIT_TIMED_OUT;
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
    if (status == 0 && c->up.ended && is_empty(&c->up) && !c->half_closed)
        status = half_close(c);
    if (status == 0 && items[SOCKET].events & POLLIN && socket_events & (POLLIN | POLLERR | POLLHUP))
        status = receive_answer(c);
    else if (status == 0 && socket_events & POLLERR)
        status = fail_connection(c, -dial_result(c->fd));
    return status;
}

static bool is_over(const struct conversation *c)
{
    return c->down.ended && is_empty(&c->down) && (c->half_closed || c->at_terminal);
}

static int exchange(struct conversation *c)
{
    bool left = false;

    while (!is_over(c)) {
        struct pollfd items[WATCHED];
        choose(c, items);
        int count = poll(items, WATCHED, patience(c));
        if (count < 0 && errno != EINTR) {
            complain("poll: %s", strerror(errno));
            return EXIT_SYSTEM;
        }
        if (count == 0 && patience(c) == 0)
            return fail_silent(c);
        int status = count > 0 ? turn(c, items, &left) : 0;
        if (status != 0 || left)
            return status;
    }
    return see_off(c);
}

/* A pipe that is full would stop the other direction as well. Its mode belongs to all who share it, so a
 * description of our own is opened; where that cannot be had, stdout itself has to do. */
static int own_output(void)
{
    struct stat status;
    int fd = -1;

    if (fstat(STDOUT_FILENO, &status) == 0 && S_ISFIFO(status.st_mode))
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return fd;
}

int converse(int fd, const struct conversation_terms *terms, struct conversation_totals *totals)
{
    CLEANUP(free_pointer) uint8_t *up = malloc(BUFFER_SIZE);
    CLEANUP(free_pointer) uint8_t *down = malloc(BUFFER_SIZE);
    CLEANUP(fd_close) int owned = own_output();

    if (!up || !down) {
        complain("%s", strerror(ENOMEM));
        return EXIT_SYSTEM;
    }
    struct conversation c = {
        .terms = terms,
        .totals = totals,
        .fd = fd,
        .out = owned >= 0 ? owned : STDOUT_FILENO,
        .up.bytes = up,
        .down.bytes = down,
        .at_terminal = isatty(STDIN_FILENO) == 1,
        .heard = clock_monotonic_usec(),
    };
    *totals = (struct conversation_totals){0};
    return exchange(&c);
}
