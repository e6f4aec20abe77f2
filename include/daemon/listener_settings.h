/* One listener's settings as a value: made, completed, compared, given up. Main thread only. */
#pragma once

#include "daemon/settings.h"

#include <stddef.h>

struct settings_source;

void prefix_list_clear(struct prefix_list *list); /* also for CLEANUP() */

/* "echo", mode 0666, and nothing else. */
void listener_init(struct listener_settings *listener);
void listener_clear(struct listener_settings *listener); /* also for CLEANUP() */

/* Sets `any` or `at` after address and port. Returns 0; -EINVAL: the address is none. */
int listener_resolve(struct listener_settings *listener);

/* Takes over from the global settings what the listener does not set itself. Returns 0 or -ENOMEM. */
int listener_inherit(struct listener_settings *listener, const struct settings *settings);

/* Moves the listener to the end of settings->listeners. Returns 0, or -ENOMEM with the listener still the
 * caller's. */
int settings_add_listener(struct settings *settings, struct listener_settings *listener);

/* Room for what listener_place_text writes. */
#define LISTENER_PLACE_SIZE 128

/* "127.0.0.1:7", "[::1]:7", "*:7", "/run/echo.sock". Returns `out`. */
const char *listener_place_text(const struct listener_settings *listener,
                                char out[static LISTENER_PLACE_SIZE]);

/* True when both cannot be bound at one time: the same place, or one is every address and the other one of
 * them. A listener on [::] takes IPv6 only, so 0.0.0.0 may stand beside it. Port 0 is no certain place and
 * never clashes. */
bool listener_clashes(const struct listener_settings *a, const struct listener_settings *b);

/* Room for why an address or a SPEC was refused. */
#define LISTENER_WHY_SIZE 320

/* Whether a listener can have this address: NULL when it can; or what to add to "must be a numeric address":
 * "; did you mean ...?", "; there is no interface ...", or "". An address that no client can ever reach is
 * refused: multicast, broadcast, link-local without its interface. May write to `out`. */
const char *listener_address_problem(const char *text, char out[static LISTENER_WHY_SIZE]);

/* A SPEC of --listen. Returns 0 with *out owned by the caller; -EINVAL or -ENOMEM with *out untouched and the
 * reason in `why`. */
int listener_from_spec(const char *spec, struct listener_settings *out, char why[static LISTENER_WHY_SIZE]);
