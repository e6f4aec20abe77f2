/* A service: pure functions over bytes. No sockets, no logging, no clock. README.md says how to add one.
 *
 *   client's bytes -> answer() changes them in place into the answer -> client
 *   nothing        -> produce() makes bytes up                       -> client
 *                     describe() makes them of the connection itself -> client
 *
 * Called on the connection's worker thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Every buffer given to produce() holds at least this much, so that a short answer is made in one piece. */
#define SERVICE_MIN_OUTPUT 64

#define SERVICE_DESCRIPTION_SIZE 16384

/* What a listener sets for its service; constant while a connection refers to it. */
struct service_params {
    const char *text; /* greet, reply; NULL elsewhere */
    size_t text_length;
    const char *greeting; /* NULL: none */
    size_t greeting_length;
    const char *end_word; /* NULL: none */
    size_t end_word_length;
};

/* A connection's place in its service. Plain numbers, so that another process can take it up. */
struct service_state {
    uint64_t produced;      /* bytes of the service's own output made so far, the greeting not counted */
    uint32_t greeted;       /* bytes of the greeting made so far */
    uint16_t line;          /* serve/end_word.h's: how much of the end word the line under way has matched */
    bool asked : 1;         /* the client has sent something */
    bool ending : 1;        /* the daemon stops: make the line under way and no more */
    bool done : 1;          /* nothing follows what has been made */
    bool end_word_came : 1; /* why it is done: the client sent the end word */
};

struct connection_view; /* serve/connection_view.h */

struct service {
    const char *name;
    const char *summary; /* one line for people */
    bool takes_text;     /* needs the listener's `text` */
    bool takes_end_word;
    bool is_verbatim;       /* the answer is what the client sent, if no end word is looked for */
    bool speaks_when_asked; /* produce() only once the client has sent something */

    /* Turns `length` (> 0) bytes of the client, one read, into the answer, in place: it is never longer than
     * they. Returns how many of them to send back, and may set state->done. NULL: what the client sends is
     * thrown away. */
    size_t (*answer)(const struct service_params *params, struct service_state *state, uint8_t *bytes,
                     size_t length);

    /* Writes the next bytes, at most `size` (at least SERVICE_MIN_OUTPUT), and returns how many; sets
     * state->done with the last. `now` is the time of day. NULL: the service says nothing of its own. */
    size_t (*produce)(const struct service_params *params, struct service_state *state, time_t now,
                      uint8_t *out, size_t size);

    /* In place of produce(), what is said of the connection: all of it at once, at most
     * SERVICE_DESCRIPTION_SIZE bytes. Returns how many; 0: memory is short. */
    size_t (*describe)(const struct connection_view *view, uint8_t out[static SERVICE_DESCRIPTION_SIZE]);
};

/* Whether a connection of this service can have come so far; for a state that another process has written
 * down. */
bool service_state_is_possible(const struct service *service, const struct service_params *params,
                               const struct service_state *state);

/* It says something, unasked or when it is asked. */
bool service_speaks(const struct service *service);

/* True while service_produce, or service_describe in its place, would make bytes. */
bool service_has_output(const struct service *service, const struct service_params *params,
                        const struct service_state *state);

/* Whether it is service_describe()'s turn. Ask while service_has_output(). */
bool service_describes(const struct service *service, const struct service_params *params,
                       const struct service_state *state);

/* Same contract as describe(). */
size_t service_describe(const struct service *service, struct service_state *state,
                        const struct connection_view *view, uint8_t out[static SERVICE_DESCRIPTION_SIZE]);

/* The greeting first, then the service's own bytes. Call while service_has_output(). Same contract as
 * produce(). */
size_t service_produce(const struct service *service, const struct service_params *params,
                       struct service_state *state, time_t now, uint8_t *out, size_t size);

/* Same contract as answer(), for every service. */
size_t service_answer(const struct service *service, const struct service_params *params,
                      struct service_state *state, uint8_t *bytes, size_t length);

/* For services that send the listener's text: a produce(). */
size_t service_produce_text(const struct service_params *params, struct service_state *state, time_t now,
                            uint8_t *out, size_t size);

/* For services that heed end_word: how many of the bytes are to be answered. Sets state->done and
 * state->end_word_came when the end word is among them; it is the last line that is answered. */
size_t service_until_end_word(const struct service_params *params, struct service_state *state,
                              const uint8_t *bytes, size_t length);
