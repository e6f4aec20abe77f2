/* The settings in force, as plain values. One table (setting_table.h) says for each its name, type, bounds,
 * default and meaning; reading, checking, --dump, --help and the installed file all follow from it.
 *
 * Main thread only. */
#pragma once

#include "base/address.h"
#include "base/log.h"
#include "serve/service.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct options;
struct problems;

enum overload_policy {
    OVERLOAD_WAIT,   /* the kernel's backlog holds new clients until there is room */
    OVERLOAD_REFUSE, /* they are closed at once */
};

/* One row of `listeners`, whole: what the file leaves out is filled in from the global settings. */
struct listener_settings {
    int line;          /* of the file; 0: from the command line or built in */
    char *address;     /* as written: "127.0.0.1", "::1", "*"; NULL with a path */
    bool any;          /* address is "*": IPv4 and IPv6 */
    struct address at; /* parsed, with the port; not with `any` or a path */
    uint16_t port;     /* 0: the kernel picks one */
    char *path;        /* AF_UNIX; NULL with an address */
    mode_t mode;       /* of the path; default 0666 */

    const struct service *service;
    char *text;     /* NULL: not set */
    char *greeting; /* NULL: not set */
    char *end_word; /* NULL: not set */
    bool trace;

    double idle_timeout; /* seconds; 0: never */
    struct prefix_list allow;
    struct prefix_list deny;
    int64_t max_connections_per_source;                                         /* 0: no limit */
    bool own_idle_timeout, own_allow, own_deny, own_max_connections_per_source; /* set here, not inherited */
};

struct settings {
    struct listener_settings *listeners;
    size_t listener_count;

    int64_t workers; /* 0: one for each CPU that the process may use */
    int64_t queue_depth;
    int64_t backlog;
    int64_t max_connections; /* 0: what the descriptor limit allows */
    int64_t overload;        /* enum overload_policy */
    int64_t max_connections_per_source;
    int64_t source_prefix_v4; /* bits */
    int64_t source_prefix_v6;
    struct prefix_list allow;
    struct prefix_list deny;
    double idle_timeout; /* these in seconds */
    double write_timeout;
    double drain_timeout;
    int64_t unsent_limit;  /* bytes */
    int64_t tcp_keepalive; /* seconds */
    int64_t busy_poll_usec;

    int64_t log_level;  /* enum log_level */
    int64_t log_target; /* enum log_target */
    bool log_connections;
    int64_t log_rate;
    int64_t log_addresses; /* enum address_detail */

    bool from_file; /* false: the built-in defaults, since the default file is absent */
};

/* Reads the file that `options` name, or the built-in defaults when the default file is absent, and lays the
 * command line over it. Returns 0 with *out owned by the caller (settings_free), or -EINVAL with every
 * problem that was found added to `problems` and *out untouched. Nothing is opened but the file. */
int settings_load(const struct options *options, struct problems *problems, struct settings **out);

/* All defaults and no listeners. NULL when memory is short. */
struct settings *settings_new(void);

void settings_free(struct settings *settings);
void settings_freep(struct settings **settings); /* for CLEANUP() */

/* --dump: every setting with its value, in the file's syntax. Returns 0 or a negative errno (a full disk). */
int settings_dump(const struct settings *settings, FILE *out);

/* conf/tcpechod.conf: every setting, commented, with its default and its meaning. Same result. */
int settings_write_template(FILE *out);
