#include "base/cleanup.h"
#include "base/clock.h"
#include "client/net/dial.h"
#include "client/bench/load_thread.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const struct load_plan *plan_of(const struct load_connection *connection)
{
    return &connection->thread->load->plan;
}

static void arm(struct load_connection *connection, uint64_t usec)
{
    event_loop_arm(&connection->thread->loop, &connection->timer, clock_monotonic_usec() + usec);
}

/* Every change of an open connection's state goes through here: a thread without one has done its measuring.
 */
static void leave_open(struct load_connection *connection, enum load_state state)
{
    bool was_open = connection->state == LOAD_OPEN;

    connection->state = state;
    if (was_open)
        load_thread_left(connection->thread);
}

static void close_connection(struct load_connection *connection)
{
    struct load_thread *thread = connection->thread;

    leave_open(connection, LOAD_CLOSED);
    timer_disarm(&connection->timer);
    event_loop_remove(&thread->loop, &connection->source);
    fd_close(&connection->source.fd);
    free(connection->evidence);
    connection->evidence = NULL;
    load_thread_closed(thread);
}

/* Without having answered all that was begun. */
static void lose_connection(struct load_connection *connection)
{
    connection->thread->result.unanswered += connection->due - connection->answered;
    close_connection(connection);
}

static void add_fault(struct load_connection *connection, const struct fault *fault)
{
    struct load_result *result = &connection->thread->result;
    result->faults[result->fault_count++] = (struct load_fault){connection->number, *fault};
}

/* The server ended the connection: `error` 0 is a FIN. */
static void break_connection(struct load_connection *connection, int error)
{
    struct load_thread *thread = connection->thread;
    struct fault fault = checked_stream_cut(&connection->stream);

    if (thread->result.broken++ == 0)
        thread->result.break_error = error;
    if (fault.length > 0 && thread->faults_taken < LOAD_FAULTS) {
        thread->faults_taken++;
        add_fault(connection, &fault);
    }
    lose_connection(connection);
}

static void conclude(struct load_connection *connection)
{
    struct load_evidence *evidence = connection->evidence;
    struct fault fault = checked_stream_diagnose(&connection->stream, evidence->bytes, evidence->length);
    add_fault(connection, &fault);
    close_connection(connection);
}

static void collect_evidence(struct load_connection *connection, const uint8_t *bytes, size_t length)
{
    struct load_evidence *evidence = connection->evidence;
    size_t room = FAULT_EVIDENCE - evidence->length;

    if (length > room)
        length = room;
    memcpy(evidence->bytes + evidence->length, bytes, length);
    evidence->length += length;
    if (evidence->length == FAULT_EVIDENCE)
        conclude(connection);
}

/* The first wrong byte is at stream.received; `bytes` begin with it. Our FIN makes the server send what
 * it still has, which tells what happened. */
static void go_wrong(struct load_connection *connection, const uint8_t *bytes, size_t length)
{
    struct load_thread *thread = connection->thread;

    thread->result.wrong++;
    if (thread->faults_taken == LOAD_FAULTS) {
        close_connection(connection);
        return;
    }
    thread->faults_taken++;
    connection->evidence = malloc(sizeof *connection->evidence);
    if (!connection->evidence) {
        struct fault fault = checked_stream_diagnose(&connection->stream, bytes, length);
        add_fault(connection, &fault);
        close_connection(connection);
        return;
    }
    connection->evidence->length = 0;
    leave_open(connection, LOAD_WRONG);
    arm(connection, LOAD_END_USEC);
    /* Fails when the server has gone, which is read next. */
    (void)shutdown(connection->source.fd, SHUT_WR);
    collect_evidence(connection, bytes, length);
    if (connection->state == LOAD_WRONG && event_loop_change(&thread->loop, &connection->source, EPOLLIN) < 0)
        conclude(connection);
}

/* Everything is answered. The server's FIN follows ours, and a byte before it is one too many. */
static void end_connection(struct load_connection *connection)
{
    leave_open(connection, LOAD_ENDING);
    arm(connection, LOAD_END_USEC);
    (void)shutdown(connection->source.fd, SHUT_WR);
}

/* Sends what is due. Returns false when the connection is gone. */
static bool flush(struct load_connection *connection)
{
    int r = checked_stream_send(&connection->stream, connection->source.fd);

    if (r == 0 || r == -EAGAIN)
        r = event_loop_change(&connection->thread->loop, &connection->source,
                              r == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT);
    if (r < 0)
        break_connection(connection, -r);
    return r == 0;
}

static void add_message(struct load_connection *connection)
{
    connection->due++;
    connection->stream.due += plan_of(connection)->size;
}

static void record_answers(struct load_connection *connection)
{
    struct load_thread *thread = connection->thread;
    const struct load_plan *plan = plan_of(connection);
    uint64_t now = clock_monotonic_nsec();

    while (connection->stream.received - connection->answered * plan->size >= plan->size) {
        uint64_t began = connection->began_nsec;
        if (plan->rate > 0)
            began =
                load_due_nsec(thread->load, connection->answered * plan->connections + connection->number);
        histogram_add(&thread->result.latency, now - began);
        thread->result.last_answer_nsec = now;
        connection->answered++;
        thread->result.messages++;
    }
    atomic_store_explicit(&thread->messages, thread->result.messages, memory_order_relaxed);
    atomic_store_explicit(&thread->bytes, thread->result.bytes, memory_order_relaxed);
}

/* The next message, or the end. */
static void go_on(struct load_connection *connection)
{
    if (connection->answered == connection->limit) {
        end_connection(connection);
        return;
    }
    if (plan_of(connection)->rate > 0 || connection->answered < connection->due)
        return;
    add_message(connection);
    connection->began_nsec = clock_monotonic_nsec();
    (void)flush(connection);
}

static void take(struct load_connection *connection, const uint8_t *bytes, size_t length)
{
    size_t right = checked_stream_take(&connection->stream, bytes, length);

    connection->thread->result.bytes += right;
    record_answers(connection);
    if (right < length)
        go_wrong(connection, bytes + right, length - right);
    else if (connection->state == LOAD_OPEN && connection->thread->running)
        go_on(connection);
}

static void end_of_answers(struct load_connection *connection, int error)
{
    /* The kernel tells an error once, and then the end. */
    if (error == 0 && connection->stream.was_reset)
        error = ECONNRESET;
    if (connection->state == LOAD_WRONG)
        conclude(connection);
    else if (connection->state == LOAD_ENDING && error == 0)
        close_connection(connection);
    else
        break_connection(connection, error);
}

static void receive(struct load_connection *connection)
{
    uint8_t *scratch = connection->thread->scratch;
    ssize_t length = recv(connection->source.fd, scratch, LOAD_SCRATCH, MSG_DONTWAIT);

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0)
        end_of_answers(connection, length < 0 ? errno : 0);
    else if (connection->state == LOAD_WRONG)
        collect_evidence(connection, scratch, (size_t)length);
    else
        take(connection, scratch, (size_t)length);
}

static void fail_connect(struct load_connection *connection, int error)
{
    struct load_result *result = &connection->thread->result;

    if (result->unconnected++ == 0)
        result->connect_error = error;
    connection->state = LOAD_CLOSED;
    load_thread_connected(connection->thread);
}

static void drop_connecting(struct load_connection *connection, int error)
{
    timer_disarm(&connection->timer);
    event_loop_remove(&connection->thread->loop, &connection->source);
    fd_close(&connection->source.fd);
    fail_connect(connection, error);
}

static void on_connected(struct load_connection *connection)
{
    struct load_thread *thread = connection->thread;
    int r = dial_result(connection->source.fd);

    if (r == 0)
        r = event_loop_change(&thread->loop, &connection->source, EPOLLIN);
    if (r < 0) {
        drop_connecting(connection, -r);
        return;
    }
    timer_disarm(&connection->timer);
    histogram_add(&thread->result.connect, connection->began_nsec > 0
                                               ? clock_monotonic_nsec() - connection->began_nsec
                                               : plan_of(connection)->first_connect_nsec);
    connection->state = LOAD_OPEN;
    thread->result.connected++;
    thread->live++;
    thread->working++;
    load_thread_connected(thread);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct load_connection *connection = CONTAINER_OF(source, struct load_connection, source);

    if (connection->state == LOAD_CONNECTING) {
        on_connected(connection);
        return;
    }
    if (events & EPOLLOUT && connection->state == LOAD_OPEN && !flush(connection))
        return;
    if (events & ~(uint32_t)EPOLLOUT)
        receive(connection);
}

static void on_timer(struct timer *timer)
{
    struct load_connection *connection = CONTAINER_OF(timer, struct load_connection, timer);

    if (connection->state == LOAD_CONNECTING) {
        drop_connecting(connection, ETIMEDOUT);
    } else if (connection->state == LOAD_WRONG) {
        conclude(connection);
    } else {
        connection->thread->result.unended++;
        close_connection(connection);
    }
}

int load_connection_start(struct load_connection *connection, int fd)
{
    struct load_thread *thread = connection->thread;
    const struct load_plan *plan = plan_of(connection);

    timer_init(&connection->timer, on_timer);
    if (fd < 0) {
        if (connection->began_nsec == 0)
            connection->began_nsec = clock_monotonic_nsec();
        fd = dial_start(&plan->endpoint);
    }
    if (fd == -EAGAIN) {
        uint64_t waited = clock_monotonic_nsec() - connection->began_nsec;
        if (waited < plan->connect_usec * NSEC_PER_USEC)
            return -EAGAIN;
        fd = -ETIMEDOUT;
    }
    thread->connecting++;
    connection->source = (struct event_source){.fd = fd, .ready = on_ready};
    int r = fd < 0 ? fd : event_loop_add(&thread->loop, &connection->source, EPOLLOUT);
    if (r < 0) {
        fd_close(&connection->source.fd);
        fail_connect(connection, -r);
        return 0;
    }
    connection->state = LOAD_CONNECTING;
    arm(connection, plan->connect_usec);
    return 0;
}

void load_connection_begin(struct load_connection *connection)
{
    if (connection->state == LOAD_OPEN)
        go_on(connection);
}

bool load_connection_due(struct load_connection *connection)
{
    if (connection->state != LOAD_OPEN) {
        connection->thread->result.unanswered++;
        return false;
    }
    add_message(connection);
    /* While the socket is full it waits its turn. */
    if (!(connection->source.interest & EPOLLOUT))
        (void)flush(connection);
    return true;
}

void load_connection_stop(struct load_connection *connection)
{
    if (connection->state != LOAD_OPEN)
        return;
    connection->limit = connection->due;
    if (connection->answered == connection->limit)
        end_connection(connection);
}

void load_connection_give_up(struct load_connection *connection)
{
    if (connection->state == LOAD_CONNECTING)
        drop_connecting(connection, ECANCELED);
    else if (connection->state == LOAD_WRONG)
        conclude(connection);
    else if (connection->state == LOAD_OPEN || connection->state == LOAD_ENDING)
        lose_connection(connection);
}
