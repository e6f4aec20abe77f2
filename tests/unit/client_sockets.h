/* Servers and connections as the client's unit tests need them. */
#pragma once

#include "client/net/target.h"

#include "common.h"

static inline struct endpoint endpoint_at(uint32_t host, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(host)}};
    struct endpoint endpoint = {.length = sizeof name};
    memcpy(&endpoint.address, &name, sizeof name);
    return endpoint;
}

/* A socket of 127.0.0.1 with a port of its own; it refuses who connects. */
static inline int bind_anywhere(struct endpoint *endpoint)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    *endpoint = endpoint_at(INADDR_LOOPBACK, port_of(fd));
    return fd;
}

/* One that listens. */
static inline int listen_anywhere(int backlog, struct endpoint *endpoint)
{
    int fd = bind_anywhere(endpoint);
    ck_assert_int_eq(listen(fd, backlog), 0);
    return fd;
}

#define WAITING 4

/* One that takes nobody any more: those that wait are more than its backlog. Closes them in the end. */
static inline int listen_full(struct endpoint *endpoint, int waiting[static WAITING])
{
    int fd = listen_anywhere(0, endpoint);
    for (size_t i = 0; i < WAITING; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(waiting[i], (const struct sockaddr *)&endpoint->address, endpoint->length);
    }
    return fd;
}

static inline void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}
