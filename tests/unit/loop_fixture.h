/* A loop that the test turns, and sources and timers that remember what they were told. */
#pragma once

#include "base/clock.h"
#include "base/event_loop.h"
#include "common.h"
#include "faults.h"

#include <sys/eventfd.h>

static struct event_loop loop;
static unsigned wakes;

static inline void quit_on_wake(struct event_loop *woken)
{
    wakes++;
    event_loop_quit(woken);
}

static inline void start_loop(void)
{
    ck_assert_int_eq(event_loop_init(&loop, quit_on_wake), 0);
}

static inline void stop_loop(void)
{
    event_loop_deinit(&loop);
}

/* One turn, with whatever is ready now. */
static inline void turn(void)
{
    event_loop_wake(&loop);
    ck_assert_int_eq(event_loop_run(&loop), 0);
}

/* The same with calls that fail. Returns what the loop does. */
static inline int turn_under(const char *rules, unsigned long *hits)
{
    event_loop_wake(&loop);
    fault_rules(rules);
    int r = event_loop_run(&loop);
    *hits = fault_disarm();
    return r;
}

/* A source that is an eventfd: ready when its count is 1. */
struct probe {
    struct event_source source;
    unsigned calls;
    uint32_t events;
    void (*also)(struct probe *probe); /* when it is called */
};

static inline void on_ready(struct event_source *source, uint32_t events)
{
    struct probe *probe = CONTAINER_OF(source, struct probe, source);
    probe->calls++;
    probe->events = events;
    if (probe->also)
        probe->also(probe);
}

static inline void probe_open(struct probe *probe, unsigned count)
{
    *probe = (struct probe){.source = {.fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC), .ready = on_ready}};
    ck_assert_int_ge(probe->source.fd, 0);
}
