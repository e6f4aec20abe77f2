/* The settings in force, as plain values. One table (table.h) says for each its name, type, bounds, default
 * and meaning; reading, checking, --dump and the installed file all follow from it. */
#pragma once

#include "base/address.h"
#include "base/log.h"
#include "serve/misbehaviour.h"
#include "serve/service.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One listener, whole: what the file leaves out is filled in from the global settings. */
struct listener_settings {
    int line;          /* of the file; 0: from the command line or built in */
    char *address;     /* as written: "127.0.0.1", "::1", "*"; NULL with a path */
    bool any;          /* address is "*": IPv4 and IPv6 */
    struct address at; /* parsed, with the port; not with `any` or a path */
    uint16_t port;     /* 0: the kernel picks one */
    char *path;        /* AF_UNIX; NULL with an address */
    mode_t mode;       /* of the path */

    const struct service *service;
    char *text;     /* NULL: not set */
    char *greeting; /* NULL: not set */
    char *end_word; /* NULL: not set */
    bool trace;

    uint64_t idle_timeout; /* usec, or USEC_NEVER */
    struct prefix_list allow;
    struct prefix_list deny;
    unsigned max_connections_per_source; /* 0: no limit */
    bool proxy_protocol;
    uint64_t proxy_timeout; /* usec */
    struct prefix_list proxy_from;
    struct misbehaviour_params misbehaviour; /* its seed is 0: to be drawn */
    bool own_idle_timeout, own_allow, own_deny, own_max_connections_per_source; /* set here, not inherited */
};

enum overload_policy {
    OVERLOAD_WAIT,   /* the kernel's backlog holds new clients until there is room */
    OVERLOAD_REFUSE, /* they are closed at once */
};

struct settings {
    struct listener_settings *listeners;
    size_t listener_count;

    unsigned workers; /* 0: one for each CPU that the process may use */
    unsigned queue_depth;
    unsigned backlog;
    unsigned max_connections; /* 0: what the descriptor limit allows */
    enum overload_policy overload;
    unsigned max_connections_per_source;
    unsigned source_prefix_v4; /* bits */
    unsigned source_prefix_v6;
    struct prefix_list allow;
    struct prefix_list deny;
    uint64_t idle_timeout;  /* usec, or USEC_NEVER */
    uint64_t write_timeout; /* the same */
    uint64_t drain_timeout; /* usec */
    uint64_t stop_delay;    /* usec */
    unsigned unsent_limit;  /* bytes */
    unsigned tcp_keepalive; /* seconds */
    unsigned busy_poll_usec;

    enum log_level log_level;
    enum log_target log_target;
    bool log_connections;
    unsigned log_rate;
    enum address_detail log_addresses;
    enum log_format log_format;

    bool is_quiet; /* a port that the kernel has picked is logged as any other */

    bool from_file; /* false: the built-in defaults, since the default file is absent */
};
