/* A connection of tcpecho --watch, and a server that says anything. */
#include "fuzz.h"

#include "client/net/probe.h"

#include "base/clock.h"

#include <sys/socket.h>
#include <unistd.h>

static struct event_loop loop;
static struct probe probe;
static unsigned ends;
static enum probe_end how;

static void on_answer(struct probe *which)
{
    FUZZ_CHECK(which == &probe && probe.answered * probe.size <= probe.stream.received);
}

static void on_end(struct probe *which, enum probe_end end, int error)
{
    (void)error;
    FUZZ_CHECK(which == &probe && !probe.is_used);
    how = end;
    ends++;
}

static void hear(struct fuzz_server *server, int fd)
{
    uint8_t piece[FUZZ_PIECE];
    size_t came = fuzz_server_says(server, piece);

    if (came == 0 || send(fd, piece, came, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        (void)shutdown(fd, SHUT_WR);
    probe.source.ready(&probe.source, EPOLLIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    const struct probe_terms terms = {
        .pattern = pattern_make(kind, 1, 1 + fuzz_number(&input, 300)),
        .expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO,
        .size = 1 + (size_t)(kind & 0x7e) * 3,
        .connect_usec = USEC_PER_SEC,
        .serve_usec = USEC_NEVER,
        .resets = kind >> 7,
    };
    int fds[2];

    if (!probe.ended) {
        FUZZ_CHECK(event_loop_init(&loop, NULL) == 0);
        probe_init(&probe, &loop, on_answer, on_end);
    }
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    ends = 0;
    probe_start(&probe, &terms, fds[0]);
    FUZZ_CHECK(probe.is_used);
    for (unsigned i = 1 + fuzz_byte(&input) % 4; i > 0; i--)
        probe_send(&probe);
    probe.source.ready(&probe.source, EPOLLOUT);
    struct fuzz_server server = {.input = &input, .pattern = &probe.stream.pattern, .expect = terms.expect};
    for (unsigned i = fuzz_byte(&input) % 8; i > 0 && probe.is_used; i--)
        hear(&server, fds[1]);
    if (probe.is_used)
        probe_finish(&probe);
    while (probe.is_used)
        hear(&server, fds[1]);
    FUZZ_CHECK(ends == 1 && probe.stream.received <= probe.stream.sent);
    if (how == PROBE_WRONG)
        FUZZ_CHECK(probe.fault.offset == probe.stream.received && probe.wrong_bytes >= 1);
    if (how == PROBE_SERVED)
        FUZZ_CHECK(probe.stream.received == probe.stream.due);
    close(fds[1]);
    return 0;
}
