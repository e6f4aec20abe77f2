/* How a client has come by a proxy, which said whose connection it relays (base/proxy_header.h). It lives as
 * long as the connection, and is constant. */
#pragma once

#include "base/address.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum proxied_kind {
    PROXIED_UNKNOWN, /* the header says nobody's address: the client is the proxy, as far as we know */
    PROXIED_CLIENT,  /* the client is who the header says */
    PROXIED_CHECK,   /* LOCAL: the proxy speaks for itself, as in its health checks; HAProxy also says it of
                      * clients at a Unix socket of its own */
    PROXIED_KINDS,
};

struct proxied {
    struct address proxy; /* the peer of our socket, which has sent the header */
    enum proxied_kind kind;
    size_t length; /* of the header as it came; 0: nothing of it is shown, and it is not kept */
    uint8_t header[];
};

/* Who has brought a client that is not the proxy itself; NULL: nobody. */
static inline const struct address *proxied_by(const struct proxied *proxied)
{
    return proxied && proxied->kind == PROXIED_CLIENT ? &proxied->proxy : NULL;
}

static inline bool proxied_is_check(const struct proxied *proxied)
{
    return proxied && proxied->kind == PROXIED_CHECK;
}

/* Of a client at a Unix socket, as in proxy_header.h, and a part of the header; empty: none is known. */
struct span proxied_path(const struct proxied *proxied);

/* One piece of memory for free(3); it copies the header, which may be empty. NULL: memory is short. */
struct proxied *proxied_new(const struct address *proxy, enum proxied_kind kind, struct span header);
