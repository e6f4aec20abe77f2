/* What happens to the daemon itself, as messages: one function a kind of event, beside serve/connection_log.h
 * for those of connections. log.rate never holds them back. Main thread. */
#pragma once

#include "serve/acceptor.h"
#include "serve/worker_pool.h"
#include "settings/problems.h"
#include "settings/settings.h"

#include <stdint.h>

/* Those that say what failed take the problems that the caller hands on, and add it there; NULL: nobody reads
 * them. */

/* Every problem of the settings, one message each, at error. */
void daemon_log_problems(const struct problems *problems);

/* At info, one for each listening socket; whatever the level when the kernel has picked its port, which
 * nobody could know otherwise. */
void daemon_log_listening(const struct listener *listener, bool is_picked);

/* At notice: the options in `lacks` that it goes on without. */
void daemon_log_lacking(const struct listener *listener);

/* At warning: it takes a client's address from whoever connects. */
void daemon_log_trusting(const struct listener *listener);

/* At notice: what it does on purpose; whatever the level when some of that is left to chance and nobody has
 * set the seed. */
void daemon_log_misbehaving(const struct listener *listener, const struct listener_settings *settings);

/* At error, with what to do about it. */
void daemon_log_cannot_listen(struct problems *problems, const struct listener_settings *settings, int error);

/* The same for a descriptor that was passed as `name` and that is `what`, no socket to listen on; or NULL
 * when `error` kept it from being looked at. */
void daemon_log_cannot_adopt(struct problems *problems, int fd, const char *name, const char *what,
                             int error);

/* The same for a socket that was passed and that these settings have no listener for. */
void daemon_log_not_served(struct problems *problems, const struct listener *listener,
                           const struct settings *settings);

/* At notice: IPv6 loopback addresses are left out, and, unless only the loopback interface has no IPv6, "*"
 * is IPv4 alone. */
void daemon_log_no_ipv6(bool is_loopback);

/* At warning, when max_connections `asked` for more than there is room for. */
void daemon_log_room(uint64_t room, uint64_t asked);

/* At notice. */
void daemon_log_ready(unsigned listeners, unsigned workers, uint64_t room);

/* At warning: the descriptor limit could not be raised to the hard limit. */
void daemon_log_descriptor_limit(uint64_t limit, int error);

/* At error: `what` could not be done at start or while serving. */
void daemon_log_system_error(struct problems *problems, const char *what, int error);

/* At error: there is no /dev/null, whose descriptor is kept in reserve. */
void daemon_log_no_null(struct problems *problems, int error);

/* At notice. */
void daemon_log_reloaded(const char *file, bool is_absent, unsigned listeners);

/* At error: nothing has changed. */
void daemon_log_reload_failed(struct problems *problems, const char *file);

/* At error: the daemon is stopping. */
void daemon_log_reload_too_late(struct problems *problems);

/* At warning: the new value waits for a restart. */
void daemon_log_needs_restart(const char *setting, const char *in_force, const char *wanted);

/* At warning: an option, or the path's mode, of a socket that stays could not be changed. */
void daemon_log_cannot_configure(const struct listener *listener, int error);

/* At warning. */
void daemon_log_reload_not_begun(int error);
void daemon_log_reload_not_answered(int error);

/* At warning: what it was that failed. */
void daemon_log_watchdog_off(const char *what, int error);

/* At error: `who`, with this thread id, has not given a sign of life for so long. Any thread. */
void daemon_log_stuck(const char *who, pid_t thread, uint64_t usec);

/* At error. Any thread. */
void daemon_log_cannot_notify(int error);

/* At warning: the listeners may not be kept for a restart. */
void daemon_log_not_kept(const char *what, int error);

/* At notice: the next process has, or gets, so many connections. */
void daemon_log_handing_over(const char *to, uint64_t connections);

/* At error: why there is no hand-over, and what happens now. */
void daemon_log_not_handed_over(const char *what, const char *why, const char *consequence);

/* At error: what a process before has left cannot be read. */
void daemon_log_state_unreadable(int error);

/* What a process before has left, and what has become of it. */
struct taken_over {
    uint64_t listeners;
    uint64_t resumed;       /* connections that go on */
    uint64_t closed;        /* connections that nothing is known of */
    uint64_t lost;          /* connections that did not come */
    bool has_ended_unasked; /* it left its listeners alone */
    bool is_short;          /* of descriptors: the connections were finished */
};

/* At notice, or at warning when connections were closed or lost. */
void daemon_log_taken_over(const struct taken_over *taken);

/* At error: connections that are closed, as this process cannot start. */
void daemon_log_given_up(struct problems *problems, uint64_t connections);

/* At error: the listeners of before stay as they were. */
void daemon_log_listeners_stay(struct problems *problems);

/* At notice. */
void daemon_log_stop_delayed(const char *why, uint64_t delay_usec);
void daemon_log_stopping(const char *why, uint64_t connections);
void daemon_log_stopped(uint64_t cut);

/* At notice: the totals, and a line for each worker. SIGUSR1. */
void daemon_log_counters(const struct acceptor *acceptor, const struct worker_pool *pool);

/* "2 connections, 0 queued, 17 accepted, 3 refused (denied 3), 0 waits": also systemd's STATUS=. Writes at
 * most `size` bytes with the NUL. */
void format_status(const struct acceptor *acceptor, const struct worker_pool *pool, char *out, size_t size);
