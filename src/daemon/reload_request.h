/* tcpechod --reload: asks a running daemon to reload, and waits for the outcome.
 *
 * SIGHUP has no answer. So the requester sends it with a value (sigqueue(3)): the name of a socket on which
 * it waits for the outcome, and a secret. The socket is an abstract AF_UNIX datagram socket whose name the
 * kernel made of 20 bits (unix(7), "Autobind"); everybody can see that and send to it, so the kernel lets in
 * only what begins with the value, and what is read is checked to be the daemon's. It needs no file and no
 * right but the one to send the signal; both must be in the same network namespace. A SIGHUP without a value
 * reloads as well and is not answered. */
#pragma once

#include "base/clock.h"

#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#define RELOAD_PATIENCE_USEC (30 * USEC_PER_SEC)

/* Asks, waits at most `patience_usec` by the clock, and writes what the daemon had to say to stderr. Returns
 * the exit status: 0 when the new settings are in force, EXIT_STATUS_SETTINGS, EXIT_STATUS_CANNOT_LISTEN, or
 * EXIT_STATUS_SYSTEM when there is no such daemon or no answer. */
int reload_request(pid_t daemon, uint64_t patience_usec);

/* The requester that waits for an answer. */
struct reload_reply {
    int fd;         /* connected to its socket; -1: nobody */
    uint64_t value; /* of the last request that was taken */
};
#define RELOAD_REPLY_NONE ((struct reload_reply){.fd = -1})

#define RELOAD_REPEATED 1

/* Of the messages that reload_answer takes, with their NUL. */
#define RELOAD_MESSAGES_SIZE 8192

/* The daemon's side, before the reload: says that it has the signal, if that came from reload_request; what
 * it says can be read by the process that sent the signal alone. Returns 0; RELOAD_REPEATED when this very
 * request has been taken before, and there is nothing to do; or a negative errno when the requester
 * cannot be answered; then it will ask again, or has gone. Never waits. */
int reload_take(const struct signalfd_siginfo *signal, struct reload_reply *reply);

/* After it: answers what reload_take has taken, if anything. `messages` are lines. Returns 0 or a negative
 * errno. Never waits. */
int reload_answer(struct reload_reply *reply, int exit_status, const char *messages);
