#include "client/net/dial.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How soon to try a Unix socket again whose backlog is full: nothing tells when it has room. */
#define RETRY_MSEC 20

int dial_exit_status(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return EXIT_REFUSED;
    case ETIMEDOUT:
        return EXIT_TIMED_OUT;
    case EACCES:
    case EPERM:
        return EXIT_NO_PERMISSION;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return EXIT_CLOSED_EARLY;
    case ENOENT: /* these of a path */
    case ENOTDIR:
    case ELOOP:
    case EINVAL: /* of a link-local address */
        return EXIT_UNKNOWN_NAME;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return EXIT_UNREACHABLE;
    default:
        return EXIT_SYSTEM;
    }
}

static int wait_until_writable(int fd, uint64_t deadline, int interrupt_fd)
{
    for (;;) {
        struct pollfd items[] = {{.fd = fd, .events = POLLOUT}, {.fd = interrupt_fd, .events = POLLIN}};
        uint64_t now = clock_monotonic_usec();
        int r = poll(items, 2, clock_wait_msec(deadline));
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r > 0 && items[1].revents != 0)
            return -EINTR;
        if (r > 0)
            return 0;
        /* Only after a look: a process that was stopped meanwhile may be connected long since. */
        if (r == 0 && now >= deadline)
            return -ETIMEDOUT;
    }
}

int dial_start(const struct endpoint *endpoint)
{
    int family = endpoint->address.ss_family;
    int on = 1;
    CLEANUP(fd_close) int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A line or a message is sent when it is written, not when the one before has been acknowledged. */
    if (family != AF_UNIX && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        return -errno;
    /* An urgent byte (RFC 6093) is a byte of the answer like every other. */
    if (setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on) < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) < 0 &&
        errno != EINPROGRESS)
        return -errno;
    return TAKE_FD(fd);
}

int dial_error(int fd)
{
    int error;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        return -errno;
    return -error;
}

/* Where nobody listens, a socket whose local port happens to be the port that it connects to meets its own
 * SYN: a simultaneous open (RFC 9293, 3.5) with itself. Returns 1 for such a one, 0 or a negative errno. */
static int is_connected_to_itself(int fd)
{
    struct sockaddr_storage name = {0}, peer = {0};
    socklen_t name_length = sizeof name, peer_length = sizeof peer;
    struct address ours, theirs;
    if (getsockname(fd, (struct sockaddr *)&name, &name_length) < 0)
        return -errno;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_length) < 0)
        return errno == ENOTCONN ? 0 : -errno; /* ended already: the next recv(2) tells how */
    address_from_sockaddr((const struct sockaddr *)&name, &ours);
    address_from_sockaddr((const struct sockaddr *)&peer, &theirs);
    return ours.family != AF_UNIX && ours.port == theirs.port && address_equal_ip(&ours, &theirs);
}

int dial_result(int fd)
{
    const struct linger none = {.l_onoff = 1};
    int r = dial_error(fd);
    if (r == 0)
        r = is_connected_to_itself(fd);
    if (r <= 0)
        return r;
    /* The caller's close is a RST then, which leaves no TIME_WAIT at a port that a server may want. Fails for
     * no TCP socket. */
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    return -ECONNREFUSED;
}

int dial_half_close(int fd)
{
    if (shutdown(fd, SHUT_WR) == 0)
        return 0;
    return errno == ENOTCONN ? -ECONNRESET : -errno;
}

/* Returns the socket or a negative errno; -EINTR: the user has had enough. */
static int dial_one(const struct endpoint *endpoint, uint64_t timeout_usec, int interrupt_fd)
{
    uint64_t deadline = clock_monotonic_usec() + timeout_usec;
    CLEANUP(fd_close) int fd = dial_start(endpoint);
    while (fd == -EAGAIN) {
        struct pollfd item = {.fd = interrupt_fd, .events = POLLIN};
        if (clock_monotonic_usec() >= deadline)
            return -ETIMEDOUT;
        if (poll(&item, 1, RETRY_MSEC) > 0)
            return -EINTR;
        fd = dial_start(endpoint);
    }
    if (fd < 0)
        return fd;
    int r = wait_until_writable(fd, deadline, interrupt_fd);
    if (r == 0)
        r = dial_result(fd);
    return r < 0 ? r : TAKE_FD(fd);
}

/* When addresses fail in different ways: the one that says most about the server. */
static bool is_more_telling(int status, int than)
{
    static const int order[] = {EXIT_REFUSED,      EXIT_NO_PERMISSION, EXIT_CLOSED_EARLY, EXIT_TIMED_OUT,
                                EXIT_UNKNOWN_NAME, EXIT_UNREACHABLE,   EXIT_SYSTEM};

    for (size_t i = 0; order[i] != than; i++)
        if (order[i] == status)
            return true;
    return false;
}

static const char *advice(int status)
{
    switch (status) {
    case EXIT_REFUSED:
        return "; no server listens there";
    case EXIT_TIMED_OUT:
        return "; --connect-timeout allows more time";
    default:
        return "";
    }
}

/* What failed, address by address. */
struct reasons {
    char text[512];
    size_t length;
    int status;
};

const char *dial_reason(const struct endpoint *endpoint, int error)
{
    const struct sockaddr_in6 *name = (const struct sockaddr_in6 *)(const void *)&endpoint->address;
    if (error == EINVAL && name->sin6_family == AF_INET6 && name->sin6_scope_id == 0 &&
        IN6_IS_ADDR_LINKLOCAL(&name->sin6_addr))
        return "a link-local address needs its interface, as in fe80::1%eth0";
    return strerror(error);
}

static void add_reason(struct reasons *reasons, const struct endpoint *endpoint, int error)
{
    char name[ENDPOINT_TEXT_SIZE];
    size_t room = sizeof reasons->text - reasons->length;
    if (reasons->length == 0 || is_more_telling(dial_exit_status(error), reasons->status))
        reasons->status = dial_exit_status(error);
    int length = snprintf(reasons->text + reasons->length, room, "%s%s: %s", reasons->length == 0 ? "" : ", ",
                          endpoint_format(endpoint, name), dial_reason(endpoint, error));
    reasons->length += (size_t)length < room ? (size_t)length : room - 1;
}

int dial(const struct target *target, uint64_t timeout_usec, int interrupt_fd, struct dialled *out)
{
    struct reasons reasons = {.status = EXIT_SYSTEM};
    char name[TARGET_TEXT_SIZE];
    for (size_t i = 0; i < target->count; i++) {
        uint64_t began = clock_monotonic_nsec();
        int r = dial_one(&target->items[i], timeout_usec, interrupt_fd);
        if (r >= 0) {
            *out = (struct dialled){.fd = r, .chosen = i, .nsec = clock_monotonic_nsec() - began};
            return 0;
        }
        if (r == -EINTR)
            return EXIT_INTERRUPTED;
        add_reason(&reasons, &target->items[i], -r);
    }
    if (target->port)
        print_error("cannot connect to %s (%s)%s", target_format(target, name), reasons.text,
                    advice(reasons.status));
    else
        print_error("cannot connect to %s%s", reasons.text, advice(reasons.status));
    return reasons.status;
}
