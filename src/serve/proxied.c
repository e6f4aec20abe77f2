#include "serve/proxied.h"

#include "base/proxy_header.h"

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

struct span proxied_path(const struct proxied *proxied)
{
    struct proxy_header header = {0};
    if (proxied && proxied->length > 0)
        proxy_header_parse((struct span){proxied->header, proxied->length}, &header);
    return header.source.path;
}
