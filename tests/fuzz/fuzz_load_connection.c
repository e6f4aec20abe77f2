/* A connection of tcpecho --bench, and a server that says anything. */
#include "fuzz.h"

#include "client/bench/load_thread.h"

#include "base/clock.h"

#include <sys/socket.h>
#include <unistd.h>

static struct load load;
static struct load_thread thread;
static struct load_connection connection;

static void set_up(struct span *input)
{
    uint8_t kind = fuzz_byte(input);

    if (load.coordinator == NULL) {
        FUZZ_CHECK(event_loop_init(&thread.loop, NULL) == 0);
        load.coordinator = &thread.loop;
        thread.load = &load;
    }
    load.plan = (struct load_plan){
        .expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO,
        .size = 1 + fuzz_number(input, 500),
        .connections = 1,
        .connect_usec = USEC_PER_SEC,
    };
    /* As if there were others: the end of one is not the end of the thread. */
    thread.live = thread.working = 1;
    thread.connecting = 0;
    thread.running = true;
    thread.faults_taken = 0;
    memset(&thread.result, 0, offsetof(struct load_result, latency));
    connection = (struct load_connection){
        .thread = &thread,
        .limit = 1 + fuzz_byte(input) % 6,
        .stream = {.pattern = pattern_make(kind, 0, load.plan.size), .expect = load.plan.expect},
    };
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t piece[FUZZ_PIECE];
    int fds[2];

    set_up(&input);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    FUZZ_CHECK(load_connection_start(&connection, fds[0]) == 0);
    connection.source.ready(&connection.source, EPOLLOUT);
    FUZZ_CHECK(connection.state == LOAD_OPEN);
    load_connection_begin(&connection);
    struct fuzz_server server = {
        .input = &input, .pattern = &connection.stream.pattern, .expect = connection.stream.expect};
    while (connection.state != LOAD_CLOSED) {
        size_t came = fuzz_server_says(&server, piece);
        if (came == 0 || send(fds[1], piece, came, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            (void)shutdown(fds[1], SHUT_WR);
        connection.source.ready(&connection.source, EPOLLIN);
    }
    const struct load_result *result = &thread.result;
    FUZZ_CHECK(thread.live == 1 && thread.working == 1);
    FUZZ_CHECK(connection.evidence == NULL && connection.source.fd < 0);
    FUZZ_CHECK(result->bytes == connection.stream.received);
    FUZZ_CHECK(result->messages == connection.answered);
    FUZZ_CHECK(connection.answered == connection.stream.received / load.plan.size);
    FUZZ_CHECK(result->wrong + result->broken <= 1 && result->fault_count <= 1);
    FUZZ_CHECK(result->wrong == 0 || result->faults[0].fault.offset == connection.stream.received);
    close(fds[1]);
    return 0;
}
