#include "serve/connection_state.h"

#include "serve/proxied.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* tcpi_state of a connection that is lost: TCP_CLOSE of <netinet/tcp.h>, which does not go with
 * <linux/tcp.h>. */
#define STATE_CLOSE 7

struct unsent *unsent_new(const uint8_t *bytes, size_t length)
{
    struct unsent *unsent = malloc(sizeof *unsent + length);
    if (!unsent)
        return NULL;
    unsent->start = 0;
    unsent->end = length;
    unsent->taken = UNSENT_NOT_LOOKED; /* most are sent before anybody looks */
    memcpy(unsent->bytes, bytes, length);
    return unsent;
}

bool connection_tcp_info(const struct connection *c, struct tcp_info *info)
{
    socklen_t length = sizeof *info;
    *info = (struct tcp_info){0};
    return getsockopt(c->source.fd, IPPROTO_TCP, TCP_INFO, info, &length) == 0;
}

uint32_t connection_arrived(const struct connection *c)
{
    int bytes;
    return ioctl(c->source.fd, SIOCINQ, &bytes) < 0 || bytes < 0 ? 0 : (uint32_t)bytes;
}

uint32_t connection_unacknowledged(const struct connection *c)
{
    int bytes;
    if (ioctl(c->source.fd, SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0;
    /* Our FIN counts as one. */
    return c->lingering && bytes > 0 ? (uint32_t)bytes - 1 : (uint32_t)bytes;
}

bool connection_left_unread(const struct connection *c)
{
    struct tcp_info info;
    return connection_tcp_info(c, &info) && info.tcpi_bytes_acked < c->bytes_out;
}

/* What its kernel has acknowledged is taken, and so is what may still be on its way to it: it may have closed
 * its sending side alone. One that misbehaves may have left unread what the client has sent. */
bool connection_is_probe(const struct connection *c, enum reason reason)
{
    if (c->bytes_in > 0 || (c->misbehaves && connection_arrived(c) > 0) ||
        (reason != REASON_CLIENT_CLOSED && reason != REASON_RESET && reason != REASON_SERVED))
        return false;
    if (proxied_is_check(c->proxied)) /* it may look at what the service says */
        return true;
    struct tcp_info info;
    return c->bytes_out <= c->state.greeted ||
           (connection_tcp_info(c, &info) && info.tcpi_state == STATE_CLOSE &&
            info.tcpi_bytes_acked <= c->state.greeted);
}
