/* A worker on the test's own thread, turned one turn at a time, and clients at the other end of its sockets.
 */
#pragma once

#include "base/clock.h"
#include "base/log.h"
#include "common.h"
#include "faults.h"
#include "serve/conn_queue.h"
#include "serve/connection.h"
#include "serve/peer_network_table.h"
#include "serve/service_config.h"
#include "serve/services.h"
#include "serve/worker.h"

struct rig {
    struct event_loop main_loop; /* what the capacity signal wakes */
    unsigned main_wakes;
    struct capacity_signal capacity;
    struct conn_queue *queue;
    struct worker worker;
    struct peer_network source; /* every connection counts here */
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
    rig.capacity.loop = &rig.main_loop;
    ck_assert_int_eq(conn_queue_new(256, 1, &rig.queue), 0);
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity), 0);
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
    worker_command(&rig.worker, WORKER_STOPS);
    int r = event_loop_run(&rig.worker.loop);
    if (r != 0) /* an assertion costs more than a turn */
        ck_abort_msg("event_loop_run: %s", strerror(-r));
    atomic_store(&rig.worker.command, WORKER_SERVES);
}

static inline struct service_config config_for(const char *service)
{
    static char name[] = "test";
    return (struct service_config){
        .service = service_find(service),
        .idle_timeout_usec = USEC_NEVER,
        .write_timeout_usec = USEC_NEVER,
        .unsent_limit = 262144,
        .listener = name,
    };
}

static inline struct new_client accepted_for(const struct service_config *config, int server)
{
    atomic_fetch_add(&rig.source.connections, 1);
    rig.opened++;
    struct service_config *copy = service_config_new(config);
    ck_assert_ptr_nonnull(copy);
    return (struct new_client){
        .fd = server,
        .config = copy,
        .network = &rig.source,
        .client = {.family = AF_INET, .port = 4711, .ip = {192, 0, 2, 1}},
        .id = rig.opened,
        .accepted_usec = clock_monotonic_usec(),
    };
}

/* Returns the client's end of a connection that the worker serves. */
static inline int serve_small(const struct service_config *config, int sndbuf)
{
    int client, server;
    tcp_pair(sndbuf, &client, &server);
    const struct new_client new_client = accepted_for(config, server);
    connection_open(&rig.worker, &new_client);
    return client;
}

static inline int serve(const struct service_config *config)
{
    return serve_small(config, 0);
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

static inline bool responded(void)
{
    turn();
    return true;
}

/* Turns until so many connections closed for this reason. */
#define TURN_UNTIL_CLOSED(reason, count) WAIT_FOR(responded() && closed_as(reason) == (count))

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
    WAIT_FOR(responded() && ((r = recv(client, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN));
    ck_assert_msg(r == 0, "not the end but %s", r > 0 ? "a byte" : strerror(errno));
}

static inline void turn_and_expect_reset(int client)
{
    char byte;
    ssize_t r = -1;
    WAIT_FOR(responded() && ((r = recv(client, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN));
    ck_assert_int_eq(r, -1);
    ck_assert_int_eq(errno, ECONNRESET);
}
