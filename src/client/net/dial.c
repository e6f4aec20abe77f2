#include "client/net/dial.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/socket_option.h"
#include "client/process/exit_status.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

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
        return EXIT_UNREACHABLE;
    default:
        return EXIT_SYSTEM;
    }
}

bool dial_is_short(int error)
{
    return error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM || error == ENOSPC;
}

static int start_from(const struct endpoint *endpoint, const struct source *source, uint64_t number)
{
    int family = endpoint->address.ss_family;
    CLEANUP(fd_close) int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A line or a message is sent when it is written, not when the one before has been acknowledged. */
    int r = family == AF_UNIX ? 0 : socket_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    /* An urgent byte (RFC 6093) is a byte of the answer like every other. */
    if (r == 0)
        r = socket_set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (r == 0 && source && family != AF_UNIX)
        r = source_apply(source, fd, family, number);
    if (r < 0)
        return r;
    if (connect(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) < 0 &&
        errno != EINPROGRESS)
        return -errno;
    return TAKE_FD(fd);
}

int dial_start(const struct endpoint *endpoint, const struct source *source, uint64_t number)
{
    size_t others = source ? source_count(source, endpoint->address.ss_family) : 0;
    int r = start_from(endpoint, source, number);
    while (r == -EADDRNOTAVAIL && others-- > 1)
        r = start_from(endpoint, source, ++number);
    return r;
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
    int r = dial_error(fd);
    if (r == 0)
        r = is_connected_to_itself(fd);
    if (r <= 0)
        return r;
    socket_reset_on_close(fd); /* no TIME_WAIT at a port that a server may want */
    return -ECONNREFUSED;
}

const char *dial_port_advice(void)
{
    return "; every local port is taken: -I ADDRESS,... or net.ipv4.ip_local_port_range gives more";
}

int dial_half_close(int fd)
{
    if (shutdown(fd, SHUT_WR) == 0)
        return 0;
    return errno == ENOTCONN ? -ECONNRESET : -errno;
}

const char *dial_reason(const struct endpoint *endpoint, int error)
{
    const struct sockaddr_in6 *name = (const struct sockaddr_in6 *)(const void *)&endpoint->address;
    if (error == EINVAL && name->sin6_family == AF_INET6 && name->sin6_scope_id == 0 &&
        IN6_IS_ADDR_LINKLOCAL(&name->sin6_addr))
        return "a link-local address needs its interface, as in fe80::1%eth0";
    return strerror(error);
}
