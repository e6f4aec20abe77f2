#include "client/bench/transfer.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/bench/load_plan.h"
#include "client/check/chargen.h"

#include <errno.h>
#include <sys/socket.h>

/* Of one connection, before the others have their turn. */
#define PIECES 4

static const struct client_options *options_of(const struct transfer_thread *thread)
{
    return thread->plan->session->options;
}

static void publish(struct transfer_thread *thread)
{
    atomic_store_explicit(&thread->bytes, thread->result.bytes, memory_order_relaxed);
    atomic_store_explicit(&thread->open, thread->live, memory_order_relaxed);
}

static void wait_for_the_rest(struct transfer_thread *thread)
{
    event_loop_arm(&thread->loop, &thread->patience, clock_monotonic_usec() + options_of(thread)->wait_usec);
}

/* The load of this connection is over. Once that of all is, the server has so long to close the rest. */
static void leave_load(struct transfer_thread *thread)
{
    if (--thread->loaded == 0)
        wait_for_the_rest(thread);
}

static void close_connection(struct transfer_connection *connection)
{
    struct transfer_thread *thread = connection->thread;
    if (connection->state == TRANSFER_CLOSED)
        return;
    if (connection->state != TRANSFER_ENDING)
        leave_load(thread);
    connection->state = TRANSFER_CLOSED;
    event_loop_remove(&thread->loop, &connection->source);
    fd_close(&connection->source.fd);
    thread->live--;
    thread->result.last_answer_nsec = clock_monotonic_nsec();
    publish(thread);
    if (thread->live == 0)
        event_loop_quit(&thread->loop);
}

static void fail_to_connect(struct transfer_connection *connection, int error)
{
    struct load_result *result = &connection->thread->result;
    if (result->unconnected++ == 0)
        result->connect_error = error;
    close_connection(connection);
}

static void break_off(struct transfer_connection *connection, int error)
{
    struct load_result *result = &connection->thread->result;
    if (result->broken++ == 0)
        result->break_error = error;
    close_connection(connection);
}

/* The server is to say that it has got all. One that only sends does not end before it has been read, which
 * may take longer than the run. */
static void finish(struct transfer_connection *connection)
{
    if (connection->state != TRANSFER_OPEN)
        return;
    if (connection->thread->plan->receives) {
        close_connection(connection);
        return;
    }
    connection->state = TRANSFER_ENDING;
    leave_load(connection->thread);
    int r = dial_half_close(connection->source.fd);
    if (r == 0)
        r = event_loop_change(&connection->thread->loop, &connection->source, EPOLLIN);
    if (r < 0)
        break_off(connection, -r);
}

static void send_more(struct transfer_connection *connection)
{
    struct transfer_thread *thread = connection->thread;
    for (unsigned i = 0; i < PIECES; i++) {
        uint64_t rest = connection->limit - connection->bytes;
        size_t length = rest < thread->plan->run_size ? (size_t)rest : (size_t)thread->plan->run_size;
        ssize_t sent = send(connection->source.fd, thread->buffer, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                break_off(connection, errno);
            return;
        }
        connection->bytes += (uint64_t)sent;
        thread->result.bytes += (uint64_t)sent;
        publish(thread);
        if (connection->bytes == connection->limit) {
            finish(connection);
            return;
        }
    }
}

static void go_wrong(struct transfer_connection *connection, const uint8_t *came, size_t length)
{
    struct load_result *result = &connection->thread->result;
    if (result->fault_count < LOAD_FAULTS)
        result->faults[result->fault_count++] =
            (struct load_fault){connection->number, chargen_diagnose(connection->phase, connection->bytes,
                                                                     (struct span){came, length})};
    result->wrong++;
    close_connection(connection);
}

static void take(struct transfer_connection *connection, const uint8_t *bytes, size_t length)
{
    struct transfer_thread *thread = connection->thread;
    if (connection->bytes == 0)
        connection->phase = chargen_phase(bytes[0]);
    size_t right = chargen_check(&connection->phase, bytes, length);
    connection->bytes += right;
    thread->result.bytes += right;
    publish(thread);
    if (right < length)
        go_wrong(connection, bytes + right, length - right);
    else if (connection->bytes >= connection->limit)
        finish(connection);
}

/* A server of discard has nothing to say; what another one says is thrown away, so that it goes on taking. */
static void receive(struct transfer_connection *connection)
{
    struct transfer_thread *thread = connection->thread;
    bool receives = thread->plan->receives;
    for (unsigned i = 0; i < PIECES && connection->state != TRANSFER_CLOSED; i++) {
        ssize_t length =
            recv(connection->source.fd, thread->buffer, (size_t)thread->plan->run_size, MSG_DONTWAIT);
        if (length < 0) {
            if (errno != EAGAIN && errno != EINTR)
                break_off(connection, errno);
            return;
        }
        if (length == 0 && connection->state == TRANSFER_ENDING)
            close_connection(connection);
        else if (length == 0)
            break_off(connection, 0);
        else if (receives)
            take(connection, thread->buffer, (size_t)length);
        else
            return;
    }
}

static void on_connected(struct transfer_connection *connection)
{
    struct transfer_thread *thread = connection->thread;
    const struct opening *opening =
        connection->began_nsec > 0 ? &thread->plan->session->source.opening : NULL;
    int r = opening_go_on(opening, &connection->progress, connection->source.fd);
    if (r == -EAGAIN)
        r = event_loop_change(&thread->loop, &connection->source, EPOLLIN);
    else if (r == 0)
        r = 1;
    if (r < 0)
        fail_to_connect(connection, connection->progress.has_ended ? 0 : -r);
    if (r <= 0)
        return;
    histogram_add(&thread->result.connect, connection->began_nsec > 0
                                               ? clock_monotonic_nsec() - connection->began_nsec
                                               : thread->plan->session->connect_nsec);
    thread->result.connected++;
    connection->state = TRANSFER_OPEN;
    r = event_loop_change(&thread->loop, &connection->source,
                          thread->plan->receives ? EPOLLIN : EPOLLIN | EPOLLOUT);
    if (r < 0)
        break_off(connection, -r);
    else if (thread->stopping)
        finish(connection);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct transfer_connection *connection = CONTAINER_OF(source, struct transfer_connection, source);
    if (connection->state == TRANSFER_CONNECTING) {
        on_connected(connection);
        return;
    }
    if (events & EPOLLOUT && connection->state == TRANSFER_OPEN)
        send_more(connection);
    if (connection->state != TRANSFER_CLOSED && events & ~(uint32_t)EPOLLOUT)
        receive(connection);
}

/* ---- the thread ---- */

static void start_connection(struct transfer_connection *connection, int fd)
{
    struct transfer_thread *thread = connection->thread;
    const struct session *session = thread->plan->session;
    if (fd < 0) {
        connection->began_nsec = clock_monotonic_nsec();
        fd = dial_start(&session->endpoint, &session->source, connection->number);
    }
    connection->source = (struct event_source){.fd = fd, .ready = on_ready};
    int r = fd < 0 ? fd : event_loop_add(&thread->loop, &connection->source, EPOLLOUT);
    if (r == 0) {
        connection->state = TRANSFER_CONNECTING;
        thread->live++;
        thread->loaded++;
        return;
    }
    fd_close(&connection->source.fd);
    fail_to_connect(connection, -r);
}

/* Those that are not connected by now, or to which the server has not closed. */
static void on_patience(struct timer *timer)
{
    struct transfer_thread *thread = CONTAINER_OF(timer, struct transfer_thread, patience);
    bool is_over = thread->stopping || thread->loaded == 0;
    for (size_t i = 0; i < thread->count; i++) {
        struct transfer_connection *connection = &thread->connections[i];
        if (connection->state == TRANSFER_CONNECTING)
            fail_to_connect(connection, ETIMEDOUT);
        else if (connection->state != TRANSFER_CLOSED && is_over) {
            thread->result.unended++;
            close_connection(connection);
        }
    }
}

static void on_wake(struct event_loop *loop)
{
    struct transfer_thread *thread = CONTAINER_OF(loop, struct transfer_thread, loop);
    if (!atomic_load(&thread->stop) || thread->stopping)
        return;
    thread->stopping = true;
    for (size_t i = 0; i < thread->count; i++)
        finish(&thread->connections[i]);
    if (thread->loaded > 0) /* is still to be connected */
        wait_for_the_rest(thread);
    if (thread->live == 0)
        event_loop_quit(&thread->loop);
}

static void measure(struct transfer_thread *thread)
{
    struct load_result *result = &thread->result;
    thread_cost_end(&thread->cost);
    result->wall_nsec = thread->cost.wall_nsec;
    result->cpu_nsec = thread->cost.cpu_nsec;
    result->queued_nsec = thread->cost.queued_nsec;
    if (result->wall_nsec > 0)
        result->busy = (double)(result->cpu_nsec + result->queued_nsec) / (double)result->wall_nsec;
    result->busy = result->busy > 1 ? 1 : result->busy;
}

static void *run_thread(void *argument)
{
    struct transfer_thread *thread = argument;
    event_loop_own(&thread->loop);
    thread_cost_begin(&thread->cost);
    for (size_t i = 0; i < thread->count; i++) {
        int fd = TAKE_FD(thread->first_fd);
        start_connection(&thread->connections[i], fd);
    }
    event_loop_arm(&thread->loop, &thread->patience,
                   clock_monotonic_usec() + options_of(thread)->connect_timeout_usec);
    int r = thread->live > 0 ? event_loop_run(&thread->loop) : 0;
    if (r < 0)
        atomic_store(&thread->error, r);
    measure(thread);
    for (size_t i = 0; i < thread->count; i++)
        close_connection(&thread->connections[i]);
    timer_disarm(&thread->patience);
    atomic_store(&thread->finished, true);
    event_loop_wake(thread->coordinator);
    return NULL;
}

static void free_thread(struct transfer_thread **thread)
{
    if (!*thread)
        return;
    free((*thread)->connections);
    free((*thread)->buffer);
    free(*thread);
}

int transfer_thread_new(const struct transfer_plan *plan, struct event_loop *coordinator, size_t index,
                        int first_fd, struct transfer_thread **out)
{
    const struct client_options *options = plan->session->options;
    CLEANUP(free_thread) struct transfer_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->plan = plan;
    thread->coordinator = coordinator;
    thread->first_fd = first_fd;
    timer_init(&thread->patience, on_patience);
    thread->count = (size_t)load_share(options->connections, plan->threads, index);
    thread->connections = calloc(thread->count, sizeof *thread->connections);
    thread->buffer = malloc((size_t)plan->run_size);
    if (!thread->connections || !thread->buffer)
        return -ENOMEM;
    for (size_t at = 0; at < plan->run_size; at++)
        thread->buffer[at] = chargen_bytes()[at % CHARGEN_SENT];
    for (size_t i = 0; i < thread->count; i++) {
        uint64_t number = index + i * plan->threads;
        thread->connections[i] = (struct transfer_connection){
            .source.fd = -1,
            .thread = thread,
            .number = number,
            .limit = plan->limit > 0 ? load_share(plan->limit, options->connections, number) : UINT64_MAX,
        };
    }
    int r = event_loop_init(&thread->loop, on_wake);
    if (r < 0)
        return r;
    r = -pthread_create(&thread->thread, NULL, run_thread, thread);
    if (r < 0)
        event_loop_deinit(&thread->loop);
    else
        *out = TAKE_PTR(thread);
    return r;
}

void transfer_thread_stop(struct transfer_thread *thread)
{
    atomic_store(&thread->stop, true);
    event_loop_wake(&thread->loop);
}

void transfer_thread_free(struct transfer_thread *thread)
{
    pthread_join(thread->thread, NULL);
    event_loop_own(&thread->loop);
    event_loop_deinit(&thread->loop);
    free_thread(&thread);
}
