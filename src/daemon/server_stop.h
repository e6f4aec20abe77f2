/* The end that was asked for: no new clients, at once or after stop_delay, and the answers under way are
 * finished, for drain_timeout at most. Main thread. */
#pragma once

#include <stdbool.h>

struct server;

/* Before the loop turns. */
void server_stop_init(struct server *server);

/* By SIGTERM: stops after stop_delay, and says so; until then new clients are served as before. */
void server_stop_delayed(struct server *server);

/* Begins to drain; the loop quits when the workers are drained, or the time is up. With `goes_on` another
 * process gets the listeners, and who connects meanwhile waits for it. */
void server_stop(struct server *server, const char *why, bool goes_on);
