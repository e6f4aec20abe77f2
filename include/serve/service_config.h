/* What a listener's clients are served by. Each connection keeps what it was accepted under: a reload gives
 * the listener a new one, and the old one lives until its last connection has closed.
 *
 * Constant once made, counted by atomic references: the listener (main thread) holds
 * one and each connection, in the queue or at its worker, another. */
#pragma once

#include "serve/admission.h"
#include "serve/misbehaviour.h"
#include "serve/service.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct service_config {
    _Atomic size_t references;
    const struct service *service;
    struct service_params params;                   /* the texts are this structure's own */
    const struct misbehaviour_params *misbehaviour; /* likewise its own; NULL: it behaves */
    struct admission_rules rules;                   /* the lists are its own, too */
    struct {
        bool protocol;           /* each connection begins with a header of the PROXY protocol, */
        uint64_t timeout_usec;   /* which has come by then, */
        struct prefix_list from; /* and only these may send one; empty: everybody. Its own, too */
    } proxy;
    bool trace;
    bool can_splice;             /* nobody has to look at the bytes; service_config_new sets it */
    uint64_t idle_timeout_usec;  /* USEC_NEVER: none */
    uint64_t write_timeout_usec; /* USEC_NEVER: none */
    size_t unsent_limit;         /* bytes */
    char *listener;              /* "127.0.0.1:7", for people */
};

/* Copies what `from` points to; its `references` do not matter. Returns one reference, or NULL when memory is
 * short. */
struct service_config *service_config_new(const struct service_config *from);

struct service_config *service_config_ref(struct service_config *config);
void service_config_unref(struct service_config *config); /* NULL does nothing */

/* Whether connections of both have the same faults. */
bool service_config_misbehaves_alike(const struct service_config *a, const struct service_config *b);
