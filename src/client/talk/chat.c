#include "base/cleanup.h"
#include "base/json.h"
#include "base/socket_option.h"
#include "client/modes.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/terminal.h"
#include "client/talk/talk.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* More addresses than any name has that one would listen at. */
#define LISTENERS_MAX 16

struct listeners {
    struct pollfd items[LISTENERS_MAX + 1]; /* the last one in use is the interrupt's, which is not ours */
    nfds_t count;
};

static void close_listeners(struct listeners *listeners)
{
    for (nfds_t i = 0; i < listeners->count; i++)
        close(listeners->items[i].fd);
    listeners->count = 0;
}

/* A chat that has just ended may be in TIME_WAIT (SO_REUSEADDR); IPv4 has a socket of its own. Returns a
 * listening socket or a negative errno. */
static int listen_at(const struct endpoint *endpoint)
{
    CLEANUP(fd_close)
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -errno : socket_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (r == 0 && endpoint->address.ss_family == AF_INET6)
        r = socket_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (r == 0 && bind(fd, (const struct sockaddr *)&endpoint->address, endpoint->length) < 0)
        r = -errno;
    if (r == 0 && listen(fd, 1) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

/* At the same place for IPv4 and IPv6. */
static in_port_t *port_of(struct endpoint *endpoint)
{
    static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port), "");
    return &((struct sockaddr_in *)(void *)&endpoint->address)->sin_port;
}

/* A host without IPv6 has no socket for it, and is content with its other addresses. */
static bool may_be_missing(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* Leaves those addresses in `target` that are listened at. Returns 0, or a negative errno with the address in
 * `refused`. */
static int listen_at_all(struct target *target, struct listeners *listeners, struct endpoint *refused)
{
    in_port_t port = *port_of(&target->items[0]);
    int r = -EADDRNOTAVAIL;
    for (size_t i = 0; i < target->count && listeners->count < LISTENERS_MAX; i++) {
        struct endpoint *kept = &target->items[listeners->count];
        *refused = target->items[i];
        *port_of(refused) = port; /* the free one that the first socket got is the port of all */
        int fd = listen_at(refused);
        if (fd < 0 && !may_be_missing(-fd))
            return fd;
        r = fd;
        if (fd < 0)
            continue;
        listeners->items[listeners->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        *kept = *refused;
        kept->length = sizeof kept->address;
        if (getsockname(fd, (struct sockaddr *)&kept->address, &kept->length) < 0)
            return -errno;
        port = *port_of(kept);
    }
    target->count = listeners->count;
    return listeners->count > 0 ? 0 : r;
}

static const char *advice(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "; another socket has that port: ss -tanp shows it, also when it does not listen";
    case EADDRNOTAVAIL:
        return "; this host has no such address, or may not use it yet (ip address says tentative)";
    case EACCES:
        return "; ports below 1024 are for root, or with CAP_NET_BIND_SERVICE";
    default:
        return "";
    }
}

static int fail_listen(const struct endpoint *endpoint, int error)
{
    char name[ENDPOINT_TEXT_SIZE];
    int status = dial_exit_status(error);
    print_error("cannot listen at %s: %s%s", endpoint_format(endpoint, name), dial_reason(endpoint, error),
                advice(error));
    return error == EADDRINUSE ? EXIT_REFUSED : status;
}

/* One peer: the next one is refused, as the sockets are closed then. */
static int accept_peer(struct listeners *listeners, int interrupt_fd, int *fd, struct endpoint *peer)
{
    nfds_t interrupt = listeners->count;
    listeners->items[interrupt] = (struct pollfd){.fd = interrupt_fd, .events = POLLIN};
    for (;;) {
        if (poll(listeners->items, listeners->count + 1, -1) < 0 && errno != EINTR)
            return session_fail("wait for a peer", errno);
        if (listeners->items[interrupt].revents)
            return EXIT_INTERRUPTED;
        for (nfds_t i = 0; i < listeners->count; i++) {
            peer->length = sizeof peer->address;
            *fd = accept4(listeners->items[i].fd, (struct sockaddr *)&peer->address, &peer->length,
                          SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (*fd >= 0)
                return 0;
            /* Nobody at this one, or a peer that has left already; accept(2) reports errors of the network as
             * well. */
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                return session_fail("accept a peer", errno);
        }
    }
}

static void print_json_line(const char *address)
{
    struct json json = {.out = stderr, .one_line = true};
    json_open(&json, NULL, '{');
    json_text(&json, "event", "listening");
    json_text(&json, "address", address);
    json_close(&json, '}');
    fputc('\n', stderr);
}

static void print_addresses(const struct target *target, const struct client_options *options)
{
    char name[ENDPOINT_TEXT_SIZE];
    for (size_t i = 0; i < target->count; i++) {
        endpoint_format(&target->items[i], name);
        if (options->json)
            print_json_line(name);
        else if (options->verbose || isatty(STDERR_FILENO) == 1)
            print_error("listening at %s", name);
    }
}

/* With the peer's connection in *session. */
static int wait_for_peer(struct session *session)
{
    CLEANUP(close_listeners) struct listeners listeners = {0};
    struct endpoint refused, peer;
    int fd = -1;
    int r = listen_at_all(&session->target, &listeners, &refused);
    if (r < 0)
        return fail_listen(&refused, -r);
    print_addresses(&session->target, session->options);
    int status = accept_peer(&listeners, session->interrupt_fd, &fd, &peer);
    if (status != 0)
        return status;
    session_set_peer(session, fd, &peer);
    /* As of a socket that dials. They fail when the peer has left: the talk tells. */
    (void)socket_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    (void)socket_set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    return 0;
}

int chat_run(const struct client_options *options)
{
    CLEANUP(session_close) struct session session;
    talk_begin(options);
    int status = session_open(&session, options);
    if (status == 0)
        status = wait_for_peer(&session);
    if (status == EXIT_INTERRUPTED)
        interrupt_die();
    return status == 0 ? talk_with_peer(&session) : talk_fail(&session, status);
}
