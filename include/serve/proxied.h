/* How a client has come by a proxy, which said whose connection it relays (base/proxy_header.h). It lives as
 * long as the connection, and is constant. */
#pragma once

#include "base/address.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proxied {
    struct address proxy; /* the peer of our socket, which has sent the header */
    bool is_relayed;      /* the client is who the header says; else the proxy speaks for itself */
    size_t length;        /* of the header as it came; 0: nobody shows it, and it is not kept */
    uint8_t header[];
};

/* Who has brought a client that is not the proxy itself; NULL: nobody. */
static inline const struct address *proxied_by(const struct proxied *proxied)
{
    return proxied && proxied->is_relayed ? &proxied->proxy : NULL;
}

/* One piece of memory for free(3); it copies the header, which may be empty. NULL: memory is short. */
struct proxied *proxied_new(const struct address *proxy, bool is_relayed, struct span header);
