/* The main loop: what wakes it, and what is done then. Main thread. */
#pragma once

struct server;

/* The loop, with what wakes it: signals, the terminal's end, and later the listeners. Returns 0 or a negative
 * errno with server->step set and nothing to close. */
int server_loop_open(struct server *server);
void server_loop_close(struct server *server);

/* Says that the daemon is ready, and turns the loop until it stops, or fails: with server->exit_status set.
 */
void server_loop_run(struct server *server);
