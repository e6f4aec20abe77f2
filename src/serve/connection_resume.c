/* A connection that goes from one process to another: what is written down of it, and how it goes on. */
#include "serve/connection.h"

#include "serve/connection_misbehaving.h"
#include "serve/progress.h"

#include <errno.h>

void connection_save(const struct connection *c, struct new_client *client, struct progress *progress)
{
    *client = (struct new_client){
        .fd = c->source.fd,
        .config = c->config,
        .client = c->client,
        .proxied = c->proxied,
        .id = c->id,
        .accepted_usec = c->accepted_usec,
    };
    *progress = (struct progress){
        .bytes_in = c->bytes_in,
        .bytes_out = c->bytes_out,
        .active_usec = c->active_usec,
        .state = c->state,
        .reason = (enum reason)c->reason,
        .client_closed = c->client_closed,
        .draining = c->draining,
        .lingering = c->lingering,
        .due = c->draining && !c->lingering ? c->due : 0,
    };
    if (c->unsent) {
        progress->unsent = c->unsent->bytes + c->unsent->start;
        progress->unsent_length = c->unsent->end - c->unsent->start;
        progress->taken = c->unsent->taken;
    }
    misbehaving_save(c, progress);
}

int connection_restore(struct connection *c, const struct progress *progress)
{
    if (!misbehaving_restore(c, progress))
        return -ENOMEM;
    if (progress->unsent_length > 0) {
        c->unsent = unsent_new(progress->unsent, progress->unsent_length);
        if (!c->unsent)
            return -ENOMEM;
        c->unsent->taken = progress->taken;
    }
    c->bytes_in = progress->bytes_in;
    c->bytes_out = progress->bytes_out;
    c->active_usec = progress->active_usec;
    c->state = progress->state;
    c->reason = (uint8_t)progress->reason;
    c->client_closed = progress->client_closed;
    c->draining = progress->draining;
    c->lingering = progress->lingering;
    if (c->lingering)
        c->unacknowledged = connection_unacknowledged(c);
    else
        c->due = progress->due;
    return 0;
}
