#include "serve/proxied.h"

#include <stdlib.h>
#include <string.h>

struct proxied *proxied_new(const struct address *proxy, enum proxied_kind kind, struct span header)
{
    struct proxied *proxied = malloc(sizeof *proxied + header.length);
    if (!proxied)
        return NULL;
    proxied->proxy = *proxy;
    proxied->kind = kind;
    proxied->length = header.length;
    if (header.length > 0)
        memcpy(proxied->header, header.bytes, header.length);
    return proxied;
}
