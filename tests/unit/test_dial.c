#include "client/net/dial.h"

#include "base/clock.h"
#include "capture.h"
#include "client/process/exit_status.h"
#include "client_sockets.h"
#include "faults.h"

#include <netinet/tcp.h>

static struct dialled dialled;

/* Of `count` addresses 127.0.0.1, 127.0.0.2 ... with this port. */
static int dial_some(size_t count, uint16_t port, int interrupt_fd, const char **told)
{
    struct endpoint items[4];
    struct target target = {.host = "name", .port = "port", .items = items, .count = count};
    for (size_t i = 0; i < count; i++)
        items[i] = endpoint_at((uint32_t)(INADDR_LOOPBACK + count - 1 - i), port);
    capture(LOG_LEVEL_DEBUG);
    int status = dial(&target, 5 * USEC_PER_SEC, interrupt_fd, &dialled);
    fault_disarm();
    *told = written();
    return status;
}

TEST(connects)
{
    struct endpoint endpoint;
    int listening = listen_anywhere(1, &endpoint);
    const char *told;
    /* The first two refuse. */
    ck_assert_int_eq(dial_some(3, port_of(listening), -1, &told), 0);
    ck_assert_str_eq(told, "");
    ck_assert_uint_eq(dialled.chosen, 2);
    ck_assert_int_eq(get_socket_option(dialled.fd, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_ne(fcntl(dialled.fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(dialled.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(dial_half_close(dialled.fd), 0);
    int server = accept(listening, NULL, NULL);
    expect_end(server);
    close(server);
    close(dialled.fd);
    close(listening);
}

TEST(refused)
{
    unsigned before = open_descriptors();
    const char *told;
    ck_assert_int_eq(dial_some(2, free_port(), -1, &told), EXIT_REFUSED);
    expect_in(told, "tcpecho: cannot connect to name port port (127.0.0.2:");
    expect_in(told, ": Connection refused, 127.0.0.1:");
    expect_in(told, ": Connection refused); no server listens there\n");
    ck_assert_uint_eq(open_descriptors(), before);
}

static const struct {
    const char *rules;
    int status;
    const char *told;
} failures[] = {
    {"socket:EMFILE", EXIT_SYSTEM, "Too many open files"},
    {"setsockopt:ENOMEM", EXIT_SYSTEM, "Cannot allocate memory"},
    {"connect:ENETUNREACH", EXIT_UNREACHABLE, "Network is unreachable"},
    {"connect:EHOSTUNREACH", EXIT_UNREACHABLE, "No route to host"},
    {"connect:EACCES", EXIT_NO_PERMISSION, "Permission denied"},
    {"connect:EPERM", EXIT_NO_PERMISSION, "Operation not permitted"},
    {"connect:ECONNRESET", EXIT_CLOSED_EARLY, "Connection reset by peer"},
    {"connect:ETIMEDOUT", EXIT_TIMED_OUT, "Connection timed out); --connect-timeout allows more time"},
    {"poll:ENOMEM", EXIT_SYSTEM, "Cannot allocate memory"},
    {"getsockopt:ENOBUFS", EXIT_SYSTEM, "No buffer space available"},
    /* The most telling of several. */
    {"connect:ENETUNREACH:1,connect:ECONNREFUSED:2", EXIT_REFUSED, "unreachable, 127.0.0.1:"},
    {"connect:ECONNREFUSED:1,connect:ENETUNREACH:2", EXIT_REFUSED, "refused, 127.0.0.1:"},
    {"socket:EMFILE:1,connect:ETIMEDOUT:1", EXIT_TIMED_OUT, "files, 127.0.0.1:"},
};

TEST_EACH(failing, failures)
{
    unsigned before = open_descriptors();
    struct endpoint endpoint;
    int listening = listen_anywhere(1, &endpoint);
    const char *told;
    fault_rules(c->rules);
    ck_assert_int_eq(dial_some(2, port_of(listening), -1, &told), c->status);
    expect_in(told, c->told);
    close(listening);
    ck_assert_uint_eq(open_descriptors(), before);
}

/* Where no server is, a client whose local port is the one that it connects to finds itself. */
static int connect_to_itself(uint16_t port, int family)
{
    struct sockaddr_in name = loopback(port);
    struct sockaddr_in6 name6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct sockaddr *at =
        family == AF_INET ? (const struct sockaddr *)&name : (const struct sockaddr *)&name6;
    socklen_t length = family == AF_INET ? sizeof name : sizeof name6;
    int self = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (self < 0 || bind(self, at, length) < 0) {
        ck_assert_int_eq(family, AF_INET6); /* a host without IPv6 */
        return -1;
    }
    ck_assert_int_eq(connect(self, at, length), 0);
    return self;
}

TEST_TIMES(itself, 2)
{
    int family = variant == 0 ? AF_INET : AF_INET6;
    uint16_t port = free_port();
    int self = connect_to_itself(port, family);
    if (self < 0)
        return;
    ck_assert_int_eq(dial_result(self), -ECONNREFUSED);
    close(self);
    /* It was a RST: nothing keeps the port from a server, with SO_REUSEADDR or without. */
    self = connect_to_itself(port, family);
    ck_assert_int_ge(self, 0);
    ck_assert_int_eq(dial_result(self), -ECONNREFUSED);
    close(self);
}

/* The same port at another address is another socket. */
TEST(not_itself)
{
    struct endpoint endpoint;
    int listening = listen_anywhere(1, &endpoint);
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons(port_of(listening)),
                               .sin_addr = {htonl(INADDR_LOOPBACK + 1)}};
    struct sockaddr_in server = loopback(port_of(listening));
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pair[2];

    ck_assert_int_eq(bind(client, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&server, sizeof server), 0);
    ck_assert_int_eq(dial_result(client), 0);
    fault_arm("getsockname", ENOBUFS, 1);
    ck_assert_int_eq(dial_result(client), -ENOBUFS);
    fault_disarm();
    fault_arm("getpeername", ENOBUFS, 1);
    ck_assert_int_eq(dial_result(client), -ENOBUFS);
    fault_disarm();
    /* It was reset in the meantime, which is read from it. */
    fault_arm("getpeername", ENOTCONN, 1);
    ck_assert_int_eq(dial_result(client), 0);
    fault_disarm();
    close(client);
    close(listening);
    /* Two Unix sockets have no name, and are not the same. */
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq(dial_result(pair[0]), 0);
    close(pair[0]);
    close(pair[1]);
}

TEST(interrupted)
{
    int ends[2];
    struct endpoint endpoint;
    int listening = listen_anywhere(1, &endpoint);
    const char *told;
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(dial_some(2, port_of(listening), ends[0], &told), EXIT_INTERRUPTED);
    ck_assert_str_eq(told, "");
    /* Also while a full Unix socket is tried again. */
    fault_rules("connect:EAGAIN");
    ck_assert_int_eq(dial_some(1, port_of(listening), ends[0], &told), EXIT_INTERRUPTED);
    close(ends[0]);
    close(ends[1]);
    close(listening);
}

TEST(tried_again)
{
    struct endpoint endpoint;
    int listening = listen_anywhere(1, &endpoint);
    const char *told;
    fault_rules("connect:EAGAIN:1-3,poll:EINTR:4");
    ck_assert_int_eq(dial_some(1, port_of(listening), -1, &told), 0);
    close(dialled.fd);
    close(listening);
}

TEST(too_long_a_time)
{
    struct endpoint item = endpoint_at(INADDR_LOOPBACK, 1);
    struct target target = {.host = "/x", .items = &item, .count = 1};
    capture(LOG_LEVEL_DEBUG);
    fault_rules("connect:EAGAIN");
    int status = dial(&target, USEC_PER_MSEC, -1, &dialled);
    fault_disarm();
    ck_assert_str_eq(written(), "tcpecho: cannot connect to 127.0.0.1:1: Connection timed out; "
                                "--connect-timeout allows more time\n");
    ck_assert_int_eq(status, EXIT_TIMED_OUT);
}

/* A hundred addresses do not fit into a line, and do no harm. */
TEST(many_addresses)
{
    struct endpoint items[100];
    struct target target = {.host = "name", .port = "7", .items = items, .count = COUNT_OF(items)};
    for (size_t i = 0; i < COUNT_OF(items); i++)
        items[i] = endpoint_at(INADDR_LOOPBACK, 7);
    capture(LOG_LEVEL_DEBUG);
    fault_rules("connect:ECONNREFUSED");
    int status = dial(&target, USEC_PER_SEC, -1, &dialled);
    fault_disarm();
    const char *told = written();
    ck_assert_int_eq(status, EXIT_REFUSED);
    ck_assert_uint_lt(strlen(told), 1024);
    expect_in(told, "; no server listens there\n");
}

TEST(half_close)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fault_arm("shutdown", ENOTCONN, 1);
    ck_assert_int_eq(dial_half_close(pair[0]), -ECONNRESET);
    fault_disarm();
    ck_assert_int_eq(dial_half_close(-1), -EBADF);
    ck_assert_int_eq(dial_half_close(pair[0]), 0);
    expect_end(pair[1]);
    close(pair[0]);
    close(pair[1]);
}
