/* One listener's settings as a value: completed, compared, given up. Main thread only. */
#pragma once

#include "base/address.h"
#include "serve/service.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct problems;
struct settings;

/* Whole: what the file leaves out is filled in from the global settings. */
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
    unsigned max_connections_per_source;                                        /* 0: no limit */
    bool own_idle_timeout, own_allow, own_deny, own_max_connections_per_source; /* set here, not inherited */
};

void listener_settings_clear(struct listener_settings *listener); /* also for CLEANUP() */

/* A SPEC of --listen: [SERVICE@]ADDRESS:PORT or [SERVICE@]/PATH, and ",NAME=VALUE" for each option. Returns 0
 * with *out owned by the caller; or -EINVAL with *out untouched and what is wrong, also that memory is short,
 * added to `problems`. */
int listener_settings_from_spec(const char *spec, struct problems *problems, struct listener_settings *out);

/* Takes over from the global settings what the listener does not set itself. Returns 0 or -ENOMEM. */
int listener_settings_inherit(struct listener_settings *listener, const struct settings *settings);

/* Moves the listener to the end of settings->listeners. Returns 0, or -ENOMEM with the listener still the
 * caller's. */
int listener_settings_add(struct settings *settings, struct listener_settings *listener);

/* Room for what listener_settings_place writes. */
#define LISTENER_PLACE_SIZE 128

/* "127.0.0.1:7", "[::1]:7", "*:7", "/run/echo.sock". Returns `out`. */
const char *listener_settings_place(const struct listener_settings *listener,
                                    char out[static LISTENER_PLACE_SIZE]);

/* True when both cannot be bound at one time: the same place, or one is every address and the other one of
 * them. A listener on [::] takes IPv6 only, so 0.0.0.0 may stand beside it. Port 0 is no certain place and
 * never clashes. */
bool listener_settings_clash(const struct listener_settings *a, const struct listener_settings *b);
