/* Sockets as a service manager makes them, and the descriptors of it that this process gets: it keeps its
 * own. */
#pragma once

#include "common.h"

#include <sys/un.h>

/* Bound and listening, blocking as systemd passes them. `v6_only` counts for IPv6. */
static inline int passed_ip(const char *address, uint16_t port, bool v6_only)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, address, &in.sin_addr) == 1;
    ck_assert(is_v4 || inet_pton(AF_INET6, address, &in6.sin6_addr) == 1);
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    set_socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!is_v4)
        set_socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only);
    int r =
        is_v4 ? bind(fd, (struct sockaddr *)&in, sizeof in) : bind(fd, (struct sockaddr *)&in6, sizeof in6);
    ck_assert_msg(r == 0, "bind %s:%u: %s", address, port, strerror(errno));
    ck_assert_int_eq(listen(fd, 16), 0);
    return fd;
}

/* `length` bytes of `name`, which may begin with a NUL (an abstract name). */
static inline int bound_unix(int type, const char *name, size_t length)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    ck_assert_uint_le(length, sizeof un.sun_path);
    memcpy(un.sun_path, name, length);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(
        bind(fd, (struct sockaddr *)&un, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)), 0);
    if (type != SOCK_DGRAM)
        ck_assert_int_eq(listen(fd, 16), 0);
    return fd;
}

static inline int passed_path(const char *path)
{
    return bound_unix(SOCK_STREAM, path, strlen(path));
}

/* What the daemon gets of it. */
static inline int as_passed(int managers)
{
    int fd = fcntl(managers, F_DUPFD_CLOEXEC, 3);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* The socket of the service manager listens, and `client` is the one that waits in its backlog. */
static inline void expect_in_backlog(int managers, int client)
{
    ck_assert(becomes_readable(managers));
    int fd = accept4(managers, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    send_text(fd, "next");
    expect_text(client, "next");
    close(fd);
}
