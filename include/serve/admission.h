/* Who may come in: allow and deny lists, and limits per source. It decides by the client's address alone;
 * whether there is room is the acceptor's question.
 *
 * Rules and a peer's address are only read. What is counted has a lock of its own, so that a worker may let
 * in a client whose address it learns later than the acceptor. Any thread, but for the beginning and the
 * end. */
#pragma once

#include "base/address.h"
#include "serve/peer_network_table.h"
#include "serve/reason.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A listener's rules. The lists belong to whoever made the structure. */
struct admission_rules {
    struct prefix_list allow; /* empty: everyone */
    struct prefix_list deny;  /* wins over allow */
    uint32_t per_source;      /* connections of one source; 0: no limit */
    uint64_t scope;           /* 0: its connections to the whole daemon count; else those under this number */
};

/* Gives up the lists. Also for CLEANUP(). */
void admission_rules_clear(struct admission_rules *rules);

struct admission {
    pthread_mutex_t lock; /* of all that follows */
    struct peer_network_table sources;
    unsigned source_prefix_v4; /* in bits: what is one source */
    unsigned source_prefix_v6; /* but a link-local address is one by itself, with its interface */
};

/* Returns 0 or a negative errno with nothing to release. */
int admission_init(struct admission *admission, unsigned source_prefix_v4, unsigned source_prefix_v6);

/* For who comes from now on. */
void admission_configure(struct admission *admission, unsigned source_prefix_v4, unsigned source_prefix_v6);

/* No connection may be left. */
void admission_deinit(struct admission *admission);

/* Counts a client who is in already, whatever the limits. Returns what it must peer_network_release when it
 * closes, or NULL: it has no address, or memory is short. */
struct peer_network *admission_count(struct admission *admission, const struct admission_rules *rules,
                                     const struct address *client);

/* Whether a peer may send a PROXY protocol header, where only those in the list may; empty: everyone. One
 * without an address may: who can reach a path is for its mode to say. */
bool admission_may_proxy(const struct prefix_list *from, const struct address *peer);

/* Returns REASON_NONE, with *source set to what the connection must peer_network_release when it closes (NULL
 * for clients without an address, who are always let in), or REASON_DENIED or REASON_PER_SOURCE; or
 * REASON_ERROR when memory is short. */
enum reason admission_check(struct admission *admission, const struct admission_rules *rules,
                            const struct address *client, struct peer_network **source);
