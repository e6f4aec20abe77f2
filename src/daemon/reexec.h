/* The program executed anew in the place of this process, with what handover_out.h has prepared: for a daemon
 * whose service manager has no store, or that has none. Main thread. */
#pragma once

#include "daemon/handover_out.h"
#include "serve/acceptor.h"

#include <stddef.h>

/* In the environment: "FD=NAME:FD=NAME...", as the new image finds what it inherits. */
#define REEXEC_VARIABLE "TCPECHOD_HANDOVER"

/* Remembers the program's file and its arguments, which stay the caller's: by its name, so that it is another
 * one after an upgrade. Call at the start. */
void reexec_remember(char *argv[]);

/* The program's file, for messages. */
const char *reexec_path(void);

/* Runs the program's file with these arguments and --test, and waits for it: whether it starts at all and has
 * settings to start with. Returns 0, or a negative errno with the reason in `why`. */
int reexec_check(char *why, size_t size);

/* Executes it; the descriptors go with it. Returns a negative errno of execve(2), and everything is as it was
 * before; or does not return. */
int reexec_run(const struct handover_out *out, const struct acceptor *acceptor);
