/* --port-file: where the listeners are, for whoever has asked for a free port. Main thread. */
#pragma once

#include "serve/acceptor.h"
#include "settings/problems.h"

#include <stddef.h>
#include <sys/types.h>

struct port_file {
    const char *path; /* the caller's; NULL: none is wanted */
    dev_t device;     /* of what was written last */
    ino_t inode;      /* 0: nothing was, or it is to stay */
};

#define CLIENT_PLACE_SIZE 128

/* Where a client on this host connects to: "127.0.0.1:7", "[::1]:7" or a path. A loopback address stands for
 * every address. Returns `out`. */
const char *client_place(const struct listener *listener, char out[static CLIENT_PLACE_SIZE]);

/* Writes "SERVICE PLACE\n" for each listener, in the order of the settings, whole or not at all: into a new
 * file beside it, which takes its name. Returns 0, or a negative errno with the reason logged, and added to
 * `problems` unless that is NULL. */
int port_file_write(struct port_file *file, const struct acceptor *acceptor, struct problems *problems);

/* Removes it, unless another has put something else there. */
void port_file_remove(struct port_file *file);
