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
    struct admission admission;
    struct worker worker;
    struct peer_network source; /* every connection counts here */
    unsigned opened;
    int server; /* the worker's end of the connection that was opened last */
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

/* The main thread's loop alone, which `on_wake` runs on. */
static inline void rig_start_main(void (*on_wake)(struct event_loop *loop))
{
    be_quiet();
    ck_assert_int_eq(event_loop_init(&rig.main_loop, on_wake), 0);
    rig.capacity.loop = &rig.main_loop;
}

static inline void rig_start(void)
{
    rig_start_main(on_main_wake);
    ck_assert_int_eq(conn_queue_new(256, 1, &rig.queue), 0);
    ck_assert_int_eq(admission_init(&rig.admission, 32, 64), 0);
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity, &rig.admission), 0);
}

static inline uint64_t closed_as(enum reason reason)
{
    return counter_read(&rig.worker.counters.closed_by[reason]);
}

static inline uint64_t closed(void)
{
    return atomic_load(&rig.worker.counters.closed);
}

/* What was opened must have been closed, and nothing be held any more. */
static inline void rig_stop(void)
{
    worker_deinit(&rig.worker);
    ck_assert_uint_eq(closed(), rig.opened);
    ck_assert_uint_eq(atomic_load(&rig.source.connections), 0);
    conn_queue_free(rig.queue);
    admission_deinit(&rig.admission);
    event_loop_deinit(&rig.main_loop);
}

static inline void run_worker(void)
{
    int r = event_loop_run(&rig.worker.loop);
    if (r != 0) /* an assertion costs more than a turn */
        ck_abort_msg("event_loop_run: %s", strerror(-r));
}

/* One turn of the worker's loop with all that is ready now: asked to rest, it ends after it. */
static inline void turn(void)
{
    worker_command(&rig.worker, WORKER_STOPS);
    run_worker();
    worker_command(&rig.worker, WORKER_SERVES);
}

/* A turn after so much time. */
static inline void turn_after(uint64_t usec)
{
    clock_move(usec);
    turn();
}

static inline void end_turn(struct timer *timer)
{
    (void)timer;
    event_loop_quit(&rig.worker.loop);
}

/* A turn in which the worker learns that the daemon stops. */
static inline void turn_and_drain(void)
{
    struct timer end;
    timer_init(&end, end_turn);
    event_loop_arm(&rig.worker.loop, &end, 1);
    worker_command(&rig.worker, WORKER_DRAINS);
    run_worker();
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
        .number = rig.opened,
        .accepted_usec = clock_monotonic_usec(),
    };
}

/* Returns the client's end of a connection that the worker serves. */
static inline int serve_small(const struct service_config *config, int sndbuf)
{
    int client;
    tcp_pair(sndbuf, &client, &rig.server);
    const struct new_client new_client = accepted_for(config, rig.server);
    connection_open(&rig.worker, &new_client);
    return client;
}

static inline int serve(const struct service_config *config)
{
    return serve_small(config, 0);
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

/* Turns until the stream has ended, or was reset, without another byte. Returns 0 or the errno. */
static inline int turn_until_end(int client)
{
    char byte;
    ssize_t r = -1;
    WAIT_FOR(responded() && ((r = recv(client, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN));
    ck_assert_int_le(r, 0);
    return r == 0 ? 0 : errno;
}

static inline void turn_and_expect_end(int client)
{
    ck_assert_int_eq(turn_until_end(client), 0);
}
