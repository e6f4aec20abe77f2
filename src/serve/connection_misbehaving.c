#include "serve/connection_misbehaving.h"

#include "base/clock.h"
#include "serve/progress.h"
#include "serve/service_config.h"

#include <errno.h>
#include <stdlib.h>

/* Between two looks whether the client has taken all, before it is reset. */
#define ACKNOWLEDGE_USEC USEC_PER_MSEC

/* ---- From the beginning to the end ---- */

size_t misbehaving_size(const struct new_client *new_client)
{
    const struct misbehaviour_params *params = new_client->config->misbehaviour;
    bool misbehaves = new_client->progress ? new_client->progress->misbehaves
                                           : params && misbehaviour_befalls(params, new_client->number);
    return misbehaves ? sizeof(struct misbehaviour) : 0;
}

void misbehaving_init(struct connection *c, uint64_t number)
{
    c->misbehaves = true;
    misbehaviour_init(connection_misbehaviour(c), c->config->misbehaviour, number, c->accepted_usec,
                      c->config->unsent_limit);
}

void misbehaving_clear(struct connection *c)
{
    if (c->misbehaves)
        misbehaviour_clear(connection_misbehaviour(c));
}

static void save_buffer(const struct misbehaviour_buffer *buffer, const uint8_t **bytes, size_t *length)
{
    *bytes = buffer ? buffer->bytes + buffer->start : NULL;
    *length = buffer ? buffer->end - buffer->start : 0;
}

void misbehaving_save(const struct connection *c, struct progress *progress)
{
    progress->misbehaves = c->misbehaves;
    if (!c->misbehaves)
        return;
    progress->misbehaviour = *connection_misbehaviour(c);
    save_buffer(progress->misbehaviour.held, &progress->held, &progress->held_length);
    save_buffer(progress->misbehaviour.again, &progress->again, &progress->again_length);
}

bool misbehaving_restore(struct connection *c, const struct progress *progress)
{
    if (!c->misbehaves)
        return true;
    *connection_misbehaviour(c) = progress->misbehaviour;
    return misbehaviour_restore(connection_misbehaviour(c), c->config->misbehaviour, c->config->unsent_limit,
                                progress->held, progress->held_length, progress->again,
                                progress->again_length);
}

/* ---- From the client to the service ---- */

int misbehaving_note_events(struct connection *c, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP) && !(c->source.interest & (EPOLLIN | EPOLLOUT))) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(c->source.fd, SOL_SOCKET, SO_ERROR, &error, &length);
        return error ? error : EPIPE;
    }
    if (events & EPOLLRDHUP && connection_arrived(c) == 0)
        c->client_closed = true;
    return 0;
}

/* ---- From the service to the client ---- */

bool misbehaving_take(struct connection *c, const uint8_t *bytes, size_t length)
{
    return misbehaviour_put(connection_misbehaviour(c), clock_monotonic_usec(), bytes, length);
}

/* Whether a client that is to be reset has the time that others have to take the last bytes: they would be
 * lost with the connection. */
static bool has_time_for_the_rest(struct connection *c, const struct event_loop *loop)
{
    uint64_t timeout = c->config->write_timeout_usec;
    uint32_t left = connection_unacknowledged(c);
    if (connection_misbehaviour(c)->ended_by != MISBEHAVIOUR_LIMIT || left == 0)
        return false;
    if (left < c->unacknowledged) /* it takes some */
        c->active_usec = event_loop_stamp(loop);
    c->unacknowledged = left;
    return timeout == USEC_NEVER || loop->now < c->active_usec + timeout;
}

/* As its listener is set. May be called again. */
static enum misbehaving_step end(struct connection *c, const struct event_loop *loop)
{
    struct misbehaviour *m = connection_misbehaviour(c);
    c->reason = REASON_FAULT;
    free(c->unsent);
    c->unsent = NULL;
    if (misbehaviour_resets(m) && !has_time_for_the_rest(c, loop))
        return MISBEHAVING_RESET;
    if (misbehaviour_resets(m))
        m->wake = loop->now + ACKNOWLEDGE_USEC;
    if (misbehaviour_hangs(m)) {
        c->lingering = true;
        c->active_usec = event_loop_stamp(loop);
    }
    return MISBEHAVING_WAIT;
}

enum misbehaving_step misbehaving_next(struct connection *c, const struct event_loop *loop,
                                       struct span *piece)
{
    struct misbehaviour *m = connection_misbehaviour(c);
    bool was_started = m->is_started;
    uint64_t now = clock_monotonic_usec();
    if (c->reason != REASON_NONE && !misbehaviour_finish(m, now))
        return MISBEHAVING_NO_MEMORY;
    struct misbehaviour_step step = misbehaviour_next(m, now, !c->unsent);
    if (!was_started && m->is_started) /* only now can the client be idle */
        c->active_usec = event_loop_stamp(loop);
    if (step.kind != MISBEHAVIOUR_SEND)
        return m->ended_by == MISBEHAVIOUR_NONE ? MISBEHAVING_WAIT : end(c, loop);
    *piece = (struct span){.bytes = step.bytes, .length = step.length};
    return MISBEHAVING_SEND;
}

bool misbehaving_holds_back(const struct connection *c)
{
    const struct misbehaviour *m = connection_misbehaviour(c);
    return misbehaviour_holds(m) || misbehaviour_resets(m);
}

void misbehaving_hurry(struct connection *c)
{
    struct misbehaviour *m = connection_misbehaviour(c);
    if (!c->misbehaves)
        return;
    if (misbehaviour_hangs(m)) /* it has not been sent our FIN yet */
        c->lingering = false;
    if (misbehaviour_is_deaf(m) && !c->lingering)
        c->due = 0;
    misbehaviour_hurry(m);
}

const char *misbehaving_fault(const struct connection *c)
{
    return c->misbehaves ? misbehaviour_fault_name(connection_misbehaviour(c)) : NULL;
}

/* ---- What it waits for ---- */

uint32_t misbehaving_events(const struct connection *c, uint32_t interest)
{
    const struct misbehaviour *m = connection_misbehaviour(c);
    /* After the client's FIN it is there that somebody hangs, and who is deaf reads nothing to the last. */
    if (c->lingering && (c->client_closed || (misbehaviour_is_deaf(m) && misbehaviour_stays(m))))
        interest = 0;
    if (!c->lingering && !c->unsent && m->is_ready)
        interest |= EPOLLOUT;
    /* A probe is seen to leave, also while nothing is read. */
    if (interest == 0 && c->bytes_in == 0 && !c->client_closed && connection_arrived(c) == 0)
        interest = EPOLLRDHUP;
    return interest;
}
