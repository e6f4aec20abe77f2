#include "client/bench/load_thread.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>

/* Connections under way at a time: what fits into the backlog of most servers. */
#define MAX_CONNECTING 64

/* Messages of the schedule that are sent before answers are read again. */
#define SCHEDULE_BATCH 256

/* At the end, for what is due and had to wait for a CPU: longer, and it is the load that is too much. */
#define LAST_NSEC (10 * 1000 * NSEC_PER_USEC)

/* ---- to connect ---- */

static void connect_more(struct load_thread *thread)
{
    while (thread->next_connect < thread->count && thread->connecting < MAX_CONNECTING) {
        int fd = TAKE_FD(thread->first_fd);
        int r = load_connection_start(&thread->connections[thread->next_connect], fd);
        if (r == -EAGAIN) {
            event_loop_arm(&thread->loop, &thread->retry, clock_monotonic_usec() + LOAD_RETRY_USEC);
            return;
        }
        thread->next_connect++;
    }
}

static void tell_if_settled(struct load_thread *thread)
{
    atomic_store(&thread->connected, thread->result.connected);
    if (thread->next_connect == thread->count && thread->connecting == 0) {
        atomic_store(&thread->state, LOAD_THREAD_SETTLED);
        event_loop_wake(thread->control->coordinator);
    }
}

static void on_retry(struct timer *timer)
{
    struct load_thread *thread = CONTAINER_OF(timer, struct load_thread, retry);
    connect_more(thread);
    tell_if_settled(thread);
}

/* ---- to run ---- */

/* Whether this message is after the last of the schedule. */
static bool is_over(const struct load_thread *thread, uint64_t message, uint64_t due_nsec)
{
    const struct load_plan *plan = &thread->control->plan;
    return (plan->count > 0 && message >= plan->count) ||
           due_nsec - thread->control->start_nsec >= plan->duration_usec * NSEC_PER_USEC;
}

/* Sends what is due by now, one batch at most. Returns when the next one is due, or 0: there is none. */
static uint64_t send_due(struct load_thread *thread)
{
    const struct load_control *control = thread->control;
    for (unsigned i = 0; thread->live > 0; i++) {
        struct load_connection *connection = &thread->connections[thread->schedule_next];
        uint64_t message = thread->schedule_round * control->plan.connections + connection->number;
        uint64_t due = load_due_nsec(&control->plan, control->start_nsec, message);
        uint64_t now = clock_monotonic_nsec();
        if (is_over(thread, message, due))
            return 0;
        if (due > now || i == SCHEDULE_BATCH)
            return due;
        if (++thread->schedule_next == thread->count) {
            thread->schedule_next = 0;
            thread->schedule_round++;
        }
        if (load_connection_send_scheduled(connection))
            histogram_add(&thread->result.lag, now - due);
    }
    return 0;
}

static void on_schedule(struct precise_timer *timer)
{
    struct load_thread *thread = CONTAINER_OF(timer, struct load_thread, schedule);
    uint64_t due = thread->stopping ? 0 : send_due(thread);
    if (due > 0)
        precise_timer_arm(timer, due);
}

/* Nothing is connected any more that is not yet. */
static void abandon_connecting(struct load_thread *thread)
{
    thread->next_connect = thread->count;
    timer_disarm(&thread->retry);
    for (size_t i = 0; i < thread->count && thread->connecting > 0; i++)
        if (!thread->connections[i].connection.was_connected)
            connection_give_up(&thread->connections[i].connection);
}

static void begin_running(struct load_thread *thread)
{
    abandon_connecting(thread);
    thread->running = true;
    thread_cost_begin(&thread->cost);
    if (thread->live == 0)
        load_thread_finish(thread);
}

static void begin_sending(struct load_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        load_connection_go_on(&thread->connections[i]);
    if (thread->control->plan.rate > 0 && thread->live > 0)
        on_schedule(&thread->schedule);
}

static void give_up_all(struct load_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        connection_give_up(&thread->connections[i].connection);
}

static void on_again(struct timer *timer)
{
    struct load_thread *thread = CONTAINER_OF(timer, struct load_thread, again);
    for (size_t i = 0; i < thread->count; i++)
        load_connection_try_again(&thread->connections[i]);
}

static void on_patience(struct timer *timer)
{
    give_up_all(CONTAINER_OF(timer, struct load_thread, patience));
}

/* A thread that had to wait for a CPU a moment ago sends what was due then. A thread that cannot keep up does
 * not go on for as long as it takes: see load_thread_not_sent. */
static void send_last(struct load_thread *thread)
{
    uint64_t stop = clock_monotonic_nsec(), due;
    do
        due = send_due(thread);
    while (due > 0 && due <= stop && clock_monotonic_nsec() < stop + LAST_NSEC);
}

static void begin_stopping(struct load_thread *thread)
{
    if (thread->control->plan.rate > 0 && thread->control->start_nsec > 0)
        send_last(thread);
    thread->stopping = true;
    load_thread_measure(thread);
    if (thread->live == 0)
        return;
    event_loop_arm(&thread->loop, &thread->patience,
                   clock_monotonic_usec() + thread->control->plan.wait_usec);
    for (size_t i = 0; i < thread->count; i++) {
        thread->connections[i].limit = thread->connections[i].due;
        load_connection_try_again(&thread->connections[i]);
        load_connection_go_on(&thread->connections[i]);
    }
}

/* The coordinator has moved to another phase, or there is room to connect more. */
static void on_wake(struct event_loop *loop)
{
    struct load_thread *thread = CONTAINER_OF(loop, struct load_thread, loop);
    unsigned phase = atomic_load(&thread->control->phase);
    if (phase == LOAD_CONNECT) {
        if (!timer_is_armed(&thread->retry))
            connect_more(thread);
        tell_if_settled(thread);
        return;
    }
    if (!thread->running) {
        begin_running(thread);
        if (phase == LOAD_RUN)
            begin_sending(thread);
    }
    if (phase == LOAD_STOP && !thread->stopping)
        begin_stopping(thread);
}

static void *run_thread(void *argument)
{
    struct load_thread *thread = argument;
    int r = event_loop_run(&thread->loop);
    if (r < 0) {
        atomic_store(&thread->error, r);
        if (!thread->running)
            begin_running(thread);
        give_up_all(thread);
    }
    atomic_store(&thread->state, LOAD_THREAD_FINISHED);
    event_loop_wake(thread->control->coordinator);
    return NULL;
}

/* ---- to begin and to end ---- */

static int make_connections(struct load_thread *thread, size_t index)
{
    const struct load_plan *plan = &thread->control->plan;
    thread->count = (size_t)load_share(plan->connections, plan->threads, index);
    thread->connections = calloc(thread->count, sizeof *thread->connections);
    if (!thread->connections)
        return -ENOMEM;
    for (size_t i = 0; i < thread->count; i++)
        load_connection_init(&thread->connections[i], thread, index + i * plan->threads);
    return 0;
}

static void free_thread(struct load_thread **thread)
{
    if (!*thread)
        return;
    free((*thread)->connections);
    free(*thread);
}

static int start(struct load_thread *thread)
{
    int r = event_loop_init(&thread->loop, on_wake);
    if (r < 0)
        return r;
    r = precise_timer_init(&thread->schedule, &thread->loop, on_schedule);
    if (r < 0) {
        event_loop_deinit(&thread->loop);
        return r;
    }
    event_loop_wake(&thread->loop);
    r = -pthread_create(&thread->thread, NULL, run_thread, thread);
    if (r < 0) {
        precise_timer_deinit(&thread->schedule);
        event_loop_deinit(&thread->loop);
    }
    return r;
}

int load_thread_new(const struct load_control *control, size_t index, int first_fd, struct load_thread **out)
{
    CLEANUP(free_thread) struct load_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->control = control;
    thread->first_fd = first_fd;
    timer_init(&thread->retry, on_retry);
    timer_init(&thread->again, on_again);
    timer_init(&thread->patience, on_patience);
    int r = make_connections(thread, index);
    if (r == 0)
        r = start(thread);
    if (r == 0)
        *out = TAKE_PTR(thread);
    return r;
}

uint64_t load_thread_not_sent(const struct load_thread *thread, uint64_t due)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < thread->count; i++) {
        uint64_t share = load_share(due, thread->control->plan.connections, thread->connections[i].number);
        uint64_t passed = thread->schedule_round + (i < thread->schedule_next ? 1 : 0);
        missing += share > passed ? share - passed : 0; /* more may have been due when the last were sent */
    }
    return missing;
}

void load_thread_free(struct load_thread *thread)
{
    pthread_join(thread->thread, NULL);
    event_loop_own(&thread->loop);
    event_loop_deinit(&thread->loop);
    fd_close(&thread->first_fd); /* stopped before it was used */
    free_thread(&thread);
}
