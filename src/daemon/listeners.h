/* Brings the acceptor's listeners in line with the settings: at start, when there are none yet, and on
 * reload. */
#pragma once

#include "daemon/passed_sockets.h"
#include "serve/acceptor.h"
#include "settings/settings.h"

/* At start: the same as listeners_apply, but a row whose address a passed socket has is served on that. A
 * socket that cannot be served or that no row is for is an error, so on success all of `passed` are in use,
 * and stay so: what was passed listens as long as the service manager wants it to. */
int listeners_start(struct acceptor *acceptor, const struct settings *settings, struct passed_sockets *passed,
                    struct problems *problems);

/* All or nothing: every new socket is opened and every text copied before the first listener changes. A
 * listener whose address stays keeps its socket and its backlog; connections keep what they were
 * accepted under. Settings that have no row for a socket that was passed are refused.
 *
 * Returns 0, or a negative errno with nothing changed and every failure reported: -EADDRINUSE and the like
 * when some address cannot be had. Main thread. */
int listeners_apply(struct acceptor *acceptor, const struct settings *settings, struct problems *problems);
