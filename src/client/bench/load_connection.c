#include "client/bench/load_connection.h"

#include "base/clock.h"

#include <errno.h>

/* What a server may take to close after we half-closed. */
#define END_USEC USEC_PER_SEC

void load_thread_measure(struct load_thread *thread)
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

void load_thread_finish(struct load_thread *thread)
{
    load_thread_measure(thread);
    precise_timer_deinit(&thread->schedule);
    timer_disarm(&thread->again);
    timer_disarm(&thread->patience);
    event_loop_quit(&thread->loop);
}

static void on_ended(struct connection *connection, enum connection_end end, int error);

static void publish_open(struct load_thread *thread)
{
    atomic_store_explicit(&thread->open, thread->live, memory_order_relaxed);
}

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
        load_thread_measure(thread);
}

/* One less is connecting, whether or not it is connected. Not connect_more at once: this may be called from
 * there. */
static void leave_connecting(struct load_thread *thread)
{
    if (thread->running)
        return; /* again, for the next message */
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
    thread->result.connected++;
    if (mine->is_working) { /* as a further connection, whose message leaves now */
        mine->began_nsec = clock_monotonic_nsec();
        return;
    }
    mine->is_working = true;
    thread->live++;
    thread->working++;
    leave_connecting(thread);
}

/* Nobody has anything to wait for any more. */
static void leave(struct load_connection *connection)
{
    struct load_thread *thread = thread_of(connection);
    stop_working(connection);
    thread->live--;
    publish_open(thread);
    if (thread->running && thread->live == 0)
        load_thread_finish(thread);
}

/* A further connection with its only message. It has been alive and working all the while for its thread. */
static void connect_again(struct load_connection *connection)
{
    if (!connection->is_working) { /* the one before went wrong before the load ran */
        connection->is_working = true;
        thread_of(connection)->working++;
    }
    connection->left--;
    connection->due = 1;
    connection->began_nsec = 0;
    int r = load_connection_start(connection, -1);
    if (r == 0) {
        connection_send(&connection->connection);
        connection_finish(&connection->connection);
        connection_look(&connection->connection);
    } else {
        on_ended(&connection->connection, CONNECTION_UNCONNECTED, -r);
    }
}

static bool wants_another(const struct load_connection *connection)
{
    const struct load_thread *thread = thread_of(connection);
    return thread->control->plan.reconnect && thread->running && !thread->stopping && connection->left > 0;
}

/* What fails at once is not tried again without a pause. */
static void wait_to_connect(struct load_connection *connection)
{
    struct load_thread *thread = thread_of(connection);
    connection->is_waiting = true;
    if (!timer_is_armed(&thread->again))
        event_loop_arm(&thread->loop, &thread->again, clock_monotonic_usec() + LOAD_RETRY_USEC);
}

void load_connection_try_again(struct load_connection *connection)
{
    if (!connection->is_waiting)
        return;
    connection->is_waiting = false;
    if (wants_another(connection))
        connect_again(connection);
    else
        leave(connection);
}

void load_connection_go_on(struct load_connection *connection)
{
    if (!connection->is_working)
        return;
    if (connection->connection.answered == connection->limit) {
        if (!wants_another(connection))
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
        load_connection_go_on(mine);
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
    if (!wants_another(of(connection)))
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
    if (!connection->was_connected && !thread->running) {
        fail_connect(thread, error);
        return;
    }
    if (end == CONNECTION_UNCONNECTED ||
        (!connection->was_connected && (end == CONNECTION_TIMED_OUT || end == CONNECTION_BROKEN))) {
        fail_connect(thread, error);
        if (wants_another(mine))
            wait_to_connect(mine);
        else
            leave(mine);
        return;
    }
    if (end == CONNECTION_TIMED_OUT)
        thread->result.unended++;
    if (end == CONNECTION_BROKEN)
        on_broken(mine, error);
    if (end == CONNECTION_WRONG && mine->is_told)
        add_fault(mine, &connection->fault);
    if (end != CONNECTION_WRONG)
        thread->result.unanswered += mine->due - connection->answered;
    if (!wants_another(mine))
        leave(mine);
    else if (end == CONNECTION_SERVED)
        connect_again(mine);
    else
        wait_to_connect(mine);
}

static const struct connection_events connection_events = {
    .connected = on_connected, .received = on_received, .wrong = on_wrong, .ended = on_ended};

void load_connection_init(struct load_connection *connection, struct load_thread *thread, uint64_t number)
{
    const struct load_plan *plan = &thread->control->plan;
    connection_init(&connection->connection, &thread->loop, thread->scratch, &connection_events);
    connection->number = number;
    connection->limit = plan->count > 0 ? load_share(plan->count, plan->connections, number) : UINT64_MAX;
    if (plan->reconnect && connection->limit > 1) {
        connection->left = connection->limit - 1;
        connection->limit = 1;
    }
}

int load_connection_start(struct load_connection *connection, int fd)
{
    struct load_thread *thread = thread_of(connection);
    const struct load_plan *plan = &thread->control->plan;
    const struct connection_terms terms = {
        .endpoint = &plan->endpoint,
        .source = plan->source,
        .number = connection->number,
        .pattern = pattern_make(plan->run, connection->number, plan->size),
        .expect = plan->expect,
        .size = plan->size,
        .connect_usec = plan->connect_usec,
        .serve_usec = USEC_NEVER,
        .resets = plan->reconnect, /* each would keep a local port for a minute otherwise */
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
    if (thread->running)
        return r;
    thread->connecting++;
    if (r < 0)
        fail_connect(thread, -r);
    return 0;
}

bool load_connection_send_scheduled(struct load_connection *connection)
{
    if (!connection->is_working) {
        thread_of(connection)->result.unanswered++;
        return false;
    }
    connection->due++;
    connection_send(&connection->connection);
    return true;
}
