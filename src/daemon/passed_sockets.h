/* The descriptors that were passed at start: by the service manager, sd_listen_fds_with_names(3), or by the
 * program that was here before, daemon/reexec.h.
 *
 *     passed_sockets_receive -> (daemon/handover_in.h takes its own) -> passed_sockets_adopt -> listeners
 *
 * A descriptor belongs to this table until somebody takes it out. Main thread. */
#pragma once

#include "base/list.h"
#include "settings/problems.h"

#include <stddef.h>

struct passed_socket {
    int fd; /* -1: taken */
    char *name;
};

struct passed_sockets {
    struct passed_socket *items;
    size_t count;
};

/* Fetches descriptors and names and takes them out of the environment, so that no child takes them for its
 * own. To be called before threads start, and before anything that stays open is opened: that could get the
 * number of a descriptor that was promised and not passed. Returns 0, also when there are none, or a negative
 * errno with a message and nothing to clear. */
int passed_sockets_receive(struct passed_sockets *out, struct problems *problems);

/* Makes a listener of each and adds it to `listeners`. Returns 0, or a negative errno when one is no socket
 * that can be served, with a message for each such one; those that could be had are in `listeners` then. */
int passed_sockets_adopt(struct passed_sockets *passed, struct list *listeners, struct problems *problems);

/* Closes what nobody has taken. */
void passed_sockets_clear(struct passed_sockets *passed);
