/* What several unit tests share: waiting with a bound, connected sockets. */
#pragma once

#include "unit.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* No test waits for a time to pass; this is only how long one waits before it calls something broken. */
#define PATIENCE_MSEC 20000

#define WAIT_FOR(condition)                                                                                  \
    do {                                                                                                     \
        bool is_met_;                                                                                        \
        for (int rest_ = PATIENCE_MSEC; !(is_met_ = (condition)) && rest_ > 0; rest_--)                      \
            nap();                                                                                           \
        ck_assert_msg(is_met_, "waited in vain for: " #condition);                                           \
    } while (0)

static inline void nap(void)
{
    const struct timespec msec = {.tv_nsec = 1000000};
    nanosleep(&msec, NULL);
}

/* A port that is free at every address, from below those that the kernel gives to clients: other tests run
 * beside this one, and a client of theirs at ::1 keeps a wildcard from being bound. */
static inline uint16_t free_port(void)
{
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        uint16_t port = (uint16_t)(10240 + (unsigned)(getpid() * 7919 + (int)attempt * 101) % 20000);
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
        struct sockaddr_in6 name6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool is_free = bind(fd, (struct sockaddr *)&name, sizeof name) == 0;
        close(fd);
        if (fd6 >= 0) {
            is_free = is_free && bind(fd6, (struct sockaddr *)&name6, sizeof name6) == 0;
            close(fd6);
        }
        if (is_free)
            return port;
    }
    ck_abort_msg("no free port");
    return 0;
}

/* How many descriptors are open: what a test opened it must see closed. */
static inline unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static inline bool becomes_readable(int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    return poll(&item, 1, PATIENCE_MSEC) == 1;
}

static inline void set_socket_option(int fd, int level, int option, int value)
{
    ck_assert_int_eq(setsockopt(fd, level, option, &value, sizeof value), 0);
}

static inline int get_socket_option(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    ck_assert_int_eq(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}

static inline uint16_t port_of(int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    if (name.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&name)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&name)->sin_port);
}

static inline struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

/* Returns a socket connected to 127.0.0.1. */
static inline int connect_to(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    struct sockaddr_in name = loopback(port);
    ck_assert_msg(connect(fd, (struct sockaddr *)&name, sizeof name) == 0, "connect: %s", strerror(errno));
    return fd;
}

/* Two ends of a TCP connection; the server's does not block. A `sndbuf` over 0 makes the server's send buffer
 * that small, and the client's receive buffer too. */
static inline void tcp_pair(int sndbuf, int *client, int *server)
{
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(listening, 0);
    struct sockaddr_in name = loopback(0);
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(listening, 1), 0);
    name = loopback(port_of(listening));
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(*client, 0);
    if (sndbuf > 0) {
        set_socket_option(*client, SOL_SOCKET, SO_RCVBUF, sndbuf);
        set_socket_option(*client, SOL_SOCKET, SO_SNDBUF, sndbuf);
    }
    ck_assert_int_eq(connect(*client, (struct sockaddr *)&name, sizeof name), 0);
    *server = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(*server, 0);
    if (sndbuf > 0)
        set_socket_option(*server, SOL_SOCKET, SO_SNDBUF, sndbuf);
    close(listening);
}

/* How many bytes can be read. */
static inline size_t arrived(int fd)
{
    int bytes = 0;
    ck_assert_int_eq(ioctl(fd, FIONREAD, &bytes), 0);
    return (size_t)bytes;
}

static inline void send_all(int fd, const void *bytes, size_t length)
{
    ck_assert_int_eq(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
}

static inline void send_text(int fd, const char *text)
{
    send_all(fd, text, strlen(text));
}

/* Reads exactly `length` bytes. */
static inline void receive_all(int fd, void *bytes, size_t length)
{
    size_t have = 0;
    while (have < length) {
        ck_assert(becomes_readable(fd));
        ssize_t r = recv(fd, (char *)bytes + have, length - have, 0);
        ck_assert_msg(r > 0, "%zu of %zu bytes, then %s", have, length, r == 0 ? "EOF" : strerror(errno));
        have += (size_t)r;
    }
}

static inline void expect_text(int fd, const char *text)
{
    char bytes[1024];
    size_t length = strlen(text);
    ck_assert_uint_lt(length, sizeof bytes);
    receive_all(fd, bytes, length);
    bytes[length] = '\0';
    ck_assert_str_eq(bytes, text);
}

static inline void expect_end(int fd)
{
    char byte;
    ck_assert(becomes_readable(fd));
    ssize_t r = recv(fd, &byte, 1, 0);
    ck_assert_msg(r == 0, "not the end but %s", r > 0 ? "a byte" : strerror(errno));
}

static inline void expect_reset(int fd)
{
    char byte;
    ck_assert(becomes_readable(fd));
    ck_assert_int_eq(recv(fd, &byte, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
}

static inline void expect_nothing_yet(int fd)
{
    char byte;
    ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
}

/* Makes close(2) send RST. */
static inline void close_hard(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
}

/* The same numbers on every run (xorshift64*). */
static inline uint32_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}
