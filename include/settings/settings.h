/* The settings in force, as plain values. One table (table.h) says for each its name, type, bounds, default
 * and meaning; reading, checking, --dump, --help and the installed file all follow from it.
 *
 * Main thread only. */
#pragma once

#include "base/address.h"
#include "base/log.h"
#include "settings/listener_settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct problems;

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
    unsigned unsent_limit;  /* bytes */
    unsigned tcp_keepalive; /* seconds */
    unsigned busy_poll_usec;

    enum log_level log_level;
    enum log_target log_target;
    bool log_connections;
    unsigned log_rate;
    enum address_detail log_addresses;

    bool from_file; /* false: the built-in defaults, since the default file is absent */
};

/* Where settings come from: a file, and the command line over it. The texts are the caller's. */
struct settings_source {
    const char *file;
    bool file_is_named;  /* that it cannot be read is an error; otherwise it may be absent */
    const char **listen; /* SPECs of --listen, which replace the file's listeners */
    size_t listen_count;
    int64_t workers; /* -1: not given */
    int log_level;   /* enum log_level; -1: not given */
};

/* Reads the file, or the built-in defaults when the default file is absent, and lays the command line over
 * it. Returns 0 with *out owned by the caller (settings_free), or -EINVAL with every problem that was found
 * added to `problems`, in order, and *out untouched. Nothing is opened but the file. */
int settings_load(const struct settings_source *source, struct problems *problems, struct settings **out);

/* All defaults and no listeners. NULL when memory is short. */
struct settings *settings_new(void);

void settings_free(struct settings *settings);
void settings_freep(struct settings **settings); /* for CLEANUP() */

/* --dump: every setting with its value, in the file's syntax. Returns 0 or a negative errno (a full disk). */
int settings_dump(const struct settings *settings, FILE *out);

/* Puts back in `command` what a reload cannot change, and calls `tell` for each setting that differs. */
void settings_keep_until_restart(const struct settings *in_force, struct settings *wanted,
                                 void (*tell)(const char *name, const char *in_force, const char *wanted));
