#include "serve/listener.h"

#include "base/cleanup.h"
#include "base/socket_option.h"
#include "serve/socket_path.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

/* A host without IPv6 has IPv4 all the same; where neither can be had the process may make no IP socket
 * (systemd.exec(5), RestrictAddressFamilies=). */
static int open_ip_socket(int family)
{
    int fd = open_socket(family);
    if (fd != -EAFNOSUPPORT)
        return fd;
    CLEANUP(fd_close) int v4 = open_socket(AF_INET);
    if (v4 >= 0)
        return -EAFNOSUPPORT;
    return v4 == -EAFNOSUPPORT ? -EPFNOSUPPORT : v4;
}

static int bind_to(int fd, const struct address *address)
{
    struct sockaddr_storage sockaddr;
    socklen_t length = address_to_sockaddr(address, &sockaddr);
    return bind(fd, (const struct sockaddr *)&sockaddr, length) < 0 ? -errno : 0;
}

static int bind_ip(int fd, const struct listen_address *listen_address, const struct address *address,
                   bool shares)
{
    /* A restart binds at once although old connections of the port are in TIME_WAIT (socket(7)). */
    int r = socket_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (r == 0 && address->family == AF_INET6)
        r = socket_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !listen_address->any);
    if (r == 0)
        r = bind_to(fd, address);
    if (r != -EADDRINUSE || !shares)
        return r;
    /* Only when there is an overlap: the kernel remembers with the port that it was shared, also when no
     * socket has the option any more, and then lets other processes of the user join. */
    r = socket_set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return r < 0 ? r : bind_to(fd, address);
}

/* Reads the port that the kernel picked back, and names the listener. */
static int name_ip(struct listener *listener, const struct address *bound)
{
    struct sockaddr_storage sockaddr;
    socklen_t length = sizeof sockaddr;
    if (getsockname(listener->source.fd, (struct sockaddr *)&sockaddr, &length) < 0)
        return -errno;
    struct address address = *bound;
    struct address named;
    address_from_sockaddr((const struct sockaddr *)&sockaddr, &named);
    address.port = listener->port = named.port;
    if (listener->listen_address.any)
        snprintf(listener->name, sizeof listener->name, "*:%u", address.port);
    else
        address_format(&address, ADDRESS_FULL, listener->name);
    return 0;
}

/* `any` is :: without IPV6_V6ONLY, or 0.0.0.0 on a host without IPv6. */
static int open_ip(struct listener *listener, bool shares)
{
    const struct listen_address *listen_address = &listener->listen_address;
    const struct address every = {.family = AF_INET6, .port = listen_address->port};
    struct address address = listen_address->any ? every : listen_address->at;
    int fd = open_ip_socket(address.family);
    if (fd == -EAFNOSUPPORT && listen_address->any) {
        listener->without_v6 = true;
        address.family = AF_INET;
        fd = open_ip_socket(address.family);
    }
    if (fd < 0)
        return fd;
    listener->source.fd = fd;
    int r = bind_ip(fd, listen_address, &address, shares);
    return r < 0 ? r : name_ip(listener, &address);
}

static int open_path(struct listener *listener, int backlog)
{
    int fd = open_socket(AF_UNIX);
    if (fd < 0)
        return fd;
    listener->source.fd = fd;
    snprintf(listener->name, sizeof listener->name, "%s", listener->listen_address.path);
    return socket_path_bind(fd, listener->listen_address.path, listener->listen_address.mode, backlog,
                            &listener->inode);
}

static uint64_t last_id; /* main thread only */

uint64_t listener_last_id(void)
{
    return last_id;
}

void listener_restore_last_id(uint64_t id)
{
    if (last_id < id)
        last_id = id;
}

struct listener *listener_new(void)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return NULL;
    listener->id = ++last_id;
    listener->source.fd = -1;
    list_init(&listener->link);
    return listener;
}

int listener_open(const struct listen_address *listen_address, const struct socket_settings *settings,
                  bool shares, struct listener **out)
{
    struct listener *listener = listener_new();
    if (!listener)
        return -ENOMEM;
    listener->listen_address = *listen_address;
    int r = 0;
    if (listen_address->path) {
        listener->listen_address.path = strdup(listen_address->path);
        r = listener->listen_address.path ? open_path(listener, settings->backlog) : -ENOMEM;
    } else {
        r = open_ip(listener, shares);
    }
    if (r == 0)
        r = listener_configure(listener, listen_address->mode, settings);
    if (r < 0) {
        listener_close(listener);
        return r;
    }
    *out = listener;
    return 0;
}

void listener_share(struct listener *listener, bool shares)
{
    /* Without it a reload may find an overlapping address in use, and says so. A socket that was passed never
     * has to make room. */
    if (!listener->listen_address.path && !listener->passed_as)
        socket_set_option(listener->source.fd, SOL_SOCKET, SO_REUSEPORT, shares);
}

/* Notes the option when this kind of socket has none such: the service goes on without it. */
static int set_if_known(struct listener *listener, int level, int option, int value, const char *name)
{
    int r = socket_set_option(listener->source.fd, level, option, value);
    if (r != -ENOPROTOOPT && r != -EOPNOTSUPP)
        return r;
    size_t length = strlen(listener->lacks);
    if (!strstr(listener->lacks, name))
        snprintf(listener->lacks + length, sizeof listener->lacks - length, "%s%s", length > 0 ? ", " : "",
                 name);
    return 0;
}

/* Accepted sockets inherit these from the listening one, which saves a system call for each client. */
static int set_tcp_options(struct listener *listener, const struct socket_settings *settings)
{
    int r = set_if_known(listener, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    /* An urgent byte (RFC 6093) is a byte of the stream like every other. */
    if (r == 0)
        r = set_if_known(listener, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE");
    if (r == 0)
        r = set_if_known(listener, SOL_SOCKET, SO_KEEPALIVE, settings->keepalive_sec > 0, "SO_KEEPALIVE");
    if (r == 0 && settings->keepalive_sec > 0)
        r = set_if_known(listener, IPPROTO_TCP, TCP_KEEPIDLE, (int)settings->keepalive_sec, "TCP_KEEPIDLE");
    if (r == 0)
        r = set_if_known(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)settings->user_timeout_msec,
                         "TCP_USER_TIMEOUT");
    /* Not SO_SNDBUF: that bounds what is on its way to the client as well, and with it the rate of a path
     * with delay. */
    if (r == 0)
        r = set_if_known(listener, IPPROTO_TCP, TCP_NOTSENT_LOWAT, settings->unsent_limit,
                         "TCP_NOTSENT_LOWAT");
    return r;
}

int listener_configure(struct listener *listener, mode_t mode, const struct socket_settings *settings)
{
    int fd = listener->source.fd, r = 0;
    if (!listener->listen_address.path)
        r = set_tcp_options(listener, settings);
    else if (!listener->passed_as)
        r = socket_path_set_mode(listener->listen_address.path, &listener->inode, mode);
    if (r < 0)
        return r;
    /* On a socket that listens already it changes the backlog alone. */
    return listen(fd, settings->backlog) < 0 ? -errno : 0;
}

void listener_set_config(struct listener *listener, struct service_config *config)
{
    if (listener->config && !service_config_misbehaves_alike(listener->config, config))
        listener->number = 0;
    service_config_unref(listener->config);
    listener->config = config;
}

bool listener_is_at(const struct listener *listener, const struct listen_address *listen_address)
{
    const struct listen_address *own = &listener->listen_address;
    /* Somebody may have removed the socket, or put something else there. */
    if (own->path || listen_address->path)
        return own->path && listen_address->path && strcmp(own->path, listen_address->path) == 0 &&
               (listener->passed_as || socket_path_is(own->path, &listener->inode));
    if (own->port != listen_address->port)
        return false;
    if (own->any || listen_address->any)
        return listen_address->any && (own->any || listener->without_v6);
    return address_equal_ip(&own->at, &listen_address->at);
}

static void remove_path(struct listener *listener)
{
    socket_path_remove(listener->listen_address.path, &listener->inode);
    listener->inode.st_ino = 0;
}

/* The kernel drops what comes to the socket with a smaller TTL or hop limit (ip(7), ipv6(7)): with 255 nearly
 * all of the world's packets. 0: none. One of the two fails where the socket has not both families. */
static void set_least_ttl(int fd, int ttl)
{
    socket_set_option(fd, IPPROTO_IP, IP_MINTTL, ttl);
    socket_set_option(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, ttl);
}

void listener_leave(struct listener *listener)
{
    listener->is_left = true;
    listener->inode.st_ino = 0; /* so that nothing removes the path */
}

bool listener_is_own(const struct listener *listener)
{
    return !listener->passed_as && !listener->is_left;
}

void listener_stop_handshakes(struct listener *listener)
{
    if (!listener_is_own(listener))
        return;
    if (listener->listen_address.path) {
        remove_path(listener);
        return;
    }
    /* It is looked at for a SYN, and not for the ACK that ends a handshake. When it fails the clients of one
     * instant may see a reset, as they would with any other server. */
    listener->is_stopped = true;
    set_least_ttl(listener->source.fd, 255);
}

/* What accept(2) says may be the client's doing, and then the next one is tried. */
static int class_accept_error(int error)
{
    switch (error) {
    case EAGAIN:
        return -EAGAIN;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return -EMFILE;
    case ECONNABORTED:
    case EINTR:
    case EPERM: /* a firewall's rule */
    case EPROTO:
    case ENETDOWN: /* these and the rest: errors that waited on the new socket (accept(2), "Error handling")
                    */
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
        return -ECONNABORTED;
    default:
        return -error;
    }
}

int listener_accept(struct listener *listener, int *fd, struct address *client)
{
    struct sockaddr_storage sockaddr = {0};
    socklen_t length = sizeof sockaddr;
    int r = accept4(listener->source.fd, (struct sockaddr *)&sockaddr, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (r < 0)
        return class_accept_error(errno);
    address_from_sockaddr((const struct sockaddr *)&sockaddr, client);
    if (listener->is_stopped) /* it has inherited that; what was dropped comes again */
        set_least_ttl(r, 0);
    /* A path's socket does not hand it down, unix(7). Linux before 5.15 has no urgent bytes there. */
    if (sockaddr.ss_family == AF_UNIX)
        socket_set_option(r, SOL_SOCKET, SO_OOBINLINE, 1);
    *fd = r;
    return 0;
}

void listener_close(struct listener *listener)
{
    if (!listener)
        return;
    if (listener->listen_address.path)
        remove_path(listener);
    fd_close(&listener->source.fd);
    service_config_unref(listener->config);
    free(listener->passed_as);
    free((char *)listener->listen_address.path);
    free(listener);
}
