/* How settings come into force: at the start, and by a reload. Main thread. */
#pragma once

#include <stdint.h>
#include <sys/signalfd.h>

struct server;
struct settings;

#define SERVER_NO_ROOM "the descriptor limit leaves none for clients"

/* What is logged, where to, in which form, and what is shown of clients. */
void server_configure_log(const struct settings *settings);

/* All that a reload may change, but for the listeners, which are those of the settings already. Returns how
 * many clients there is room for. */
uint64_t server_apply_settings(struct server *server, const struct settings *settings);

/* What the exit status is when a positive errno keeps the listeners from being opened. */
int server_listen_status(int error);

/* By SIGHUP: the new settings whole, or not at all, and an answer for who waits for one. */
void server_reload(struct server *server, const struct signalfd_siginfo *info);
