/* What connection.c asks of a listener's faults, at the few places where they matter. It knows neither the
 * faults nor how they end a connection, and serve/misbehaviour.h, which does, knows no sockets.
 *
 *   connection.c -> misbehaving_*() -> misbehaviour_*()
 *
 * The answers for a connection that behaves stand here, inline: they cost it the test of a bit and no call.
 * Everything runs on the worker's thread. A function that returns whether the connection is still there may
 * have closed and freed it. */
#pragma once

#include "base/span.h"
#include "serve/connection_state.h"
#include "serve/misbehaviour.h"

#include <sys/socket.h>

struct progress;

/* What stands between its service and its socket. Of a connection that misbehaves. */
static inline struct misbehaviour *connection_misbehaviour(const struct connection *c)
{
    return (struct misbehaviour *)(c + 1);
}

/* ---- From the beginning to the end ---- */

/* How much memory a connection needs for its faults, in bytes; 0: it behaves. */
size_t misbehaving_size(const struct new_client *new_client);

/* Of a connection with so much memory. `number`: of new_client. */
void misbehaving_init(struct connection *connection, uint64_t number);

/* Frees what is held. */
void misbehaving_clear(struct connection *connection);

/* Writes down how far it has come; the bytes stay the connection's. */
void misbehaving_save(const struct connection *connection, struct progress *progress);

/* The other way. Returns false when memory is short. */
bool misbehaving_restore(struct connection *connection, const struct progress *progress);

/* ---- From the client to the service ---- */

/* How many of at most `size` bytes may be read now; 0: none. */
static inline size_t misbehaving_may_read(const struct connection *c, size_t size)
{
    size_t room = c->misbehaves ? misbehaviour_may_read(connection_misbehaviour(c)) : size;
    return room < size ? room : size;
}

int misbehaving_note_events(struct connection *connection, uint32_t events);

/* Before every turn: what its events say of a client that nothing is read from. Returns 0, or the errno,
 * positive, of a connection that is lost. */
static inline int misbehaving_look(struct connection *c, uint32_t events)
{
    return c->misbehaves ? misbehaving_note_events(c, events) : 0;
}

/* ---- From the service to the client ---- */

/* It never says anything. */
static inline bool misbehaving_is_mute(const struct connection *c)
{
    return c->misbehaves && misbehaviour_is_mute(connection_misbehaviour(c));
}

/* How many of at most `size` bytes the service may make up now; 0: none. */
static inline size_t misbehaving_may_produce(const struct connection *c, size_t size)
{
    size_t room = c->misbehaves ? misbehaviour_may_speak(connection_misbehaviour(c)) : size;
    return room < size ? room : size;
}

/* Of a connection that misbehaves: what the service has made, in at most as many bytes as it may produce.
 * Returns false when memory is short. */
bool misbehaving_take(struct connection *connection, const uint8_t *bytes, size_t length);

/* Flags of send(2). MSG_EOR: the kernel does not join pieces that are meant to be apart. */
static inline int misbehaving_send_flags(const struct connection *c)
{
    return c->misbehaves ? MSG_EOR : 0;
}

/* What is to be done with a connection that misbehaves. */
enum misbehaving_step {
    MISBEHAVING_WAIT,      /* nothing, until misbehaving_is_due or something happens */
    MISBEHAVING_SEND,      /* *piece goes to the client, and then comes the next step */
    MISBEHAVING_RESET,     /* it ends with a RST */
    MISBEHAVING_NO_MEMORY, /* it cannot go on */
};

/* After every turn, but for one that lingers. *piece is valid until the next call. */
enum misbehaving_step misbehaving_next(struct connection *connection, const struct event_loop *loop,
                                       struct span *piece);

bool misbehaving_holds_back(const struct connection *connection);

/* Something is still to be said, or the end to come, when its time has come. */
static inline bool misbehaving_holds(const struct connection *c)
{
    return c->misbehaves && misbehaving_holds_back(c);
}

/* The daemon stops: nothing waits any more. */
void misbehaving_hurry(struct connection *connection);

/* The setting that has ended it; NULL: none has. */
const char *misbehaving_fault(const struct connection *connection);

/* ---- What it waits for ---- */

/* It has ended and lingers until its client leaves, or is idle for too long. */
static inline bool misbehaving_stays(const struct connection *c)
{
    return c->misbehaves && misbehaviour_stays(connection_misbehaviour(c));
}

/* When the timer is to fire that would at `deadline`; both in usec. */
static inline uint64_t misbehaving_wake(const struct connection *c, uint64_t deadline)
{
    return c->misbehaves && connection_misbehaviour(c)->wake < deadline ? connection_misbehaviour(c)->wake
                                                                        : deadline;
}

/* The timer has fired for that. */
static inline bool misbehaving_is_due(const struct connection *c, uint64_t now)
{
    return c->misbehaves && connection_misbehaviour(c)->wake <= now;
}

uint32_t misbehaving_events(const struct connection *connection, uint32_t interest);

/* The interest of epoll(7) in place of that of a connection that behaves. */
static inline uint32_t misbehaving_interest(const struct connection *c, uint32_t interest)
{
    return c->misbehaves ? misbehaving_events(c, interest) : interest;
}
