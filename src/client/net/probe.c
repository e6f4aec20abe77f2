#include "client/net/probe.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/net/dial.h"

#include <errno.h>
#include <sys/socket.h>

#define RECEIVE_SIZE ((size_t)64 << 10)

void probe_drop(struct probe *probe)
{
    if (!probe->is_used)
        return;
    timer_disarm(&probe->timer);
    event_loop_remove(probe->loop, &probe->source);
    fd_close(&probe->source.fd);
    probe->is_used = false;
}

static void end(struct probe *probe, enum probe_end how, int error)
{
    probe_drop(probe);
    probe->ended(probe, how, error);
}

static void limit(struct probe *probe, uint64_t usec)
{
    uint64_t deadline = usec == USEC_NEVER ? USEC_NEVER : clock_monotonic_usec() + usec;
    event_loop_arm(probe->loop, &probe->timer, deadline);
}

/* The server ended the connection: `error` 0 is a FIN. */
static void end_of_answers(struct probe *probe, int error)
{
    /* The kernel tells an error once, and then the end. */
    if (error == 0 && probe->stream.was_reset)
        error = ECONNRESET;
    if (probe->is_finishing && error == 0 && probe->stream.received == probe->stream.due)
        end(probe, PROBE_SERVED, 0);
    else
        end(probe, PROBE_BROKEN, error);
}

/* Behind the last answer. */
static void finish_if_answered(struct probe *probe)
{
    const struct linger none = {.l_onoff = 1};

    if (!probe->is_finishing || !probe->is_connected || probe->stream.received != probe->stream.due)
        return;
    if (probe->resets) {
        /* Fails for no TCP socket; any other has no TIME_WAIT. */
        (void)setsockopt(probe->source.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        end(probe, PROBE_SERVED, 0);
        return;
    }
    /* Fails when the server has gone, which is read next. */
    (void)shutdown(probe->source.fd, SHUT_WR);
}

static void flush(struct probe *probe)
{
    int r = checked_stream_send(&probe->stream, probe->source.fd);

    if (r == 0 || r == -EAGAIN)
        r = event_loop_change(probe->loop, &probe->source, r == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT);
    if (r < 0)
        end(probe, PROBE_BROKEN, -r);
}

static uint64_t count_wrong(const struct probe *probe, const uint8_t *bytes, size_t length)
{
    const struct checked_stream *stream = &probe->stream;
    uint64_t wrong = 0;

    for (size_t i = 0; i < length; i++)
        wrong += stream->received + i >= stream->sent ||
                 pattern_check(&stream->pattern, stream->expect, stream->received + i, bytes + i, 1) == 0;
    return wrong;
}

static void receive(struct probe *probe)
{
    uint8_t bytes[RECEIVE_SIZE];
    ssize_t length = recv(probe->source.fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        end_of_answers(probe, length < 0 ? errno : 0);
        return;
    }
    size_t right = checked_stream_take(&probe->stream, bytes, (size_t)length);
    while (probe->is_used && probe->stream.received - probe->answered * probe->size >= probe->size) {
        probe->answered++;
        probe->answer(probe);
    }
    if (!probe->is_used)
        return;
    if (right < (size_t)length) {
        probe->fault = checked_stream_diagnose(&probe->stream, bytes + right, (size_t)length - right);
        probe->wrong_bytes = count_wrong(probe, bytes + right, (size_t)length - right);
        end(probe, PROBE_WRONG, 0);
        return;
    }
    finish_if_answered(probe);
}

static void on_connected(struct probe *probe)
{
    int r = dial_result(probe->source.fd);

    if (r < 0) {
        end(probe, PROBE_UNCONNECTED, -r);
        return;
    }
    limit(probe, probe->serve_usec);
    probe->is_connected = true;
    flush(probe);
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct probe *probe = CONTAINER_OF(source, struct probe, source);

    if (!probe->is_connected) {
        on_connected(probe);
        return;
    }
    if (events & EPOLLOUT)
        flush(probe);
    if (probe->is_used && events & ~(uint32_t)EPOLLOUT)
        receive(probe);
}

static void on_timer(struct timer *timer)
{
    end(CONTAINER_OF(timer, struct probe, timer), PROBE_TIMED_OUT, 0);
}

void probe_init(struct probe *probe, struct event_loop *loop, void (*answer)(struct probe *probe),
                void (*ended)(struct probe *probe, enum probe_end how, int error))
{
    *probe = (struct probe){.loop = loop, .answer = answer, .ended = ended, .source = {.fd = -1}};
    timer_init(&probe->timer, on_timer);
}

/* Of what the client has, whatever the server does. */
static bool is_own_shortage(int error)
{
    return error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE || error == ENOBUFS ||
           error == ENOMEM || error == ENOSPC;
}

void probe_start(struct probe *probe, const struct probe_terms *terms, int fd)
{
    probe->stream = (struct checked_stream){.pattern = terms->pattern, .expect = terms->expect};
    probe->size = terms->size;
    probe->answered = 0;
    probe->serve_usec = terms->serve_usec;
    probe->is_connected = probe->is_finishing = false;
    probe->resets = terms->resets;
    if (fd < 0)
        fd = dial_start(terms->endpoint);
    probe->source = (struct event_source){.fd = fd, .ready = on_ready};
    int r = fd < 0 ? fd : event_loop_add(probe->loop, &probe->source, EPOLLOUT);
    if (r < 0) {
        fd_close(&probe->source.fd);
        probe->ended(probe, is_own_shortage(-r) ? PROBE_SHORT : PROBE_UNCONNECTED, -r);
        return;
    }
    probe->is_used = true;
    limit(probe, terms->connect_usec);
}

void probe_send(struct probe *probe)
{
    probe->stream.due += probe->size;
    if (probe->is_connected && !(probe->source.interest & EPOLLOUT))
        flush(probe);
}

void probe_finish(struct probe *probe)
{
    probe->is_finishing = true;
    finish_if_answered(probe);
}
