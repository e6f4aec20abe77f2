/* A load without its coordinator: the test is the server, and looks for itself whether a phase is over. */
#pragma once

#include "client/bench/load.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

#define SIZE 64

static struct load load;
static struct event_loop coordinator;
static struct load_result result;
static unsigned descriptors_before;

/* One connection, one thread, patience that no test comes to the end of. */
static inline struct load_plan one_connection(void)
{
    return (struct load_plan){
        .expect = EXPECT_ECHO,
        .run = 7,
        .size = SIZE,
        .connections = 1,
        .threads = 1,
        .duration_usec = USEC_NEVER,
        .connect_usec = 20 * USEC_PER_SEC,
        .wait_usec = 20 * USEC_PER_SEC,
    };
}

static inline void load_set_up(void)
{
    descriptors_before = open_descriptors();
    ck_assert_int_eq(event_loop_init(&coordinator, NULL), 0);
}

static inline void load_tear_down(void)
{
    event_loop_deinit(&coordinator);
    ck_assert_uint_eq(open_descriptors(), descriptors_before);
}

/* `fd` is the first connection, or negative. */
static inline void load_start(const struct load_plan *plan, int fd)
{
    ck_assert_int_eq(load_init(&load, plan, &coordinator, fd), 0);
    WAIT_FOR(load_is_settled(&load));
    load_run(&load);
}

static inline void load_end(void)
{
    WAIT_FOR(load_is_finished(&load));
    ck_assert_int_eq(load_collect(&load, &result), 0);
    load_deinit(&load);
}

static inline struct endpoint endpoint_of(uint16_t port)
{
    struct endpoint endpoint = {.length = sizeof(struct sockaddr_in)};
    struct sockaddr_in name = loopback(port);
    memcpy(&endpoint.address, &name, sizeof name);
    return endpoint;
}
