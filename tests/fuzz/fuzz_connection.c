/* A connection of tcpecho --bench or --watch, and a server that says anything. */
#include "fuzz.h"

#include "client/net/connection.h"

#include "base/clock.h"

#include <sys/socket.h>
#include <unistd.h>

static struct event_loop loop;
static struct connection connection;
static uint8_t scratch[CONNECTION_SCRATCH];
static bool keeps_evidence;
static uint64_t received, answered;
static unsigned wrongs, ends;
static enum connection_end how;

static void on_received(struct connection *which, size_t bytes, uint64_t messages)
{
    received += bytes;
    answered += messages;
    FUZZ_CHECK(which == &connection && connection.answered == answered &&
               received / connection.size == answered);
}

static bool on_wrong(struct connection *which)
{
    FUZZ_CHECK(which == &connection);
    wrongs++;
    return keeps_evidence;
}

static void on_end(struct connection *which, enum connection_end end, int error)
{
    (void)error;
    FUZZ_CHECK(which == &connection && connection.source.fd < 0 && connection.evidence == NULL);
    how = end;
    ends++;
}

static const struct connection_events events = {.received = on_received, .wrong = on_wrong, .ended = on_end};

static void hear(struct fuzz_server *server, int fd)
{
    uint8_t piece[FUZZ_PIECE];
    size_t came = fuzz_server_says(server, piece);
    if (came == 0 || send(fd, piece, came, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        (void)shutdown(fd, SHUT_WR);
    connection.source.ready(&connection.source, EPOLLIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    const struct connection_terms terms = {
        .pattern = pattern_make(kind, 1, 1 + fuzz_number(&input, 300)),
        .expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO,
        .size = 1 + (size_t)(kind & 0x3e) * 3,
        .connect_usec = USEC_PER_SEC,
        .serve_usec = USEC_NEVER,
        .resets = kind >> 7,
    };
    int fds[2];

    if (!connection.events) {
        FUZZ_CHECK(event_loop_init(&loop, NULL) == 0);
        connection_init(&connection, &loop, scratch, &events);
    }
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    keeps_evidence = kind & 0x40;
    received = answered = 0;
    wrongs = ends = 0;
    FUZZ_CHECK(connection_start(&connection, &terms, fds[0]) == 0);
    for (unsigned i = 1 + fuzz_byte(&input) % 4; i > 0; i--)
        connection_send(&connection);
    connection.source.ready(&connection.source, EPOLLOUT);
    struct fuzz_server server = {
        .input = &input, .pattern = &connection.stream.pattern, .expect = terms.expect};
    for (unsigned i = fuzz_byte(&input) % 8; i > 0 && ends == 0; i--)
        hear(&server, fds[1]);
    if (ends == 0)
        connection_finish(&connection);
    while (ends == 0)
        hear(&server, fds[1]);
    FUZZ_CHECK(ends == 1 && received == connection.stream.received && received <= connection.stream.sent);
    FUZZ_CHECK(wrongs == (how == CONNECTION_WRONG));
    if (how == CONNECTION_WRONG)
        FUZZ_CHECK(connection.fault.offset == received && connection.wrong_bytes >= 1);
    if (how == CONNECTION_SERVED)
        FUZZ_CHECK(received == connection.stream.due);
    close(fds[1]);
    return 0;
}
