/* Brings the acceptor's listeners in line with the settings: at start, when there are none yet, and on
 * reload. */
#pragma once

#include "daemon/settings.h"
#include "serve/acceptor.h"

/* All or nothing: every new socket is opened and every text copied before the first listener changes. A
 * listener whose address stays keeps its socket and its backlog; connections keep the terms that they were
 * accepted under.
 *
 * Returns 0, or a negative errno with nothing changed and every failure reported: -EADDRINUSE and the like
 * when some address cannot be had. Main thread. */
int listeners_apply(struct acceptor *acceptor, const struct settings *settings);
