/* tcpechod --reload: asks a daemon that runs to reload, and hears how it went.
 *
 * SIGHUP says nothing back. So who asks sends it with a value (sigqueue(3)), the name of a socket on which it
 * waits for the outcome: an abstract AF_UNIX datagram socket whose name the kernel made of 20 bits (unix(7),
 * "Autobind"). It needs no file and no right but the one to send the signal; both must be in the same
 * network namespace. A SIGHUP without a value reloads as well and is not answered. */
#pragma once

#include <sys/signalfd.h>
#include <sys/types.h>

/* Asks, waits, and writes what the daemon had to say to stderr. Returns the exit status: 0 when the new
 * settings are in force, EXIT_STATUS_SETTINGS, EXIT_STATUS_CANNOT_LISTEN, or EXIT_STATUS_SYSTEM when there is
 * no such daemon or no answer. */
int reload_request(pid_t daemon);

/* The daemon's side, ahead of the reload: says that it has the signal, if that came from reload_request.
 * Returns 0, or a negative errno when who asked cannot be told anything; then it will ask again, or has gone.
 * Never waits. */
int reload_take(const struct signalfd_siginfo *signal);

/* Behind it: answers the signal if it came from reload_request. `messages` are lines. Returns 0 or a negative
 * errno. Never waits. */
int reload_answer(const struct signalfd_siginfo *signal, int exit_status, const char *messages);
