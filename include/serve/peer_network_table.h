/* How many connections each source holds: a source is a network of clients, by the prefix length that the
 * caller gives.
 *
 * Whoever holds the lock of serve/admission.h looks up, adds and frees; any thread counts an entry down, with
 * peer_network_release, when a connection closes. An entry at zero belongs to the holder of the lock, who
 * uses it again or frees it. */
#pragma once

#include "base/address.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct peer_network {
    struct peer_network *next; /* in its bucket */
    struct address prefix;     /* masked; with its interface when it is a whole link-local address */
    uint64_t scope; /* 0: the whole daemon; otherwise the id of a listener that counts for itself */
    _Atomic uint32_t connections;
};

struct peer_network_table {
    struct peer_network **buckets; /* a power of two of them */
    size_t bucket_count;
    size_t entries;
    uint64_t secret; /* keeps clients from choosing addresses that share a bucket */
};

/* Returns 0 or a negative errno. */
int peer_network_table_init(struct peer_network_table *table);

/* Frees every entry: no connection may refer to one any more. */
void peer_network_table_deinit(struct peer_network_table *table);

/* Counts one more connection from the client's network and scope. Returns 0 with *out set, -EUSERS when there
 * are `limit` already (0: no limit), or -ENOMEM. */
int peer_network_table_take(struct peer_network_table *table, const struct address *client,
                            unsigned prefix_bits, uint64_t scope, uint32_t limit, struct peer_network **out);

/* Counts one connection less. The caller may not touch the source any more. NULL does nothing. Any thread. */
void peer_network_release(struct peer_network *source);
