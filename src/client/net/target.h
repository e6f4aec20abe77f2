/* What the user wrote, as addresses to connect to. */
#pragma once

#include "client/net/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define DEFAULT_PORT "7007"

struct endpoint {
    struct sockaddr_storage address;
    socklen_t length;
};

/* "127.0.0.1:7007", "[::1]:7007", or the path of a Unix socket with its control characters escaped. Returns
 * `out`. */
#define ENDPOINT_TEXT_SIZE 448
const char *endpoint_format(const struct endpoint *endpoint, char out[static ENDPOINT_TEXT_SIZE]);

struct target {
    const char *host;       /* of `owned`; NULL: all addresses of this host */
    const char *port;       /* the same, or the default; NULL: host is the path of a Unix socket */
    char *owned;            /* what was written */
    struct endpoint *items; /* owned; at least one */
    size_t count;
    const struct source *source; /* from where to connect; NULL: anywhere */
    const char *advice;          /* what to add when there is no such name */
};

/* `host` is a name, an address (IPv6 also in brackets) or, with a slash in it, a path; `port` a number or a
 * name of services(5), which may also follow the host ("NAME:PORT", "[ADDRESS]:PORT", "tcp://NAME:PORT"),
 * NULL for the default; a path has none. `family` is AF_UNSPEC, AF_INET or AF_INET6. `port` has to outlive
 * *out. Blocks on name servers. When there is no such name, `advice` follows the message. The families take
 * turns (RFC 8305, 4), whichever comes first. Returns 0, or an exit status after one line on stderr. */
int target_resolve(const char *host, const char *port, int family, const char *advice, struct target *out);

/* Whether such a `host` is a path; one with a scheme ("tcp://") is none. */
bool target_is_path(const char *host);

/* Whether such a `host` has its port with it. */
bool target_has_port(const char *host);

/* The same of an address to listen at, "PORT" or "ADDRESS:PORT": the address may be "*" or left out, for all,
 * and the port 0, for a free one. */
int target_resolve_local(const char *spec, int family, struct target *out);

/* Leaves those addresses that can be connected to from there, and remembers it. Returns 0, or an exit status
 * after one line on stderr. */
int target_limit(struct target *target, const struct source *source);
void target_clear(struct target *target); /* also for CLEANUP() */

/* "localhost port 7007", "port 7777" or the path. Returns `out`. */
#define TARGET_TEXT_SIZE 320
const char *target_format(const struct target *target, char out[static TARGET_TEXT_SIZE]);
