/* Places to listen at. */
#pragma once

#include "common.h"
#include "serve/listener.h"

static const struct socket_settings usual = {
    .backlog = 16, .keepalive_sec = 60, .user_timeout_msec = 60000, .unsent_limit = 262144};

/* "*" is every address. */
static inline struct listen_address at(const char *text, uint16_t port)
{
    struct listen_address listen_address = {.any = strcmp(text, "*") == 0, .port = port};
    if (!listen_address.any)
        ck_assert_int_eq(address_parse(text, port, &listen_address.at), 0);
    return listen_address;
}

static inline bool is_at(const struct listener *listener, const char *text, uint16_t port)
{
    const struct listen_address listen_address = at(text, port);
    return listener_is_at(listener, &listen_address);
}

static inline bool has_ipv6(void)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

static inline int accept_one(struct listener *listener, struct address *client)
{
    int fd = -1;
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert_int_eq(listener_accept(listener, &fd, client), 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}
