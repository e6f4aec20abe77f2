/* A worker on the test's own thread, turned one turn at a time, and clients at the other end of its sockets.
 */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "common.h"
#include "faults.h"
#include "serve/conn_queue.h"
#include "serve/connection.h"
#include "serve/services.h"
#include "serve/source_table.h"
#include "serve/terms.h"
#include "serve/worker.h"

struct rig {
    struct event_loop main_loop; /* what the vacancy wakes */
    unsigned main_wakes;
    struct vacancy vacancy;
    struct conn_queue *queue;
    struct worker worker;
    struct source source; /* every connection counts here */
    unsigned opened;
};

static struct rig rig;

static inline void on_main_wake(struct event_loop *loop)
{
    rig.main_wakes++;
    event_loop_quit(loop);
}

/* Messages would only disturb. Workers may log from threads of their own while no writer thread runs. */
static inline void be_quiet(void)
{
    const struct log_settings settings = {.level = LOG_LEVEL_ERROR, .target = LOG_TARGET_STDERR};
    log_configure(&settings);
}

static inline void rig_start(void)
{
    be_quiet();
    memset(&rig, 0, sizeof rig);
    ck_assert_int_eq(event_loop_init(&rig.main_loop, on_main_wake), 0);
    rig.vacancy.loop = &rig.main_loop;
    ck_assert_int_eq(conn_queue_new(256, 1, &rig.queue), 0);
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.vacancy), 0);
}

/* What was opened must have been closed, and nothing be held any more. */
static inline void rig_stop(void)
{
    worker_deinit(&rig.worker);
    ck_assert_uint_eq(atomic_load(&rig.worker.counters.closed), rig.opened);
    ck_assert_uint_eq(atomic_load(&rig.source.connections), 0);
    conn_queue_free(rig.queue);
    event_loop_deinit(&rig.main_loop);
}

/* One turn of the worker's loop with all that is ready now: asked to rest, it ends behind it. */
static inline void turn(void)
{
    worker_want(&rig.worker, WORKER_RESTS);
    int r = event_loop_run(&rig.worker.loop);
    if (r != 0) /* an assertion costs more than a turn */
        ck_abort_msg("event_loop_run: %s", strerror(-r));
    atomic_store(&rig.worker.wanted, WORKER_SERVES);
}

static inline struct terms terms_for(const char *service)
{
    static char name[] = "test";
    return (struct terms){
        .service = service_find(service),
        .idle_timeout_usec = USEC_NEVER,
        .write_timeout_usec = USEC_NEVER,
        .unsent_limit = 262144,
        .listener = name,
    };
}

static inline struct accepted accepted_for(const struct terms *terms, int server)
{
    atomic_fetch_add(&rig.source.connections, 1);
    rig.opened++;
    struct terms *copy = terms_new(terms);
    ck_assert_ptr_nonnull(copy);
    return (struct accepted){
        .fd = server,
        .terms = copy,
        .source = &rig.source,
        .client = {.family = AF_INET, .port = 4711, .ip = {192, 0, 2, 1}},
        .id = rig.opened,
        .accepted_usec = clock_monotonic_usec(),
    };
}

/* Returns the client's end of a connection that the worker serves. */
static inline int serve_small(const struct terms *terms, int sndbuf)
{
    int client, server;
    tcp_pair(sndbuf, &client, &server);
    const struct accepted accepted = accepted_for(terms, server);
    connection_open(&rig.worker, &accepted);
    return client;
}

static inline int serve(const struct terms *terms)
{
    return serve_small(terms, 0);
}

/* The connection that was opened last and lives. */
static inline struct connection *newest(void)
{
    ck_assert(!list_is_empty(&rig.worker.connections));
    return CONTAINER_OF(rig.worker.connections.prev, struct connection, link);
}

static inline uint64_t closed_as(enum reason reason)
{
    return counter_read(&rig.worker.counters.closed_by[reason]);
}

static inline bool turned(void)
{
    turn();
    return true;
}

/* Turns until so many connections closed for this reason. */
#define TURN_UNTIL_CLOSED(reason, count) WAIT_FOR(turned() && closed_as(reason) == (count))

/* Turns until so many bytes have come, and returns how many did before the end of the stream or a reset. */
static inline size_t turn_and_receive(int client, void *bytes, size_t length)
{
    size_t have = 0;
    for (int idle = 0; have < length && idle < PATIENCE_MSEC;) {
        turn();
        ssize_t r = recv(client, (char *)bytes + have, length - have, MSG_DONTWAIT);
        if (r > 0) {
            have += (size_t)r;
            idle = 0;
        } else if (r == 0 || errno != EAGAIN) {
            break;
        } else {
            nap();
            idle++;
        }
    }
    return have;
}

static inline void turn_and_expect(int client, const char *text)
{
    char bytes[1024] = "";
    size_t length = strlen(text);
    ck_assert_uint_lt(length, sizeof bytes);
    ck_assert_uint_eq(turn_and_receive(client, bytes, length), length);
    ck_assert_str_eq(bytes, text);
}

static inline void turn_and_expect_end(int client)
{
    char byte;
    ssize_t r = -1;
    WAIT_FOR(turned() && ((r = recv(client, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN));
    ck_assert_msg(r == 0, "not the end but %s", r > 0 ? "a byte" : strerror(errno));
}

static inline void turn_and_expect_reset(int client)
{
    char byte;
    ssize_t r = -1;
    WAIT_FOR(turned() && ((r = recv(client, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN));
    ck_assert_int_eq(r, -1);
    ck_assert_int_eq(errno, ECONNRESET);
}
