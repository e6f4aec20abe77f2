/* Gathers what is to be known of a connection, for a service that describes it. */
#include "serve/connection.h"

#include "base/clock.h"
#include "serve/connection_view.h"
#include "serve/proxied.h"
#include "serve/service_config.h"
#include "serve/worker.h"

#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union socket_name {
    struct sockaddr any;
    struct sockaddr_storage room;
    struct sockaddr_un path;
};

/* Of a name that getsockname(2) or getpeername(2) filled in; the path stays a part of it. */
static struct proxy_endpoint endpoint_of(const union socket_name *name, socklen_t length)
{
    struct proxy_endpoint endpoint = {0};
    address_from_sockaddr(&name->any, &endpoint.address);
    if (endpoint.address.family != AF_UNIX || length <= offsetof(struct sockaddr_un, sun_path))
        return endpoint;
    size_t room = length - offsetof(struct sockaddr_un, sun_path);
    endpoint.path.bytes = (const uint8_t *)name->path.sun_path;
    /* An abstract name has its length, and a path a NUL at its end (unix(7)). */
    endpoint.path.length = name->path.sun_path[0] ? strnlen(name->path.sun_path, room) : room;
    return endpoint;
}

static bool get_tcp(const struct connection *c, struct tcp_view *out)
{
    struct tcp_info info;
    if (!connection_tcp_info(c, &info))
        return false;
    *out = (struct tcp_view){
        .rtt_usec = info.tcpi_rtt, .rttvar_usec = info.tcpi_rttvar, .mss = info.tcpi_snd_mss};
    socklen_t length = sizeof out->congestion_control - 1;
    getsockopt(c->source.fd, IPPROTO_TCP, TCP_CONGESTION, out->congestion_control, &length);
    return true;
}

/* What a view points to. */
struct looked {
    union socket_name server, peer;
    struct ucred credentials;
    struct tcp_view tcp;
    struct proxy_header header;
    char host[HOST_NAME_MAX + 1];
};

static void look_at_socket(const struct connection *c, struct looked *looked, struct connection_view *view)
{
    int fd = c->source.fd;
    socklen_t length = sizeof looked->server;
    view->peer.address = c->proxied ? c->proxied->proxy : c->client;
    if (getsockname(fd, &looked->server.any, &length) == 0)
        view->server = endpoint_of(&looked->server, length);
    if (view->server.address.family != AF_UNIX) {
        view->tcp = get_tcp(c, &looked->tcp) ? &looked->tcp : NULL;
        return;
    }
    length = sizeof looked->peer;
    if (getpeername(fd, &looked->peer.any, &length) == 0)
        view->peer = endpoint_of(&looked->peer, length);
    length = sizeof looked->credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &looked->credentials, &length) == 0)
        view->credentials = &looked->credentials;
}

static void look_at_proxy(const struct connection *c, struct looked *looked, struct connection_view *view)
{
    if (!c->proxied)
        return;
    struct span bytes = {c->proxied->header, c->proxied->length};
    if (proxy_header_parse(bytes, &looked->header) == PROXY_HEADER_COMPLETE)
        view->header = &looked->header;
}

size_t connection_describe(struct connection *c, uint8_t out[static SERVICE_DESCRIPTION_SIZE])
{
    struct looked looked = {0};
    struct connection_view view = {
        .id = c->id,
        .accepted_usec = clock_usec(CLOCK_REALTIME) - (clock_monotonic_usec() - c->accepted_usec),
        .listener = c->config->listener,
        .service = c->config->service->name,
        .host = gethostname(looked.host, sizeof looked.host) == 0 ? looked.host : NULL,
        .worker = c->worker->index + 1,
    };
    look_at_socket(c, &looked, &view);
    look_at_proxy(c, &looked, &view);
    return service_describe(c->config->service, &c->state, &view, out);
}
