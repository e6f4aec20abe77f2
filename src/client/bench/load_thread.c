#include "client/bench/load_thread.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>

/* Connections under way at a time: what fits into the backlog of most servers. */
#define MAX_CONNECTING 64
#define RETRY_USEC (20 * USEC_PER_MSEC)

/* What a server may take to close after we half-closed. */
#define END_USEC USEC_PER_SEC

/* Messages of the schedule that are sent before answers are read again. */
#define SCHEDULE_BATCH 256

/* At the end, for what is due and had to wait for a CPU: longer, and it is the load that is too much. */
#define LAST_NSEC (10 * 1000 * NSEC_PER_USEC)

static void measure_until_here(struct load_thread *thread)
{
    struct load_result *result = &thread->result;
    if (thread->measured)
        return;
    thread->measured = true;
    thread_cost_end(&thread->cost);
    result->over_nsec = clock_monotonic_nsec();
    result->wall_nsec = thread->cost.wall_nsec;
    result->cpu_nsec = thread->cost.cpu_nsec;
    result->queued_nsec = thread->cost.queued_nsec;
    if (result->wall_nsec > 0)
        result->busy = (double)(result->cpu_nsec + result->queued_nsec) / (double)result->wall_nsec;
    /* The clocks are not read at the same moment. */
    if (result->busy > 1)
        result->busy = 1;
}

static void finish(struct load_thread *thread)
{
    measure_until_here(thread);
    precise_timer_deinit(&thread->schedule);
    timer_disarm(&thread->patience);
    event_loop_quit(&thread->loop);
}

static void publish_open(struct load_thread *thread)
{
    atomic_store_explicit(&thread->open, thread->live, memory_order_relaxed);
}

/* ---- a connection ---- */

static struct load_connection *of(struct connection *connection)
{
    return CONTAINER_OF(connection, struct load_connection, connection);
}

static struct load_thread *thread_of(const struct load_connection *connection)
{
    return CONTAINER_OF(connection->connection.loop, struct load_thread, loop);
}

/* A thread without a connection that works has done its measuring. */
static void stop_working(struct load_connection *connection)
{
    struct load_thread *thread = thread_of(connection);
    if (!connection->is_working)
        return;
    connection->is_working = false;
    thread->working--;
    if (thread->running && thread->working == 0)
        measure_until_here(thread);
}

/* One less is connecting, whether or not it is connected. Not connect_more at once: this may be called from
 * there. */
static void leave_connecting(struct load_thread *thread)
{
    thread->connecting--;
    publish_open(thread);
    if (!timer_is_armed(&thread->retry))
        event_loop_wake(&thread->loop);
}

static void fail_connect(struct load_thread *thread, int error)
{
    if (thread->result.unconnected++ == 0)
        thread->result.connect_error = error;
    leave_connecting(thread);
}

static void on_connected(struct connection *connection)
{
    struct load_connection *mine = of(connection);
    struct load_thread *thread = thread_of(mine);
    histogram_add(&thread->result.connect, mine->began_nsec > 0 ? clock_monotonic_nsec() - mine->began_nsec
                                                                : thread->control->plan.first_connect_nsec);
    mine->is_working = true;
    thread->result.connected++;
    thread->live++;
    thread->working++;
    leave_connecting(thread);
}

/* The next message, or the end. */
static void go_on(struct load_connection *connection)
{
    if (!connection->is_working)
        return;
    if (connection->connection.answered == connection->limit) {
        stop_working(connection);
        connection_limit(&connection->connection, END_USEC);
        connection_finish(&connection->connection);
        return;
    }
    if (thread_of(connection)->control->plan.rate > 0 || connection->connection.answered < connection->due)
        return;
    connection->due++;
    connection->began_nsec = clock_monotonic_nsec();
    connection_send(&connection->connection);
}

static void record_answer(struct load_connection *connection, uint64_t index, uint64_t now)
{
    const struct load_control *control = thread_of(connection)->control;
    struct load_result *result = &thread_of(connection)->result;
    uint64_t began = connection->began_nsec;
    if (control->plan.rate > 0)
        began = load_due_nsec(&control->plan, control->start_nsec,
                              index * control->plan.connections + connection->number);
    histogram_add(&result->latency, now - began);
    result->last_answer_nsec = now;
    result->messages++;
}

static void on_received(struct connection *connection, size_t bytes, uint64_t messages)
{
    struct load_connection *mine = of(connection);
    struct load_thread *thread = thread_of(mine);
    uint64_t now = clock_monotonic_nsec();
    for (uint64_t index = connection->answered - messages; index < connection->answered; index++)
        record_answer(mine, index, now);
    thread->result.bytes += bytes;
    atomic_store_explicit(&thread->messages, thread->result.messages, memory_order_relaxed);
    atomic_store_explicit(&thread->bytes, thread->result.bytes, memory_order_relaxed);
    if (connection->state == CONNECTION_OPEN && thread->running)
        go_on(mine);
}

/* Of how many connections there is evidence to be kept, is limited by how many faults are told. */
static bool take_fault(struct load_connection *connection)
{
    struct load_thread *thread = thread_of(connection);
    connection->is_told = thread->faults_taken < LOAD_FAULTS;
    if (connection->is_told)
        thread->faults_taken++;
    return connection->is_told;
}

static void add_fault(struct load_connection *connection, const struct fault *fault)
{
    struct load_result *result = &thread_of(connection)->result;
    result->faults[result->fault_count++] = (struct load_fault){connection->number, *fault};
}

static bool on_wrong(struct connection *connection)
{
    thread_of(of(connection))->result.wrong++;
    stop_working(of(connection));
    return take_fault(of(connection));
}

static void on_broken(struct load_connection *connection, int error)
{
    struct load_result *result = &thread_of(connection)->result;
    struct fault cut = checked_stream_cut(&connection->connection.stream);
    if (result->broken++ == 0)
        result->break_error = error;
    if (cut.length > 0 && take_fault(connection))
        add_fault(connection, &cut);
}

static void on_ended(struct connection *connection, enum connection_end end, int error)
{
    struct load_connection *mine = of(connection);
    struct load_thread *thread = thread_of(mine);
    if (!connection->was_connected) {
        fail_connect(thread, error);
        return;
    }
    stop_working(mine);
    if (end == CONNECTION_TIMED_OUT)
        thread->result.unended++;
    if (end == CONNECTION_BROKEN)
        on_broken(mine, error);
    if (end == CONNECTION_WRONG && mine->is_told)
        add_fault(mine, &connection->fault);
    if (end != CONNECTION_WRONG)
        thread->result.unanswered += mine->due - connection->answered;
    thread->live--;
    publish_open(thread);
    if (thread->running && thread->live == 0)
        finish(thread);
}

static const struct connection_events connection_events = {
    .connected = on_connected, .received = on_received, .wrong = on_wrong, .ended = on_ended};

/* Returns 0 or -EAGAIN: try this one again a little later. */
static int start_connection(struct load_connection *connection, int fd)
{
    struct load_thread *thread = thread_of(connection);
    const struct load_plan *plan = &thread->control->plan;
    const struct connection_terms terms = {
        .endpoint = &plan->endpoint,
        .pattern = pattern_make(plan->run, connection->number, plan->size),
        .expect = plan->expect,
        .size = plan->size,
        .connect_usec = plan->connect_usec,
        .serve_usec = USEC_NEVER,
    };

    if (fd < 0 && connection->began_nsec == 0)
        connection->began_nsec = clock_monotonic_nsec();
    int r = connection_start(&connection->connection, &terms, fd);
    if (r == -EAGAIN) {
        uint64_t waited = clock_monotonic_nsec() - connection->began_nsec;
        if (waited < plan->connect_usec * NSEC_PER_USEC)
            return -EAGAIN;
        r = -ETIMEDOUT;
    }
    thread->connecting++;
    if (r < 0)
        fail_connect(thread, -r);
    return 0;
}

/* One more message of the schedule. Returns whether it is sent; on a connection that is gone it has no
 * answer.
 */
static bool send_scheduled(struct load_connection *connection)
{
    if (!connection->is_working) {
        thread_of(connection)->result.unanswered++;
        return false;
    }
    connection->due++;
    connection_send(&connection->connection);
    return true;
}

/* ---- to connect ---- */

static void connect_more(struct load_thread *thread)
{
    while (thread->next_connect < thread->count && thread->connecting < MAX_CONNECTING) {
        int fd = TAKE_FD(thread->first_fd);
        int r = start_connection(&thread->connections[thread->next_connect], fd);
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
        if (send_scheduled(connection))
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
        finish(thread);
}

static void begin_sending(struct load_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        go_on(&thread->connections[i]);
    if (thread->control->plan.rate > 0 && thread->live > 0)
        on_schedule(&thread->schedule);
}

static void give_up_all(struct load_thread *thread)
{
    for (size_t i = 0; i < thread->count; i++)
        connection_give_up(&thread->connections[i].connection);
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
    measure_until_here(thread);
    if (thread->live == 0)
        return;
    event_loop_arm(&thread->loop, &thread->patience,
                   clock_monotonic_usec() + thread->control->plan.wait_usec);
    for (size_t i = 0; i < thread->count; i++) {
        thread->connections[i].limit = thread->connections[i].due;
        go_on(&thread->connections[i]);
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
    for (size_t i = 0; i < thread->count; i++) {
        uint64_t number = index + i * plan->threads;
        struct load_connection *connection = &thread->connections[i];
        connection_init(&connection->connection, &thread->loop, thread->scratch, &connection_events);
        connection->number = number;
        connection->limit = plan->count > 0 ? load_share(plan->count, plan->connections, number) : UINT64_MAX;
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

int load_thread_new(const struct load_control *control, size_t index, int first_fd, struct load_thread **out)
{
    CLEANUP(free_thread) struct load_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->control = control;
    thread->first_fd = first_fd;
    timer_init(&thread->retry, on_retry);
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
