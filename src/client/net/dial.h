/* From addresses to a connected socket.
 *
 *     HOST PORT -> target_resolve -> addresses -> dial (a race) -> socket
 *                                              -> dial_start (one of them, in an event loop)
 *
 * Any thread. */
#pragma once

#include "client/net/source.h"
#include "client/net/target.h"

#include <stdint.h>

/* Begins to connect a non-blocking socket without waiting: from `source`, unless that is NULL, whose
 * addresses take turns by `number`; one whose local ports are used up leaves it to the next. Returns it,
 * owned by the caller: connected or about to be, which is known from dial_result once it is writable. Or a
 * negative errno, of which -EAGAIN means that a Unix socket's backlog is full: try again. */
int dial_start(const struct endpoint *endpoint, const struct source *source, uint64_t number);

/* Of a socket of dial_start that has become writable: 0, or a negative errno, after which it is to be closed.
 * One that is connected to itself is refused like one at whose port nobody listens. */
int dial_result(int fd);

/* What has become of a connected socket: 0 or a negative errno, which is told once (SO_ERROR, socket(7)). */
int dial_error(int fd);

/* Says that nothing more will be sent. Returns 0 or a negative errno: -ECONNRESET where the other side has
 * ended all of it. */
int dial_half_close(int fd);

#define DIAL_TRIED_SIZE 512

struct dialled {
    int fd;                      /* does not block; owned by the caller */
    size_t chosen;               /* its place in target->items */
    uint64_t nsec;               /* how long this address took, without those that were tried before it */
    char tried[DIAL_TRIED_SIZE]; /* the others that were tried, each with what came of it; "": none was */
};

/* Connects to the first address that takes us: a quarter of a second after one has been tried the next is
 * tried beside it, and at once when it has failed (RFC 8305). Each has `timeout_usec`. Returns 0, or an exit
 * status after one line on stderr, with *out untouched. EXIT_INTERRUPTED when `interrupt_fd` (or -1) became
 * readable, of which nothing is told. */
int dial(const struct target *target, uint64_t timeout_usec, int interrupt_fd, struct dialled *out);

/* An errno in words, with what is missing where the address itself is at fault. Valid until the next call. */
const char *dial_reason(const struct endpoint *endpoint, int error);

/* What to do about EADDRNOTAVAIL, to follow a message. */
const char *dial_port_advice(void);

/* Whether an errno is a shortage of this host: of a local port, a descriptor or memory. It says nothing about
 * the server. */
bool dial_is_short(int error);

/* Which exit status (client/process/exit_status.h) an errno of a connection stands for. */
int dial_exit_status(int error);
