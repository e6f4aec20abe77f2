#include "client/bench/load_thread.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/thread_time.h"

#include <errno.h>

/* Connections under way at a time: what fits into the backlog of most servers. */
#define MAX_CONNECTING 64
#define RETRY_USEC (20 * USEC_PER_MSEC)

/* Messages of the schedule that are sent before answers are read again. */
#define SCHEDULE_BATCH 256

/* At the end, for what is due and had to wait for a CPU: longer, and it is the load that is too much. */
#define LAST_NSEC (10 * 1000 * NSEC_PER_USEC)

uint64_t load_due_nsec(const struct load *load, uint64_t message)
{
    uint64_t rate = load->plan.rate;
    return load->start_nsec + message / rate * NSEC_PER_SEC + message % rate * NSEC_PER_SEC / rate;
}

uint64_t load_due_until(const struct load *load, uint64_t until_nsec)
{
    const struct load_plan *plan = &load->plan;
    uint64_t rate = plan->rate, end_nsec = UINT64_MAX;

    if (rate == 0 || load->start_nsec == 0 || until_nsec < load->start_nsec)
        return 0;
    if (plan->duration_usec < UINT64_MAX / NSEC_PER_USEC)
        end_nsec = plan->duration_usec * NSEC_PER_USEC;
    /* What is due at the moment itself is due, but at the end of all there is nothing any more. */
    uint64_t passed_nsec = until_nsec - load->start_nsec;
    passed_nsec = passed_nsec < end_nsec ? passed_nsec + 1 : end_nsec;
    uint64_t due = passed_nsec / NSEC_PER_SEC * rate +
                   (passed_nsec % NSEC_PER_SEC * rate + NSEC_PER_SEC - 1) / NSEC_PER_SEC;
    return plan->count > 0 && plan->count < due ? plan->count : due;
}

/* How many of `total` things fall to one of `shares` that take turns. */
static uint64_t share_of(uint64_t total, uint64_t shares, uint64_t index)
{
    return total / shares + (index < total % shares ? 1 : 0);
}

uint64_t load_thread_not_sent(const struct load_thread *thread, uint64_t due)
{
    uint64_t missing = 0;

    for (size_t i = 0; i < thread->count; i++) {
        uint64_t share = share_of(due, thread->load->plan.connections, thread->connections[i].number);
        uint64_t passed = thread->schedule_round + (i < thread->schedule_next ? 1 : 0);
        missing += share > passed ? share - passed : 0; /* more may have been due when the last were sent */
    }
    return missing;
}

/* ---- what it costs ---- */

static uint64_t thread_cpu_nsec(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* How long the thread has been ready to run without a CPU to run on: a client that shares its CPUs with the
 * server is slowed by that, and its CPU time does not show it. */
static uint64_t thread_queued_nsec(const struct load_thread *thread)
{
    struct thread_time time = {0};
    thread_time_read(thread->time_fd, &time); /* or it is not known: all the time, or never */
    return time.waited_nsec;
}

static void measure_from_here(struct load_thread *thread)
{
    thread->run_nsec = clock_monotonic_nsec();
    thread->run_cpu_nsec = thread_cpu_nsec();
    thread->time_fd = thread_time_open();
    thread->run_queued_nsec = thread_queued_nsec(thread);
}

static void measure_until_here(struct load_thread *thread)
{
    struct load_result *result = &thread->result;

    if (thread->measured)
        return;
    thread->measured = true;
    result->over_nsec = clock_monotonic_nsec();
    result->wall_nsec = result->over_nsec - thread->run_nsec;
    result->cpu_nsec = thread_cpu_nsec() - thread->run_cpu_nsec;
    result->queued_nsec = thread_queued_nsec(thread) - thread->run_queued_nsec;
    fd_close(&thread->time_fd);
    if (result->wall_nsec > 0)
        result->busy = (double)(result->cpu_nsec + result->queued_nsec) / (double)result->wall_nsec;
    /* The clocks are not read at the same moment. */
    if (result->busy > 1)
        result->busy = 1;
}

/* ---- to connect ---- */

static void finish(struct load_thread *thread)
{
    measure_until_here(thread);
    precise_timer_deinit(&thread->schedule);
    timer_disarm(&thread->patience);
    event_loop_quit(&thread->loop);
}

static void connect_more(struct load_thread *thread)
{
    while (thread->next_connect < thread->count && thread->connecting < MAX_CONNECTING) {
        int fd = TAKE_FD(thread->first_fd);
        int r = load_connection_start(&thread->connections[thread->next_connect], fd);
        if (r == -EAGAIN) {
            event_loop_arm(&thread->loop, &thread->retry, clock_monotonic_usec() + RETRY_USEC);
            return;
        }
        thread->next_connect++;
    }
}

static void tell_if_settled(struct load_thread *thread)
{
    atomic_store(&thread->connected, thread->result.connected);
    if (thread->next_connect == thread->count && thread->connecting == 0) {
        atomic_store(&thread->settled, true);
        event_loop_wake(thread->load->coordinator);
    }
}

static void on_retry(struct timer *timer)
{
    struct load_thread *thread = CONTAINER_OF(timer, struct load_thread, retry);
    connect_more(thread);
    tell_if_settled(thread);
}

/* Not connect_more at once: this may be called from there. */
void load_thread_connected(struct load_thread *thread)
{
    thread->connecting--;
    atomic_store_explicit(&thread->open, thread->live, memory_order_relaxed);
    if (!timer_is_armed(&thread->retry))
        event_loop_wake(&thread->loop);
}

void load_thread_left(struct load_thread *thread)
{
    thread->working--;
    if (thread->running && thread->working == 0)
        measure_until_here(thread);
}

void load_thread_closed(struct load_thread *thread)
{
    thread->live--;
    atomic_store_explicit(&thread->open, thread->live, memory_order_relaxed);
    if (thread->running && thread->live == 0)
        finish(thread);
}

/* ---- to run ---- */

/* Behind this one there is none of the schedule. */
static bool is_over(const struct load_thread *thread, uint64_t message, uint64_t due_nsec)
{
    const struct load_plan *plan = &thread->load->plan;
    return (plan->count > 0 && message >= plan->count) ||
           due_nsec - thread->load->start_nsec >= plan->duration_usec * NSEC_PER_USEC;
}

/* Sends what is due by now, one batch at most. Returns when the next one is due, or 0: there is none. */
static uint64_t send_due(struct load_thread *thread)
{
    for (unsigned i = 0; thread->live > 0; i++) {
        struct load_connection *connection = &thread->connections[thread->schedule_next];
        uint64_t message = thread->schedule_round * thread->load->plan.connections + connection->number;
        uint64_t due = load_due_nsec(thread->load, message), now = clock_monotonic_nsec();
        if (is_over(thread, message, due))
            return 0;
        if (due > now || i == SCHEDULE_BATCH)
            return due;
        if (++thread->schedule_next == thread->count) {
            thread->schedule_next = 0;
            thread->schedule_round++;
        }
        if (load_connection_due(connection))
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
        if (thread->connections[i].state == LOAD_CONNECTING)
            load_connection_give_up(&thread->connections[i]);
}

static void begin_running(struct load_thread *thread)
{
    abandon_connecting(thread);
    thread->running = true;
    measure_from_here(thread);
    if (thread->live == 0)
        finish(thread);
}

static void begin_sending(struct load_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        load_connection_begin(&thread->connections[i]);
    if (thread->load->plan.rate > 0 && thread->live > 0)
        on_schedule(&thread->schedule);
}

static void on_patience(struct timer *timer)
{
    struct load_thread *thread = CONTAINER_OF(timer, struct load_thread, patience);
    for (size_t i = 0; i < thread->count; i++)
        load_connection_give_up(&thread->connections[i]);
}

/* A thread that had to wait for a CPU a moment ago sends what was due then. Who cannot keep up does not go on
 * for as long as it takes: see load_thread_not_sent. */
static void send_last(struct load_thread *thread)
{
    uint64_t stop = clock_monotonic_nsec(), due;

    do
        due = send_due(thread);
    while (due > 0 && due <= stop && clock_monotonic_nsec() < stop + LAST_NSEC);
}

static void begin_stopping(struct load_thread *thread)
{
    if (thread->load->plan.rate > 0 && thread->load->start_nsec > 0)
        send_last(thread);
    thread->stopping = true;
    measure_until_here(thread);
    if (thread->live == 0)
        return;
    event_loop_arm(&thread->loop, &thread->patience, clock_monotonic_usec() + thread->load->plan.wait_usec);
    for (size_t i = 0; i < thread->count; i++)
        load_connection_stop(&thread->connections[i]);
}

/* The coordinator has moved to another phase, or there is room to connect more. */
static void on_wake(struct event_loop *loop)
{
    struct load_thread *thread = CONTAINER_OF(loop, struct load_thread, loop);
    unsigned phase = atomic_load(&thread->load->phase);

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

static void abandon_all(struct load_thread *thread)
{
    if (!thread->running)
        begin_running(thread);
    for (size_t i = 0; i < thread->count; i++)
        load_connection_give_up(&thread->connections[i]);
}

static void *run_thread(void *argument)
{
    struct load_thread *thread = argument;
    int r = event_loop_run(&thread->loop);
    if (r < 0) {
        atomic_store(&thread->error, r);
        abandon_all(thread);
    }
    atomic_store(&thread->settled, true);
    atomic_store(&thread->finished, true);
    event_loop_wake(thread->load->coordinator);
    return NULL;
}

/* ---- to begin and to end ---- */

static int make_connections(struct load_thread *thread, size_t index)
{
    const struct load_plan *plan = &thread->load->plan;

    thread->count = (size_t)share_of(plan->connections, plan->threads, index);
    thread->connections = calloc(thread->count, sizeof *thread->connections);
    if (!thread->connections)
        return -ENOMEM;
    for (size_t i = 0; i < thread->count; i++) {
        uint64_t number = index + i * plan->threads;
        thread->connections[i] = (struct load_connection){
            .thread = thread,
            .number = number,
            .limit = plan->count > 0 ? share_of(plan->count, plan->connections, number) : UINT64_MAX,
            .source = {.fd = -1},
            .stream = {.pattern = pattern_make(plan->run, number, plan->size), .expect = plan->expect},
        };
    }
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

int load_thread_new(struct load *load, size_t index, int first_fd, struct load_thread **out)
{
    CLEANUP(free_thread) struct load_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->load = load;
    thread->first_fd = first_fd;
    thread->time_fd = -1;
    timer_init(&thread->retry, on_retry);
    timer_init(&thread->patience, on_patience);
    int r = make_connections(thread, index);
    if (r == 0)
        r = start(thread);
    if (r == 0)
        *out = TAKE_PTR(thread);
    return r;
}

void load_thread_free(struct load_thread *thread)
{
    pthread_join(thread->thread, NULL);
    event_loop_own(&thread->loop);
    event_loop_deinit(&thread->loop);
    fd_close(&thread->first_fd); /* stopped before it was used */
    free_thread(&thread);
}
