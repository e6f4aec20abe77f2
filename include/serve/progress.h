/* How far a connection has come, in plain values: with its new_client all that another process needs to go
 * on with it. */
#pragma once

#include "serve/misbehaviour.h"
#include "serve/reason.h"
#include "serve/service.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    uint64_t bytes_in, bytes_out;
    uint64_t active_usec; /* CLOCK_MONOTONIC, which is the machine's: when bytes last moved */
    struct service_state state;
    enum reason reason;    /* why it ends; REASON_NONE: it goes on */
    bool client_closed;    /* the client's FIN has been read */
    bool ends;             /* it is to answer what has arrived by now, and end */
    bool header_due;       /* its proxy has yet to say who it is: `unsent` is what has come of the header */
    bool draining;         /* it answers `due` more bytes, and ends */
    bool lingering;        /* our FIN is sent */
    uint32_t due;          /* of a draining one, in bytes */
    const uint8_t *unsent; /* made for the client, and not taken by the kernel */
    size_t unsent_length;
    int64_t taken;                    /* of `unsent`: see struct unsent in serve/connection_state.h */
    bool misbehaves;                  /* the rest is of those that do */
    struct misbehaviour misbehaviour; /* its numbers; its buffers are: */
    const uint8_t *held, *again;
    size_t held_length, again_length;
};

/* Copies it, all bytes with it, into one piece of memory for free(3). NULL: memory is short. */
struct progress *progress_copy(const struct progress *from);
