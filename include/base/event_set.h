/* Sources that a loop polls, or leaves alone, all together.
 *
 * They are in an epoll set of their own, whose descriptor is one source of the loop (epoll(7): it can be
 * polled like others). So to leave them alone, and to poll them again, costs one call however many they are.
 *
 *     event_set_init -> event_set_add ... -> event_set_remove ... -> event_set_deinit
 *
 * Level-triggered, like the loop. Each source that is ready gets one turn before any of them gets a second,
 * also when the set is left alone in between. The loop's thread. */
#pragma once

#include "base/event_loop.h"

#include <stdbool.h>

struct event_set {
    struct event_loop *loop;
    struct event_source source; /* the set itself */
    bool is_polled;
    struct event_batch batch;
};

/* Polled from the start. Returns 0 or a negative errno (EMFILE, ENOMEM, ENOSPC) with nothing left to
 * release. The loop must outlive the set. */
int event_set_init(struct event_set *set, struct event_loop *loop);

/* Every source must be gone. */
void event_set_deinit(struct event_set *set);

/* Registers source->fd with source->ready for EPOLLIN. Returns 0 or a negative errno (ENOMEM; ENOSPC:
 * fs.epoll.max_user_watches). */
int event_set_add(struct event_set *set, struct event_source *source);

/* No event reaches the source any more; its descriptor stays open. */
void event_set_remove(struct event_set *set, struct event_source *source);

/* Polls the sources from now on, or leaves them alone: then no event of the turn under way reaches one
 * either. Returns 0 or a negative errno (ENOMEM) with nothing changed. */
int event_set_poll(struct event_set *set, bool polls);
