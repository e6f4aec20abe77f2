#include "serve/connection.h"

#include "base/clock.h"
#include "base/socket_option.h"
#include "serve/connection_log.h"
#include "serve/connection_misbehaving.h"
#include "serve/peer_network_table.h"
#include "serve/progress.h"
#include "serve/proxied.h"
#include "serve/service_config.h"
#include "serve/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What one turn makes of a service that speaks by itself: enough to fill a wire, little enough that others
 * wait for it only microseconds. */
#define PRODUCE_SIZE 65536

/* So many pieces of one connection are sent in one turn, before others have theirs. */
#define MOST_PIECES 64

/* From here on two splices cost less than two copies. */
#define BULK_SIZE 8192

/* While the kernel holds bytes for a client, so often is worth a system call: what it took since counts no
 * later than this. */
#define LOOK_USEC (2 * USEC_PER_SEC)

static struct event_loop *loop_of(const struct connection *c)
{
    return &c->worker->loop;
}

static bool has_output(const struct connection *c)
{
    return service_has_output(c->config->service, &c->config->params, &c->state) && !misbehaving_is_mute(c);
}

/* Whether what the service has to say may be made now, and is taken. */
static bool may_produce(const struct connection *c)
{
    return has_output(c) && misbehaving_may_produce(c, SIZE_MAX) > 0;
}

/* Services without an answer() throw away what they read, and may do so while they speak. What arrives after
 * the start of a drain is left to the lingering. */
static bool wants_to_read(const struct connection *c)
{
    if (c->draining && c->due == 0)
        return false;
    return !c->unsent && !c->client_closed && (!has_output(c) || !c->config->service->answer) &&
           misbehaving_may_read(c, SIZE_MAX) > 0;
}

/* Something that was made is still to go to the client, now or later. */
static bool is_saying(const struct connection *c)
{
    return c->unsent || misbehaving_holds(c);
}

/* The client has to take bytes before anything else happens. */
static bool waits_to_send(const struct connection *c)
{
    return c->unsent || has_output(c);
}

static struct connection_facts facts_of(const struct connection *c)
{
    return (struct connection_facts){
        .id = c->id,
        .client = c->client,
        .path = proxied_path(c->proxied),
        .proxy = proxied_by(c->proxied),
        .listener = c->config->listener,
        .service = c->config->service->name,
        .worker = c->worker->index + 1,
        .bytes_in = c->bytes_in,
        .bytes_out = c->bytes_out,
        .duration_usec = clock_monotonic_usec() - c->accepted_usec,
    };
}

static void trace(const struct connection *c, bool is_read, const void *bytes, size_t length)
{
    if (!c->config->trace || length == 0)
        return;
    struct connection_facts facts = facts_of(c);
    connection_log_trace(&facts, is_read, bytes, length);
}

static void free_connection(struct connection *c)
{
    misbehaving_clear(c);
    free(c->unsent);
    free(c);
}

void connection_close(struct connection *c, enum reason reason, int error)
{
    bool probe = connection_is_probe(c, reason);
    struct connection_facts facts = facts_of(c);
    if (reason == REASON_FAULT)
        facts.fault = misbehaving_fault(c);
    timer_disarm(&c->timer);
    list_remove(&c->link);
    event_loop_remove(loop_of(c), &c->source);
    peer_network_release(c->network);
    close(c->source.fd);
    worker_count_closed(c->worker, reason);
    /* Last: who reads it finds the counters and the room as it says. */
    connection_log_closed(&facts, reason, error, probe);
    free(c->proxied);
    service_config_unref(c->config);
    free_connection(c);
}

/* With a RST: what the kernel still holds for the client is gone (socket(7), SO_LINGER). */
static void close_with_reset(struct connection *c, enum reason reason)
{
    socket_reset_on_close(c->source.fd);
    connection_close(c, reason, 0);
}

/* recv(2) or send(2) has failed: the connection is lost, and the question is only what to call it. ETIMEDOUT
 * comes of TCP_USER_TIMEOUT when bytes were left unread, and else of the keepalive. */
static void fail(struct connection *c, int error)
{
    if (c->lingering || c->reason == REASON_FAULT) /* it has ended; how the client leaves changes nothing */
        connection_close(c, c->reason, 0);
    else if (error == ETIMEDOUT && (c->unsent || connection_left_unread(c)))
        connection_close(c, REASON_WRITE_TIMEOUT, 0);
    else if (error != ECONNRESET && error != EPIPE)
        connection_close(c, REASON_ERROR, error);
    else if (c->client_closed && !is_saying(c)) /* it had half-closed, and now leaves a service without end */
        connection_close(c, REASON_CLIENT_CLOSED, 0);
    else
        connection_close(c, REASON_RESET, 0);
}

static void note_sent(struct connection *c, size_t length)
{
    c->active_usec = event_loop_stamp(loop_of(c));
    c->bytes_out += length;
    counter_add(&c->worker->counters.bytes_out, length);
}

/* Returns how many bytes the kernel took, or -1 when the connection is closed and gone. */
static ssize_t send_some(struct connection *c, const uint8_t *bytes, size_t length)
{
    ssize_t sent = send(c->source.fd, bytes, length, MSG_NOSIGNAL | misbehaving_send_flags(c));
    if (sent < 0) {
        if (errno == EAGAIN)
            return 0;
        fail(c, errno);
        return -1;
    }
    note_sent(c, (size_t)sent);
    trace(c, false, bytes, (size_t)sent);
    return sent;
}

/* Returns false when memory is short and the connection is gone. */
static bool keep_unsent(struct connection *c, const uint8_t *bytes, size_t length)
{
    c->unsent = unsent_new(bytes, length);
    if (c->unsent)
        return true;
    connection_close(c, REASON_ERROR, ENOMEM);
    return false;
}

/* Keeps what the kernel does not take; nothing is unsent yet. Returns whether the connection is still there.
 */
static bool send_or_keep(struct connection *c, const uint8_t *bytes, size_t length)
{
    ssize_t sent = send_some(c, bytes, length);
    if (sent < 0)
        return false;
    size_t rest = length - (size_t)sent;
    return rest == 0 || keep_unsent(c, bytes + sent, rest);
}

static bool send_unsent(struct connection *c)
{
    struct unsent *unsent = c->unsent;
    ssize_t sent = send_some(c, unsent->bytes + unsent->start, unsent->end - unsent->start);
    if (sent < 0)
        return false;
    unsent->start += (size_t)sent;
    if (unsent->start == unsent->end) {
        free(unsent);
        c->unsent = NULL;
    }
    return true;
}

/* The scratch buffer for one turn of this connection, or NULL when memory is short and the connection is
 * gone. */
static uint8_t *scratch(struct connection *c, size_t size)
{
    uint8_t *bytes = worker_scratch(c->worker, size);
    if (!bytes)
        connection_close(c, REASON_ERROR, ENOMEM);
    return bytes;
}

/* Of the service, now or when its time comes. Returns whether the connection is still there. */
static bool say(struct connection *c, const uint8_t *bytes, size_t length)
{
    if (!c->misbehaves)
        return send_or_keep(c, bytes, length);
    bool is_taken = misbehaving_take(c, bytes, length);
    if (!is_taken)
        connection_close(c, REASON_ERROR, ENOMEM);
    return is_taken;
}

/* In one piece, however small unsent_limit is: a line that is made later would describe another moment. */
static bool describe(struct connection *c)
{
    uint8_t *bytes = scratch(c, SERVICE_DESCRIPTION_SIZE);
    if (!bytes)
        return false;
    size_t length = connection_describe(c, bytes);
    if (length > 0)
        return say(c, bytes, length);
    connection_close(c, REASON_ERROR, ENOMEM);
    return false;
}

static bool produce(struct connection *c)
{
    if (service_describes(c->config->service, &c->config->params, &c->state))
        return describe(c);
    size_t size = c->config->unsent_limit < PRODUCE_SIZE ? c->config->unsent_limit : PRODUCE_SIZE;
    size = misbehaving_may_produce(c, size);
    uint8_t *bytes = scratch(c, size);
    if (!bytes)
        return false;
    size_t length =
        service_produce(c->config->service, &c->config->params, &c->state, time(NULL), bytes, size);
    return length == 0 || say(c, bytes, length);
}

/* Bytes of the client are in the scratch buffer. */
static void note_read(struct connection *c, size_t length)
{
    c->active_usec = event_loop_stamp(loop_of(c));
    c->bytes_in += length;
    counter_add(&c->worker->counters.bytes_in, length);
    trace(c, true, c->worker->scratch, length);
}

/* Like send_or_keep, with the bytes of the worker's pipe, and the scratch buffer for what is kept. */
static bool send_spliced(struct connection *c, uint8_t *bytes, size_t length)
{
    struct splice_pipe *splice_pipe = &c->worker->splice_pipe;
    ssize_t sent = splice_pipe_give(splice_pipe, c->source.fd, length);
    size_t rest = sent < 0 ? length : length - (size_t)sent;
    int r = splice_pipe_empty(splice_pipe, bytes, rest);
    if (sent > 0)
        note_sent(c, (size_t)sent);
    if (sent < 0 || r < 0) {
        fail(c, sent < 0 ? (int)-sent : -r);
        return false;
    }
    return rest == 0 || keep_unsent(c, bytes, rest);
}

/* Nobody looks at the bytes, and the socket is TCP's, whoever a proxy says that the client is: before
 * Linux 6.5 a local client that is slow to read could hold up the worker in splice(2). */
static bool may_splice(const struct connection *c)
{
    uint16_t family = c->proxied ? c->proxied->proxy.family : c->client.family;
    return c->config->can_splice && (family == AF_INET || family == AF_INET6);
}

/* What the client has sent, to the worker's pipe when *spliced is set, else to `bytes`. Returns how many
 * bytes, 0 at its FIN, or a negative errno. */
static ssize_t receive(const struct connection *c, uint8_t *bytes, size_t size, bool *spliced)
{
    ssize_t length = c->in_bulk ? splice_pipe_take(&c->worker->splice_pipe, c->source.fd, size) : 0;
    *spliced = length > 0;
    if (length != 0)
        return length;
    length = recv(c->source.fd, bytes, size, 0);
    return length < 0 ? -errno : length;
}

static bool answer(struct connection *c, uint8_t *bytes, size_t length)
{
    size_t size = service_answer(c->config->service, &c->config->params, &c->state, bytes, length);
    return size == 0 || say(c, bytes, size);
}

static bool read_and_answer(struct connection *c)
{
    size_t size = c->config->unsent_limit;
    uint8_t *bytes = scratch(c, size);
    if (!bytes)
        return false;
    if (c->draining && c->due < size)
        size = c->due;
    size = misbehaving_may_read(c, size);
    bool spliced;
    ssize_t length = receive(c, bytes, size, &spliced);
    if (length == -EAGAIN)
        return true;
    if (length < 0) {
        fail(c, (int)-length);
        return false;
    }
    if (length == 0) {
        c->client_closed = true;
        return true;
    }
    note_read(c, (size_t)length);
    if (c->draining)
        c->due -= (uint32_t)length;
    c->in_bulk = length >= BULK_SIZE && may_splice(c);
    return spliced ? send_spliced(c, bytes, (size_t)length) : answer(c, bytes, (size_t)length);
}

/* LINGERING: whatever arrives is thrown away until the client's FIN does. */
static void read_and_forget(struct connection *c)
{
    ssize_t length = recv(c->source.fd, c->worker->scratch, c->worker->scratch_size, 0);
    if (length > 0) {
        note_read(c, (size_t)length);
    } else if (length == 0) {
        connection_close(c, c->reason, 0);
    } else if (errno != EAGAIN) {
        fail(c, errno);
    }
}

/* Why the connection is complete, or REASON_NONE while there is more to come. */
static enum reason completed(const struct connection *c)
{
    if (has_output(c))
        return REASON_NONE;
    if (c->state.end_word_came)
        return REASON_END_WORD;
    if (c->state.done)
        return c->draining ? REASON_DRAINED : REASON_SERVED;
    if (c->client_closed)
        return REASON_CLIENT_CLOSED;
    return c->draining && c->due == 0 ? REASON_DRAINED : REASON_NONE;
}

/* Our FIN after the last byte. Returns false when the connection is closed and gone. */
static bool half_close(struct connection *c)
{
    /* After the client's FIN closing sends ours. ENOTCONN: reset meanwhile. */
    if (c->client_closed || shutdown(c->source.fd, SHUT_WR) < 0) {
        connection_close(c, c->reason, 0);
        return false;
    }
    c->lingering = true;
    c->unacknowledged = connection_unacknowledged(c);
    c->active_usec = event_loop_stamp(loop_of(c));
    return true;
}

/* One timeout counts at a time. */
enum timeout {
    TIMEOUT_IDLE,
    TIMEOUT_WRITE,
    TIMEOUT_LINGER,
    TIMEOUT_HOLD, /* never: it is our turn */
    TIMEOUT_NONE, /* the timer is not armed */
};

static enum timeout timeout_of(const struct connection *c)
{
    if (c->lingering)
        return misbehaving_stays(c) ? TIMEOUT_IDLE : TIMEOUT_LINGER;
    if (!c->unsent && misbehaving_holds(c))
        return TIMEOUT_HOLD;
    return waits_to_send(c) ? TIMEOUT_WRITE : TIMEOUT_IDLE;
}

static uint64_t deadline_of(const struct connection *c)
{
    const uint64_t usec[] = {
        [TIMEOUT_IDLE] = c->config->idle_timeout_usec,
        [TIMEOUT_WRITE] = c->config->write_timeout_usec,
        [TIMEOUT_LINGER] = c->unacknowledged > 0 ? c->config->write_timeout_usec : LINGER_USEC,
        [TIMEOUT_HOLD] = USEC_NEVER,
    };
    uint64_t timeout = usec[timeout_of(c)];
    return timeout == USEC_NEVER ? USEC_NEVER : c->active_usec + timeout;
}

/* How often the timer looks whether the client takes what the kernel holds, and some times within a short
 * write_timeout. A slow client may take megabytes before the kernel asks for more, and nothing else tells
 * that it is not stuck. */
static uint64_t look_interval(const struct connection *c)
{
    uint64_t timeout = c->config->write_timeout_usec;
    return timeout / 4 < LOOK_USEC ? timeout / 4 : LOOK_USEC;
}

static void arm_timer(struct connection *c)
{
    enum timeout timeout = timeout_of(c);
    c->timeout = (uint8_t)timeout;
    uint64_t deadline = deadline_of(c);
    uint64_t look = loop_of(c)->now + look_interval(c);
    if ((timeout == TIMEOUT_WRITE || timeout == TIMEOUT_LINGER) && look < deadline)
        deadline = look;
    event_loop_arm(loop_of(c), &c->timer, misbehaving_wake(c, deadline));
}

/* Bytes that the client takes out of the kernel's hands are a sign of life, like those that we hand to the
 * kernel. A first look has nothing to compare with: when it comes only after the deadline, the client gets
 * the benefit of the doubt. */
static void note_what_was_taken(struct connection *c)
{
    bool is_alive = false;
    if (c->lingering) {
        uint32_t left = connection_unacknowledged(c);
        is_alive = left < c->unacknowledged;
        c->unacknowledged = left;
    } else if (c->unsent) {
        int64_t taken = (int64_t)c->bytes_out - connection_unacknowledged(c);
        is_alive = c->unsent->taken == UNSENT_NOT_LOOKED ? deadline_of(c) <= loop_of(c)->now
                                                         : taken > c->unsent->taken;
        c->unsent->taken = taken;
    }
    if (is_alive)
        c->active_usec = event_loop_stamp(loop_of(c));
}

static uint32_t interest_of(const struct connection *c)
{
    uint32_t interest = c->lingering ? EPOLLIN
                        : c->unsent  ? EPOLLOUT
                                     : (wants_to_read(c) ? EPOLLIN : 0) | (may_produce(c) ? EPOLLOUT : 0);
    return misbehaving_interest(c, interest);
}

/* What is held back and whose time has come. Returns whether the connection is still there. */
static bool send_due(struct connection *c)
{
    for (unsigned pieces = 0; pieces < MOST_PIECES; pieces++) {
        struct span piece;
        switch (misbehaving_next(c, loop_of(c), &piece)) {
        case MISBEHAVING_WAIT:
            return true;
        case MISBEHAVING_SEND:
            if (!send_or_keep(c, piece.bytes, piece.length))
                return false;
            break;
        case MISBEHAVING_RESET:
            close_with_reset(c, REASON_FAULT);
            return false;
        case MISBEHAVING_NO_MEMORY:
            connection_close(c, REASON_ERROR, ENOMEM);
            return false;
        }
    }
    return true;
}

/* After every turn: ends what is complete, and asks the loop for what the connection waits for now. */
static void settle(struct connection *c)
{
    if (c->reason == REASON_NONE)
        c->reason = (uint8_t)completed(c);
    if (c->misbehaves && !c->lingering && !send_due(c))
        return;
    if (c->reason != REASON_NONE && !c->lingering && !is_saying(c) && !half_close(c))
        return;

    /* The timer moves when another timeout counts, or a fault may have another time. Bytes that move only
     * move active_usec, and the timer finds out when it fires. */
    if (timeout_of(c) != c->timeout || c->misbehaves)
        arm_timer(c);
    int r = event_loop_change(loop_of(c), &c->source, interest_of(c));
    if (r < 0)
        connection_close(c, REASON_ERROR, -r);
}

/* One turn: what is unsent goes first; then one read, and one piece of the service's own output. */
static void turn(struct connection *c, uint32_t events)
{
    if (c->lingering) {
        read_and_forget(c);
        return;
    }
    int error = misbehaving_look(c, events);
    if (error != 0) {
        fail(c, error);
        return;
    }
    if (c->unsent && !send_unsent(c))
        return;
    if (c->reason == REASON_NONE) {
        if (events & ~(uint32_t)EPOLLOUT && wants_to_read(c) && !read_and_answer(c))
            return;
        if (!c->unsent && may_produce(c) && !produce(c))
            return;
    }
    settle(c);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    turn(CONTAINER_OF(source, struct connection, source), events);
}

static void on_timer(struct timer *timer)
{
    struct connection *c = CONTAINER_OF(timer, struct connection, timer);
    if (misbehaving_is_due(c, loop_of(c)->now)) {
        turn(c, 0);
        return;
    }
    if (!c->lingering && !c->unsent && has_output(c)) {
        /* The kernel has not asked for more of an endless answer: offer it, and what it leaves tells how it
         * goes on. */
        c->timeout = TIMEOUT_NONE;
        turn(c, EPOLLOUT);
        return;
    }
    note_what_was_taken(c);
    if (deadline_of(c) > loop_of(c)->now) {
        arm_timer(c);
    } else if (c->lingering) {
        connection_close(c, c->reason, 0);
    } else if (waits_to_send(c)) {
        /* The client does not take our bytes, and the kernel would hold them for minutes. */
        close_with_reset(c, REASON_WRITE_TIMEOUT);
    } else {
        c->reason = REASON_IDLE_TIMEOUT;
        settle(c);
    }
}

/* Of a client that is new, or that another process has served. Returns NULL when memory is short. */
static struct connection *new_connection(struct worker *worker, const struct new_client *new_client)
{
    size_t more = misbehaving_size(new_client);
    struct connection *c = malloc(sizeof *c + more);
    if (!c)
        return NULL;
    *c = (struct connection){
        .source = {.fd = new_client->fd, .ready = on_ready},
        .worker = worker,
        .config = new_client->config,
        .network = new_client->network,
        .proxied = new_client->proxied,
        .id = new_client->id,
        .accepted_usec = new_client->accepted_usec,
        .active_usec = event_loop_stamp(&worker->loop),
        .client = new_client->client,
    };
    timer_init(&c->timer, on_timer);
    if (more > 0)
        misbehaving_init(c, new_client->number);
    return c;
}

void connection_open(struct worker *worker, const struct new_client *new_client)
{
    struct connection *c = new_connection(worker, new_client);
    int r = c ? 0 : -ENOMEM;
    if (r == 0 && new_client->progress)
        r = connection_restore(c, new_client->progress);
    if (r == 0)
        r = event_loop_add(&worker->loop, &c->source, EPOLLIN);
    if (r < 0) {
        if (c)
            free_connection(c);
        worker_drop(worker, new_client, REASON_ERROR, -r);
        return;
    }
    list_append(&worker->connections, &c->link);
    arm_timer(c);
    bool is_new = !new_client->progress;
    bool ends = worker->draining || (!is_new && new_client->progress->ends);
    free(new_client->progress);
    if (is_new) {
        struct connection_facts facts = facts_of(c);
        connection_log_connected(&facts);
    }
    if (ends)
        connection_drain(c);
    else if (!is_new)
        settle(c);
    else if (c->misbehaves || has_output(c))
        turn(c, EPOLLOUT);
}

void connection_drain(struct connection *c)
{
    bool is_first = !c->draining; /* not begun by the process before */
    c->draining = true;
    c->state.ending = true;
    if (is_first && !c->lingering)
        c->due = connection_arrived(c);
    misbehaving_hurry(c);
    settle(c);
}
