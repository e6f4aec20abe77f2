/* listener_adopt: what another process has made, read back from the socket. */
#include "base/address.h"
#include "serve/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int get_option(int fd, int level, int option, int *value)
{
    socklen_t length = sizeof *value;
    return getsockopt(fd, level, option, value, &length) < 0 ? -errno : 0;
}

/* Returns 0 for a listening stream socket of a family that we serve. */
static int check_listening(int fd)
{
    int family, type, protocol, listens;
    int r = get_option(fd, SOL_SOCKET, SO_DOMAIN, &family);
    if (r == 0)
        r = get_option(fd, SOL_SOCKET, SO_TYPE, &type);
    if (r == 0)
        r = get_option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol);
    if (r == 0)
        r = get_option(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens);
    if (r < 0)
        return r;
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return -EAFNOSUPPORT;
    if (type != SOCK_STREAM)
        return -ESOCKTNOSUPPORT;
    if (family != AF_UNIX && protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
        return -EPROTONOSUPPORT;
    return listens ? 0 : -EINVAL;
}

/* systemd asks the same when it makes 0.0.0.0 of a port without an address. A socket(2) of our own would not
 * tell: the sandbox of a service that opens none may forbid it. */
static bool host_has_ipv6(void)
{
    return access("/proc/self/net/if_inet6", F_OK) == 0;
}

static int read_ip_place(struct listener *listener, int fd, const struct sockaddr *sockaddr)
{
    struct listen_address *listen_address = &listener->listen_address;
    int v6_only = 1;
    address_from_sockaddr(sockaddr, &listen_address->at);
    listen_address->port = listener->port = listen_address->at.port;
    if (address_is_any(&listen_address->at) && listen_address->at.family == AF_INET6) {
        int r = get_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only);
        if (r < 0)
            return r;
    }
    listen_address->any = !v6_only;
    listener->without_v6 =
        listen_address->at.family == AF_INET && address_is_any(&listen_address->at) && !host_has_ipv6();
    if (listen_address->any)
        snprintf(listener->name, sizeof listener->name, "*:%u", listen_address->port);
    else
        address_format(&listen_address->at, ADDRESS_FULL, listener->name);
    return 0;
}

static int read_unix_place(struct listener *listener, const struct sockaddr_un *sockaddr, socklen_t length)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (length <= head || sockaddr->sun_path[0] == '\0')
        return -EDESTADDRREQ;
    /* A path that fills the field has no NUL (unix(7)). */
    listener->listen_address.path = strndup(sockaddr->sun_path, length - head);
    if (!listener->listen_address.path)
        return -ENOMEM;
    snprintf(listener->name, sizeof listener->name, "%s", listener->listen_address.path);
    /* Of one that is our own the path is, too, if it is there. */
    if (!listener->passed_as && lstat(listener->listen_address.path, &listener->inode) < 0)
        listener->inode.st_ino = 0;
    return 0;
}

/* `any` and the address or the path, as another process has bound them. */
static int read_place(struct listener *listener, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
        struct sockaddr_un un;
    } sockaddr = {0};
    socklen_t length = sizeof sockaddr;
    if (getsockname(fd, &sockaddr.any, &length) < 0)
        return -errno;
    if (sockaddr.any.sa_family == AF_UNIX)
        return read_unix_place(listener, &sockaddr.un, length);
    return read_ip_place(listener, fd, &sockaddr.any);
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if (flags & O_NONBLOCK)
        return 0;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int listener_adopt(int fd, const char *name, struct listener **out)
{
    int r = check_listening(fd);
    if (r < 0)
        return r;
    struct listener *listener = listener_new();
    if (!listener)
        return -ENOMEM;
    if (name)
        listener->passed_as = strdup(name);
    r = !name || listener->passed_as ? read_place(listener, fd) : -ENOMEM;
    if (r == 0)
        r = set_nonblocking(fd);
    if (r < 0) {
        listener_close(listener);
        return r;
    }
    listener->source.fd = fd;
    *out = listener;
    return 0;
}
