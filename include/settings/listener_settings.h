/* One listener's settings as a value: completed, compared, given up. Main thread only. */
#pragma once

#include "settings/values.h"

struct problems;

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
