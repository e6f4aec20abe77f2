#include "client/net/connection.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/socket_option.h"
#include "client/net/dial.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* How long bytes after a wrong one are waited for. */
#define EVIDENCE_USEC USEC_PER_SEC

struct connection_evidence {
    size_t length;
    uint8_t bytes[FAULT_EVIDENCE];
};

void connection_init(struct connection *connection, struct event_loop *loop, uint8_t *scratch,
                     const struct connection_events *events)
{
    *connection =
        (struct connection){.loop = loop, .scratch = scratch, .events = events, .source = {.fd = -1}};
}

void connection_limit(struct connection *connection, uint64_t usec)
{
    uint64_t deadline = usec == USEC_NEVER ? USEC_NEVER : clock_monotonic_usec() + usec;
    event_loop_arm(connection->loop, &connection->timer, deadline);
}

void connection_drop(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection->state = CONNECTION_CLOSED;
    timer_disarm(&connection->timer);
    event_loop_remove(connection->loop, &connection->source);
    fd_close(&connection->source.fd);
    free(connection->evidence);
    connection->evidence = NULL;
}

static void end(struct connection *connection, enum connection_end how, int error)
{
    connection_drop(connection);
    connection->events->ended(connection, how, error);
}

/* ---- a wrong answer ---- */

static void judge(struct connection *connection, const uint8_t *bytes, size_t length)
{
    connection->fault = checked_stream_diagnose(&connection->stream, bytes, length);
    connection->wrong_bytes = checked_stream_count_wrong(&connection->stream, bytes, length);
    end(connection, CONNECTION_WRONG, 0);
}

static void judge_evidence(struct connection *connection)
{
    judge(connection, connection->evidence->bytes, connection->evidence->length);
}

static void add_evidence(struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct connection_evidence *evidence = connection->evidence;
    size_t room = FAULT_EVIDENCE - evidence->length;
    if (length > room)
        length = room;
    memcpy(evidence->bytes + evidence->length, bytes, length);
    evidence->length += length;
    if (evidence->length == FAULT_EVIDENCE)
        judge_evidence(connection);
}

/* The first wrong byte is at stream.received; `bytes` begin with it. Our FIN makes the server send what it
 * still has, which tells what happened. */
static void go_wrong(struct connection *connection, const uint8_t *bytes, size_t length)
{
    if (connection->events->wrong && connection->events->wrong(connection))
        connection->evidence = malloc(sizeof *connection->evidence);
    if (!connection->evidence) {
        judge(connection, bytes, length);
        return;
    }
    connection->evidence->length = 0;
    connection_limit(connection, EVIDENCE_USEC);
    (void)shutdown(connection->source.fd, SHUT_WR); /* fails when the server has gone, which is read next */
    add_evidence(connection, bytes, length);
    if (connection->state == CONNECTION_JUDGING &&
        event_loop_change(connection->loop, &connection->source, EPOLLIN) < 0)
        judge_evidence(connection);
}

void connection_give_up(struct connection *connection)
{
    if (connection->state == CONNECTION_JUDGING)
        judge_evidence(connection);
    else if (connection->state != CONNECTION_CLOSED)
        end(connection, CONNECTION_GIVEN_UP, ECANCELED);
}

/* ---- both ways ---- */

static void flush(struct connection *connection)
{
    int r = checked_stream_send(&connection->stream, connection->source.fd);
    if (r == 0 || r == -EAGAIN)
        r = event_loop_change(connection->loop, &connection->source, r == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT);
    if (r < 0)
        end(connection, CONNECTION_BROKEN, -r);
}

/* After the last answer. */
static void finish_if_answered(struct connection *connection)
{
    if (!connection->is_finishing || connection->state != CONNECTION_OPEN ||
        connection->stream.received != connection->stream.due)
        return;
    if (!connection->resets) {
        (void)shutdown(connection->source.fd,
                       SHUT_WR); /* fails when the server has gone, which is read next */
        return;
    }
    socket_reset_on_close(connection->source.fd);
    end(connection, CONNECTION_SERVED, 0);
}

/* The server ended the connection: `error` 0 is a FIN. */
static void end_of_answers(struct connection *connection, int error)
{
    /* The kernel tells an error once, and then the end. */
    if (error == 0 && connection->stream.was_reset)
        error = ECONNRESET;
    if (connection->state == CONNECTION_JUDGING)
        judge_evidence(connection);
    else if (connection->is_finishing && error == 0 && connection->stream.received == connection->stream.due)
        end(connection, CONNECTION_SERVED, 0);
    else
        end(connection, CONNECTION_BROKEN, error);
}

static void take(struct connection *connection, const uint8_t *bytes, size_t length)
{
    size_t right = checked_stream_take(&connection->stream, bytes, length);
    uint64_t messages = connection->stream.received / connection->size - connection->answered;
    bool was_finishing = connection->is_finishing;
    connection->answered += messages;
    if (right < length)
        connection->state = CONNECTION_JUDGING; /* before anybody sends more */
    if (right > 0 && connection->events->received)
        connection->events->received(connection, right, messages);
    if (right < length)
        go_wrong(connection, bytes + right, length - right);
    else if (was_finishing)
        finish_if_answered(connection);
}

static void receive(struct connection *connection)
{
    ssize_t length = recv(connection->source.fd, connection->scratch, CONNECTION_SCRATCH, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0)
        end_of_answers(connection, length < 0 ? errno : 0);
    else if (connection->state == CONNECTION_JUDGING)
        add_evidence(connection, connection->scratch, (size_t)length);
    else
        take(connection, connection->scratch, (size_t)length);
}

static void on_connected(struct connection *connection)
{
    int r = opening_go_on(connection->opening, &connection->progress, connection->source.fd);
    if (r == -EAGAIN)
        r = event_loop_change(connection->loop, &connection->source, EPOLLIN);
    else if (r == 0)
        r = 1;
    if (r < 0 && connection->progress.has_ended)
        end(connection, CONNECTION_BROKEN, 0);
    else if (r < 0)
        end(connection, CONNECTION_UNCONNECTED, -r);
    if (r <= 0)
        return;
    connection_limit(connection, connection->serve_usec);
    connection->state = CONNECTION_OPEN;
    connection->was_connected = true;
    if (connection->events->connected)
        connection->events->connected(connection);
    flush(connection);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct connection *connection = CONTAINER_OF(source, struct connection, source);
    if (connection->state == CONNECTION_CONNECTING) {
        on_connected(connection);
        return;
    }
    if (events & EPOLLOUT && connection->state == CONNECTION_OPEN)
        flush(connection);
    if (connection->state != CONNECTION_CLOSED && events & ~(uint32_t)EPOLLOUT)
        receive(connection);
}

static void on_timer(struct timer *timer)
{
    struct connection *connection = CONTAINER_OF(timer, struct connection, timer);
    if (connection->state == CONNECTION_JUDGING)
        judge_evidence(connection);
    else
        end(connection, CONNECTION_TIMED_OUT, ETIMEDOUT);
}

int connection_start(struct connection *connection, const struct connection_terms *terms, int fd)
{
    connection->stream = (struct checked_stream){.pattern = terms->pattern, .expect = terms->expect};
    connection->size = terms->size;
    connection->answered = 0;
    connection->serve_usec = terms->serve_usec;
    connection->was_connected = connection->is_finishing = false;
    connection->resets = terms->resets;
    connection->opening = terms->source && fd < 0 ? &terms->source->opening : NULL;
    connection->progress = (struct opening_progress){0};
    timer_init(&connection->timer, on_timer);
    if (fd < 0)
        fd = dial_start(terms->endpoint, terms->source, terms->number);
    if (fd < 0)
        return fd;
    connection->source = (struct event_source){.fd = fd, .ready = on_ready};
    int r = event_loop_add(connection->loop, &connection->source, EPOLLOUT);
    if (r < 0) {
        fd_close(&connection->source.fd);
        return r;
    }
    connection->state = CONNECTION_CONNECTING;
    connection_limit(connection, terms->connect_usec);
    return 0;
}

void connection_send(struct connection *connection)
{
    connection->stream.due += connection->size;
    /* While the socket is full it waits its turn. */
    if (connection->state == CONNECTION_OPEN && !(connection->source.interest & EPOLLOUT))
        flush(connection);
}

void connection_look(struct connection *connection)
{
    struct pollfd item = {.fd = connection->source.fd, .events = POLLOUT};
    if (connection->state == CONNECTION_CONNECTING && poll(&item, 1, 0) > 0)
        on_connected(connection);
}

void connection_finish(struct connection *connection)
{
    connection->is_finishing = true;
    finish_if_answered(connection);
}
