/* The terms under which a listener's clients are served. Whoever was accepted under them keeps them: a reload
 * gives the listener new terms, and the old ones live until their last connection has closed.
 *
 * Constant once made, counted by atomic references: the listener (main thread) holds one and each connection,
 * in the queue or at its worker, another. */
#pragma once

#include "serve/service.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct terms {
    _Atomic size_t references;
    const struct service *service;
    struct service_params params; /* the texts are this structure's own */
    bool trace;
    bool passes_through;         /* nobody has to look at the bytes; terms_new finds out */
    uint64_t idle_timeout_usec;  /* USEC_NEVER: none */
    uint64_t write_timeout_usec; /* USEC_NEVER: none */
    size_t unsent_limit;         /* bytes */
    char *listener;              /* "127.0.0.1:7", for people */
};

/* Copies what `from` points to; its `references` do not matter. Returns one reference, or NULL when memory is
 * short. */
struct terms *terms_new(const struct terms *from);

struct terms *terms_ref(struct terms *terms);
void terms_unref(struct terms *terms); /* NULL does nothing */
