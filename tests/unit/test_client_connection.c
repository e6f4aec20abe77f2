#include "client/net/connection.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "client_sockets.h"
#include "faults.h"

#define SIZE 64
#define LARGE ((size_t)8 << 20) /* more than a socket takes */

static struct event_loop loop;
static struct connection connection;
static uint8_t scratch[CONNECTION_SCRATCH];
static struct endpoint endpoint;
static struct connection_terms terms;
static int listening, server;
static unsigned before;

/* What was told. */
static unsigned connects, ends;
static uint64_t answers;
static size_t received;
static enum connection_end how;
static int error;
static bool wants_evidence;      /* what the owner says to a wrong byte */
static const char *failing_call; /* from then on */

static void on_connected(struct connection *which)
{
    ck_assert_ptr_eq(which, &connection);
    connects++;
    event_loop_quit(&loop);
}

static void on_received(struct connection *which, size_t bytes, uint64_t messages)
{
    ck_assert_ptr_eq(which, &connection);
    received += bytes;
    answers += messages;
    event_loop_quit(&loop);
}

static bool on_wrong(struct connection *which)
{
    ck_assert_ptr_eq(which, &connection);
    if (failing_call)
        fault_arm(failing_call, ENOMEM, 1);
    return wants_evidence;
}

static void on_end(struct connection *which, enum connection_end end, int number)
{
    fault_disarm();
    ck_assert_ptr_eq(which, &connection);
    ends++;
    how = end;
    error = number;
    event_loop_quit(&loop);
}

static const struct connection_events events = {
    .connected = on_connected, .received = on_received, .wrong = on_wrong, .ended = on_end};

static void set_up(void)
{
    before = open_descriptors();
    server = -1;
    ck_assert_int_eq(event_loop_init(&loop, NULL), 0);
    listening = listen_anywhere(8, &endpoint);
    terms = (struct connection_terms){
        .endpoint = &endpoint,
        .pattern = pattern_make(1, 1, SIZE),
        .expect = EXPECT_ECHO,
        .size = SIZE,
        .connect_usec = PATIENCE_MSEC * USEC_PER_MSEC,
        .serve_usec = USEC_NEVER,
    };
    connection_init(&connection, &loop, scratch, &events);
}

static void close_server(void)
{
    close(server);
    server = -1;
}

static void tear_down(void)
{
    connection_drop(&connection);
    event_loop_deinit(&loop);
    close(listening);
    if (server >= 0)
        close_server();
    ck_assert_uint_eq(open_descriptors(), before);
}

FIXTURE(set_up, tear_down)

static void on_idle(struct timer *timer)
{
    (void)timer;
    event_loop_quit(&loop);
}

/* Until something is told, or for a moment. */
static void turn(void)
{
    struct timer idle;
    timer_init(&idle, on_idle);
    event_loop_arm(&loop, &idle, clock_monotonic_usec() + USEC_PER_MSEC);
    ck_assert_int_eq(event_loop_run(&loop), 0);
    timer_disarm(&idle);
}

#define TURN_UNTIL(condition)                                                                                \
    while (!(condition))                                                                                     \
    turn()

/* Connected, with so many messages sent. */
static void start(unsigned messages)
{
    ck_assert_int_eq(connection_start(&connection, &terms, -1), 0);
    for (unsigned i = 0; i < messages; i++)
        connection_send(&connection); /* before it is connected */
    TURN_UNTIL(connects == 1);
    server = accept(listening, NULL, NULL);
    ck_assert_int_ge(server, 0);
}

/* As a server: takes the messages, and answers them with `change` in the byte at `place`. */
static void answer(unsigned messages, size_t place, uint8_t change)
{
    uint8_t bytes[8 * SIZE];
    receive_all(server, bytes, messages * SIZE);
    bytes[place] ^= change;
    send_all(server, bytes, messages * SIZE);
}

static void expect_ended(enum connection_end end, int number)
{
    TURN_UNTIL(ends > 0);
    ck_assert_uint_eq(ends, 1);
    ck_assert_int_eq(how, end);
    ck_assert_int_eq(error, number);
}

static void expect_fault(enum fault_kind kind, uint64_t offset, uint64_t length)
{
    char text[FAULT_TEXT_SIZE];
    const struct fault *fault = &connection.fault;
    expect_ended(CONNECTION_WRONG, 0);
    ck_assert_msg(fault->kind == kind && fault->offset == offset && fault->length == length, "kind %d: %s",
                  (int)fault->kind, fault_format(fault, text));
}

TEST(served)
{
    start(1);
    answer(1, 0, 0);
    TURN_UNTIL(answers == 1);
    connection_send(&connection);
    connection_send(&connection);
    answer(2, 0, 0);
    TURN_UNTIL(answers == 3);
    ck_assert_uint_eq(received, 3 * SIZE);
    connection_finish(&connection);
    expect_end(server);
    close_server();
    expect_ended(CONNECTION_SERVED, 0);
}

/* The half-close waits for the last answer, and a part of one is no answer. */
TEST(finished_before_it_is_answered)
{
    uint8_t bytes[SIZE];
    start(1);
    connection_finish(&connection);
    receive_all(server, bytes, SIZE);
    send_all(server, bytes, SIZE - 1);
    TURN_UNTIL(received == SIZE - 1);
    ck_assert_uint_eq(answers, 0);
    expect_nothing_yet(server);
    send_all(server, bytes + SIZE - 1, 1);
    TURN_UNTIL(answers == 1);
    expect_end(server);
    close_server();
    expect_ended(CONNECTION_SERVED, 0);
}

/* It is over with the last answer, and no port of ours is left in TIME_WAIT. */
TEST(reset_after_the_answer)
{
    terms.resets = true;
    start(1);
    connection_finish(&connection);
    answer(1, 0, 0);
    expect_ended(CONNECTION_SERVED, 0);
    expect_reset(server);
}

/* Answered or not, finished or not: the server closes or resets it too early. */
TEST_TIMES(ended_by_the_server, 6)
{
    bool is_reset = variant & 1, is_answered = variant & 2, is_finished = variant & 4;
    start(1);
    if (is_answered) {
        answer(1, 0, 0);
        TURN_UNTIL(answers == 1);
    } else if (is_finished) {
        connection_finish(&connection);
    }
    if (is_reset)
        close_hard(server);
    else
        ck_assert_int_eq(shutdown(server, SHUT_WR), 0);
    expect_ended(CONNECTION_BROKEN, is_reset ? ECONNRESET : 0);
    if (is_reset)
        server = -1;
}

/* The kernel tells a reset once, to whoever sends or receives next. */
TEST(reset_that_a_send_is_told)
{
    start(0);
    fault_arm("send", EPIPE, 1);
    connection_send(&connection);
    fault_disarm();
    ck_assert_uint_eq(ends, 0);
    ck_assert_int_eq(shutdown(server, SHUT_WR), 0);
    expect_ended(CONNECTION_BROKEN, ECONNRESET);
}

TEST(send_fails)
{
    start(0);
    fault_arm("send", ENOBUFS, 0);
    connection_send(&connection);
    fault_disarm();
    expect_ended(CONNECTION_BROKEN, ENOBUFS);
}

TEST(refused)
{
    close(listening);
    listening = bind_anywhere(&endpoint);
    ck_assert_int_eq(connection_start(&connection, &terms, -1), 0);
    expect_ended(CONNECTION_UNCONNECTED, ECONNREFUSED);
    ck_assert(!connection.was_connected);
}

TEST(not_connected_in_time)
{
    int waiting[WAITING];
    close(listening);
    listening = listen_full(&endpoint, waiting);
    terms.connect_usec = 20 * USEC_PER_MSEC;
    ck_assert_int_eq(connection_start(&connection, &terms, -1), 0);
    expect_ended(CONNECTION_TIMED_OUT, ETIMEDOUT);
    ck_assert(!connection.was_connected);
    close_all(waiting, WAITING);
}

TEST_TIMES(not_served_in_time, 2)
{
    terms.serve_usec = variant == 0 ? 20 * USEC_PER_MSEC : USEC_NEVER;
    start(1);
    if (variant == 1)
        connection_limit(&connection, 20 * USEC_PER_MSEC);
    expect_ended(CONNECTION_TIMED_OUT, ETIMEDOUT);
    ck_assert(connection.was_connected);
}

/* Nothing is told, and it may be started again. */
TEST_TIMES(no_descriptor, 2)
{
    static const char *const calls[] = {"socket", "epoll_ctl_add"};
    fault_arm(calls[variant], EMFILE, 0);
    int r = connection_start(&connection, &terms, -1);
    fault_disarm();
    ck_assert_int_eq(r, -EMFILE);
    ck_assert_uint_eq(ends, 0);
    start(0);
}

TEST(dropped)
{
    start(0);
    connection_drop(&connection);
    connection_drop(&connection);
    connection_give_up(&connection);
    ck_assert_uint_eq(ends, 0);
}

TEST(given_up)
{
    start(0);
    connection_give_up(&connection);
    expect_ended(CONNECTION_GIVEN_UP, ECANCELED);
}

/* More than the socket takes: sent as it empties, answered as it comes. */
TEST(large_messages)
{
    static uint8_t bytes[65536];
    terms.size = LARGE;
    start(2);
    connection_finish(&connection);
    for (size_t left = 2 * LARGE, done = 0; left > 0; done = 0) {
        TURN_UNTIL(arrived(server) > 0);
        ssize_t length = recv(server, bytes, sizeof bytes, MSG_DONTWAIT);
        ck_assert_int_gt(length, 0);
        while (done < (size_t)length) {
            ssize_t r = send(server, bytes + done, (size_t)length - done, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (r < 0)
                turn();
            else
                done += (size_t)r;
        }
        left -= (size_t)length;
    }
    TURN_UNTIL(answers == 2);
    expect_end(server);
    close_server();
    expect_ended(CONNECTION_SERVED, 0);
    ck_assert_uint_eq(received, 2 * LARGE);
}

/* ---- a wrong byte ---- */

TEST(wrong_byte)
{
    start(2);
    answer(2, SIZE + 10, 0x80);
    expect_fault(FAULT_CHANGED, SIZE + 10, 1);
    ck_assert_uint_eq(answers, 1);
    ck_assert_uint_eq(connection.wrong_bytes, 1);
}

/* Also after our half-close. */
TEST_TIMES(bytes_too_many, 2)
{
    start(1);
    if (variant == 1)
        connection_finish(&connection);
    answer(1, 0, 0);
    TURN_UNTIL(answers == 1);
    send_text(server, "xyz");
    expect_fault(FAULT_SURPLUS, SIZE, 3);
    ck_assert_uint_eq(connection.wrong_bytes, 3);
}

/* The server is asked for the rest, which is evidence: until it closes, or a second is over, or the owner has
 * waited long enough. */
TEST_TIMES(evidence, 4)
{
    uint8_t bytes[SIZE];
    wants_evidence = true;
    start(1);
    receive_all(server, bytes, SIZE);
    bytes[20] ^= 0x80;
    send_all(server, bytes, 30);
    TURN_UNTIL(received == 20);
    expect_end(server);
    connection_send(&connection); /* which is not sent any more */
    send_all(server, bytes + 30, SIZE - 30);
    if (variant == 0)
        close_server();
    if (variant == 1)
        connection_give_up(&connection);
    if (variant == 2)
        close_hard(TAKE_FD(server));
    expect_fault(FAULT_CHANGED, 20, 1);
}

/* There may be more than is looked at. */
TEST(a_flood_of_wrong_bytes)
{
    static uint8_t zeros[2 * FAULT_EVIDENCE];
    wants_evidence = true;
    start(1);
    for (size_t sent = 0; sent < sizeof zeros && ends == 0;) {
        ssize_t r = send(server, zeros, sizeof zeros - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += r > 0 ? (size_t)r : 0;
        if (r < 0)
            turn();
    }
    expect_ended(CONNECTION_WRONG, 0);
    ck_assert_uint_ge(connection.wrong_bytes, FAULT_EVIDENCE - SIZE);
}

/* Then what came at once has to do. */
TEST_TIMES(evidence_that_cannot_be_kept, 2)
{
    static const struct {
        const char *call;
        uint64_t size;
    } cases[] = {{"malloc", SIZE}, {"epoll_ctl_mod", LARGE}};

    wants_evidence = true;
    terms.size = cases[variant].size;
    terms.pattern = pattern_make(1, 1, terms.size);
    start(1);
    failing_call = cases[variant].call;
    send_text(server, "\n\n\n\n");
    expect_ended(CONNECTION_WRONG, 0);
    ck_assert_uint_eq(connection.fault.offset, 0);
}
