/* What one process writes down for the next: its listeners, what they are served under, its totals, and how
 * far each connection has come. The sockets themselves go another way (descriptor_queue.h); a record says by
 * SO_COOKIE (socket(7)) which of them it is about.
 *
 * It is written into a memfd (memfd_create(2)), which is in nobody's file system, and sealed. A header has
 * the version, the length and a checksum. A reader that finds anything else than it would have written itself
 * takes nothing of it. Main thread. */
#pragma once

#include "serve/counters.h"
#include "serve/listener.h"
#include "serve/new_client.h"
#include "serve/progress.h"
#include "serve/proxied.h"
#include "serve/service_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Goes up with every change of what is written. */
#ifndef HANDOVER_STATE_VERSION
#define HANDOVER_STATE_VERSION 5
#endif

struct saved_listener {
    uint64_t cookie;
    char *name;             /* owned when it was read */
    uint16_t port;          /* as set: 0: the kernel has picked it */
    bool any, without_v6;   /* of struct listener; the rest of its place can be read from the socket */
    uint64_t device, inode; /* of its path, when that is our own */
    uint64_t config;        /* its index */
    uint64_t number;        /* of the connection that was admitted last */
    uint64_t id;
};

enum saved_kind {
    SAVED_BEFOREHAND, /* for a process that ends unasked: its connections are lost */
    SAVED_DRAINED,    /* the process finishes its connections and ends */
    SAVED_HANDOVER,   /* the connections follow */
    SAVED_KINDS,
};

/* Of struct proxied. */
struct saved_proxied {
    bool is_there;
    struct address proxy;
    enum proxied_kind kind;
    const uint8_t *header; /* borrowed, like the bytes of the progress */
    size_t header_length;
};

struct saved_connection {
    uint64_t cookie;
    uint64_t config;          /* its index */
    struct new_client client; /* its numbers; what it would own is not set */
    struct saved_proxied proxied;
    struct progress progress; /* its bytes are borrowed: of the connection, or of what was read */
};

struct saved_state {
    enum saved_kind kind;
    uint64_t last_id, accepted;
    uint64_t last_listener_id;
    uint64_t refused[REASON_COUNT], waits[REASON_COUNT];
    struct totals totals;
    uint64_t lost_messages;
    struct service_config **configs;
    size_t config_count;
    struct saved_listener *listeners;
    size_t listener_count;
    struct saved_connection *connections; /* as read: in the order of their cookies */
    size_t connection_count;
    void *mapping; /* what was read; of mmap(2), NULL: nothing */
    size_t mapping_size;
};

/* Writes it into a new memfd. Returns the descriptor, which is the caller's, or a negative errno of
 * memfd_create(2) or write(2). */
int saved_state_write(const struct saved_state *state);

/* Returns 0 with *out for saved_state_clear, or a negative errno with *out empty: -EPROTONOSUPPORT: another
 * version; -EBADMSG: damaged, or no such state; -ENOMEM, and others of mmap(2). */
int saved_state_read(int fd, struct saved_state *out);

/* The same for bytes in memory, which must outlive *out. */
int saved_state_parse(const uint8_t *bytes, size_t length, struct saved_state *out);

void saved_state_clear(struct saved_state *state); /* also for CLEANUP() */

/* NULL: there is none. */
struct saved_connection *saved_state_connection(const struct saved_state *state, uint64_t cookie);

/* SO_COOKIE: unique for the life of the machine. Returns 0 or a negative errno with *out untouched. */
int socket_cookie(int fd, uint64_t *out);
