/* Clients whose proxy has yet to say who they are, as the proxy sees it. */
#include "serve/proxy_arrival.h"

#include "base/proxy_header.h"
#include "capture.h"
#include "connection_rig.h"
#include "serve/progress.h"
#include "serve/proxied.h"

#define TIMEOUT_USEC (3 * USEC_PER_SEC)

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V1 "PROXY TCP4 203.0.113.7 192.0.2.2 50312 7\r\n"
#define NETS "\xcb\0\x71\x07\xc0\0\2\2\xc4\x88\0\7" /* the same in binary */
#define V2 SIGNATURE "\x21\x11\0\x0c" NETS
#define WITH_TLV SIGNATURE "\x21\x11\0\x18" NETS "\2\0\x09localhost"
#define V6 "PROXY TCP6 2001:db8::7 2001:db8::1 50312 7\r\n"
#define LOCAL SIGNATURE "\x20\0\0\0"
#define UNKNOWN "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"

struct bytes {
    const char *bytes;
    size_t length;
};
#define BYTES(text) {(text), sizeof(text) - 1}

FIXTURE(rig_start, rig_stop)

static struct service_config terms(const char *service)
{
    struct service_config config = config_for(service);
    config.proxy.protocol = true;
    config.proxy.timeout_usec = TIMEOUT_USEC;
    return config;
}

static struct new_client accept_of(const struct service_config *config, int *client)
{
    tcp_pair(0, client, &rig.server);
    struct new_client new_client = accepted_for(config, rig.server);
    new_client.network = NULL; /* the peer counts nowhere */
    atomic_fetch_sub(&rig.source.connections, 1);
    return new_client;
}

/* Returns the proxy's end, which has sent so many bytes before its client is looked at. */
static int arrive_with(const struct service_config *config, const void *bytes, size_t length)
{
    int client;
    const struct new_client new_client = accept_of(config, &client);
    if (length > 0)
        send_and_arrive(client, bytes, length);
    proxy_arrival_open(&rig.worker, &new_client);
    return client;
}

static int arrive(const struct service_config *config, const char *text)
{
    return arrive_with(config, text, strlen(text));
}

/* Whether a client of this address is alone: nobody of its network is counted any more. */
static bool is_alone(const char *text)
{
    const struct admission_rules one = {.per_source = 1};
    struct peer_network *source;
    struct address client;
    ck_assert_int_eq(address_parse(text, 1, &client), 0);
    enum reason reason = admission_check(&rig.admission, &one, &client, &source);
    if (reason == REASON_NONE)
        peer_network_release(source);
    return reason == REASON_NONE;
}

/* Nothing of it was answered. */
static void expect_closed(int client, enum reason reason, uint64_t count)
{
    turn_until_end(client);
    ck_assert_uint_eq(closed_as(reason), count);
    close(client);
}

static void leave_as(int client, enum reason reason, uint64_t count)
{
    close(client);
    TURN_UNTIL_CLOSED(reason, count);
}

static const struct bytes headers[] = {BYTES(V1),       BYTES(V6),    BYTES(V2),
                                       BYTES(WITH_TLV), BYTES(LOCAL), BYTES(UNKNOWN)};

/* The first byte of data is the connection's own, wherever the bytes are cut. */
TEST_EACH(cut_at_every_byte, headers)
{
    struct service_config config = terms("echo");
    char whole[256];
    size_t length = c->length + 5;
    memcpy(whole, c->bytes, c->length);
    memcpy(whole + c->length, "hello", 5);
    unsigned descriptors = open_descriptors();
    for (size_t cut = 0; cut <= length; cut++) {
        int client = arrive_with(&config, whole, cut);
        turn();
        if (cut < length)
            send_and_arrive(client, whole + cut, length - cut);
        turn_and_expect(client, "hello");
        ck_assert_uint_eq(bytes_in(), 5 * (cut + 1)); /* no byte of the header counts */
        leave_as(client, REASON_CLIENT_CLOSED, cut + 1);
        ck_assert_uint_eq(open_descriptors(), descriptors);
    }
    ck_assert(is_alone("203.0.113.7") && is_alone("2001:db8::7"));
}

TEST(byte_by_byte)
{
    struct service_config config = terms("upper");
    int client = arrive(&config, "");
    for (size_t i = 0; i < sizeof WITH_TLV - 1; i++) {
        send_and_arrive(client, &WITH_TLV[i], 1);
        turn();
    }
    expect_nothing_yet(client);
    send_text(client, "x");
    turn_and_expect(client, "X");
    leave_as(client, REASON_CLIENT_CLOSED, 1);
}

/* Of the greatest length: taken whole, in pieces. */
TEST(greatest_header)
{
    static uint8_t header[PROXY_HEADER_V2_MAX] = SIGNATURE "\x21\x11\xff\xff" NETS "\4\xff\xf0";
    struct service_config config = terms("echo");
    int client = arrive(&config, "");
    for (size_t at = 0; at < sizeof header; at += 4096) {
        size_t length = sizeof header - at < 4096 ? sizeof header - at : 4096;
        send_and_arrive(client, header + at, length);
        turn();
    }
    send_text(client, "data");
    turn_and_expect(client, "data");
    ck_assert_uint_eq(bytes_in(), 4);
    leave_as(client, REASON_CLIENT_CLOSED, 1);
}

/* Of so many bytes, with a TLV that nobody looks at and data after it. */
static void make_header(uint8_t *bytes, size_t length)
{
    size_t rest = length - 16, value = rest - 12 - 3;
    memset(bytes, 0, length);
    memcpy(bytes, SIGNATURE "\x21\x11\0\0" NETS "\4", 29);
    bytes[14] = (uint8_t)(rest >> 8);
    bytes[15] = (uint8_t)rest;
    bytes[29] = (uint8_t)(value >> 8);
    bytes[30] = (uint8_t)value;
    memcpy(bytes + length, "data", 4);
}

static const size_t lengths[] = {31, 255, 256, 257, 511, 512, 513, 700, 1024, 1025, 5000, 65551};

/* Longer and shorter than the room that grows for it: a sanitizer would know. */
TEST_EACH(all_there_at_once, lengths)
{
    static uint8_t bytes[PROXY_HEADER_V2_MAX + 4];
    struct service_config config = terms("echo");
    make_header(bytes, *c);
    int client = arrive_with(&config, bytes, *c + 4);
    turn_and_expect(client, "data");
    leave_as(client, REASON_CLIENT_CLOSED, 1);
}

/* A service that speaks first waits until it is known to whom. */
TEST(greeting_after_the_header)
{
    struct service_config config = terms("daytime");
    config.params.greeting = "hello\n";
    config.params.greeting_length = 6;
    int client = arrive(&config, "PROXY");
    turn();
    expect_nothing_yet(client);
    send_text(client, &V1[5]);
    turn_and_expect(client, "hello\n");
    leave_as(client, REASON_SERVED, 1);
}

static const struct bytes malformed[] = {
    BYTES("hello"),
    BYTES("GET / HTTP/1.1\r\n"),
    BYTES("PROXY TCP5 "),
    BYTES("PROXY TCP4 203.0.113.7 192.0.2.2 65536 7\r\n"),
    BYTES("PROXY TCP4 203.0.113.7 192.0.2.2 50312 7\n"),
    BYTES(SIGNATURE "\x31\x11\0\x0c" NETS),
    BYTES(SIGNATURE "\x21\x11\0\x0f" NETS "\2\0\x09"),
};

TEST_EACH(malformed_is_refused, malformed)
{
    struct service_config config = terms("echo");
    for (uint64_t i = 1; i <= 3; i++)
        expect_closed(arrive_with(&config, c->bytes, c->length), REASON_BAD_PROXY_HEADER, i);
    int client = arrive_with(&config, c->bytes, 4);
    turn();
    send_all(client, c->bytes + 4, c->length - 4);
    expect_closed(client, REASON_BAD_PROXY_HEADER, 4);
}

static const size_t shares[] = {0, 1, sizeof V1 - 2};

TEST_EACH(late, shares)
{
    struct service_config config = terms("echo");
    int client = arrive_with(&config, V1, *c);
    turn_after(TIMEOUT_USEC - 10 * USEC_PER_MSEC);
    expect_nothing_yet(client);
    ck_assert_uint_eq(closed(), 0);
    clock_move(20 * USEC_PER_MSEC);
    expect_closed(client, REASON_BAD_PROXY_HEADER, 1);
}

/* A worker that did not run looks at what has come before it looks at the time. */
TEST_EACH(frozen_drops_nobody, shares)
{
    struct service_config config = terms("echo");
    int client = arrive_with(&config, V1, *c);
    turn();
    send_text(client, &V1[*c]);
    send_text(client, "data");
    turn_after(10 * TIMEOUT_USEC);
    turn_and_expect(client, "data");
    leave_as(client, REASON_CLIENT_CLOSED, 1);
    int queued = arrive_with(&config, V1, sizeof V1 - 1); /* or it was in the queue all the time */
    turn_after(10 * TIMEOUT_USEC);
    send_text(queued, "data");
    turn_and_expect(queued, "data");
    leave_as(queued, REASON_CLIENT_CLOSED, 2);
}

static void reset(int client)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    ck_assert_int_eq(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(client);
}

/* A health check that opens and closes is nobody's mistake. */
TEST(probes)
{
    struct service_config config = terms("echo");
    capture(LOG_LEVEL_INFO);
    leave_as(arrive(&config, ""), REASON_CLIENT_CLOSED, 1);
    reset(arrive(&config, ""));
    TURN_UNTIL_CLOSED(REASON_RESET, 1);
    leave_as(arrive_with(&config, LOCAL, sizeof LOCAL - 1), REASON_CLIENT_CLOSED, 2);
    leave_as(arrive(&config, UNKNOWN), REASON_CLIENT_CLOSED, 3);
    const char *text = written();
    be_quiet();
    ck_assert_str_eq(text, "");
}

TEST(cut_short)
{
    struct service_config config = terms("echo");
    capture(LOG_LEVEL_INFO);
    leave_as(arrive_with(&config, V2, sizeof V2 - 2), REASON_BAD_PROXY_HEADER, 1);
    reset(arrive(&config, "PROXY"));
    TURN_UNTIL_CLOSED(REASON_BAD_PROXY_HEADER, 2);
    const char *text = written();
    be_quiet();
    expect_in(text, "client 192.0.2.1:4711 refused on test: bad_proxy_header: a header that is cut short\n");
}

/* ---- admission ---- */

static struct service_config terms_denying(struct prefix *network, const char *text)
{
    struct service_config config = terms("echo");
    ck_assert_int_eq(prefix_parse(text, network), 0);
    config.rules.deny = (struct prefix_list){network, 1};
    return config;
}

TEST(denied_by_the_header)
{
    struct prefix network;
    struct service_config config = terms_denying(&network, "203.0.113.0/24");
    capture(LOG_LEVEL_INFO);
    int client = arrive(&config, V1 "hello");
    int other = arrive(&config, V6 "hello");
    turn_and_expect(other, "hello");
    const char *text = written();
    be_quiet();
    turn_until_end(client);
    ck_assert_uint_eq(closed_as(REASON_DENIED), 1);
    expect_in(text, "client 203.0.113.7:50312 via 192.0.2.1:4711 refused on test: denied\n");
    leave_as(other, REASON_CLIENT_CLOSED, 1);
    close(client);
}

/* The proxy's own address is not what allow and deny are about, nor that of a client without one. */
TEST(proxy_itself_is_let_in)
{
    struct prefix network;
    struct service_config config = terms_denying(&network, "0.0.0.0/0");
    static uint8_t local_client[16 + 216] = SIGNATURE "\x21\x31\0\xd8/run/client";
    config.rules.per_source = 1;
    int clients[6];
    for (int i = 0; i < 6; i++) {
        clients[i] = i < 2   ? arrive(&config, UNKNOWN)
                     : i < 4 ? arrive_with(&config, LOCAL, sizeof LOCAL - 1)
                             : arrive_with(&config, local_client, sizeof local_client);
        send_text(clients[i], "x");
        turn_and_expect(clients[i], "x");
    }
    ck_assert(is_alone("192.0.2.1"));
    for (int i = 0; i < 6; i++)
        close(clients[i]);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 6);
}

TEST(per_source_by_the_header)
{
    struct service_config config = terms("echo");
    config.rules.per_source = 1;
    int first = arrive(&config, V1);
    for (uint64_t i = 1; i <= 3; i++)
        expect_closed(arrive(&config, V1), REASON_PER_SOURCE, i);
    int other = arrive(&config, V6);
    ck_assert(!is_alone("203.0.113.7") && !is_alone("2001:db8::7") && is_alone("192.0.2.1"));
    leave_as(first, REASON_CLIENT_CLOSED, 1);
    ck_assert(is_alone("203.0.113.7"));
    int second = arrive(&config, V1 "again");
    turn_and_expect(second, "again");
    leave_as(second, REASON_CLIENT_CLOSED, 2);
    leave_as(other, REASON_CLIENT_CLOSED, 3);
}

/* ---- the end ---- */

TEST(drained)
{
    struct service_config config = terms("echo");
    int half = arrive(&config, "PROXY"), silent = arrive(&config, ""), whole = arrive(&config, "");
    send_and_arrive(whole, V1 "hello", sizeof V1 + 4);
    turn_and_drain();
    ck_assert_uint_eq(closed_as(REASON_DRAINED), 2);
    ck_assert(!atomic_load(&rig.worker.drained));
    ck_assert_int_eq(turn_until_end(silent), 0);
    turn_until_end(half);
    turn_and_expect(whole, "hello");
    turn_and_expect_end(whole);
    expect_closed(arrive(&config, "PROXY"), REASON_DRAINED, 3);
    int late = arrive(&config, V1 "late");
    turn_and_expect(late, "late");
    turn_and_expect_end(late);
    close(whole);
    close(late);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 5);
    ck_assert(atomic_load(&rig.worker.drained));
    close(half);
    close(silent);
}

TEST(drained_when_the_last_arrival_goes)
{
    struct service_config config = terms("echo");
    int client = arrive(&config, "PROXY");
    turn_and_drain();
    ck_assert(atomic_load(&rig.worker.drained));
    close(client);
}

/* ---- from process to process ---- */

static struct new_client carried;

static int carry(void *user, const struct new_client *client, const struct progress *progress)
{
    (void)user;
    carried = *client;
    carried.fd = fcntl(client->fd, F_DUPFD_CLOEXEC, 0);
    carried.config = service_config_ref(client->config);
    carried.progress = progress_copy(progress);
    ck_assert(carried.fd >= 0 && carried.progress);
    ck_assert(carried.progress->header_due);
    ck_assert_ptr_null(carried.network);
    rig.server = carried.fd;
    return 0;
}

static void restart(bool ends)
{
    ck_assert_int_eq(worker_save(&rig.worker, NULL, carry), 0);
    worker_deinit(&rig.worker);
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity, &rig.admission), 0);
    rig.opened = 1;
    carried.progress->ends = ends;
    ck_assert(conn_queue_put(rig.queue, 0, &carried));
    event_loop_wake(&rig.worker.loop);
    worker_command(&rig.worker, WORKER_SERVES);
}

/* Turns with the worker's own on_wake. */
static void turn_and_take(void)
{
    struct timer end;
    timer_init(&end, end_turn);
    event_loop_arm(&rig.worker.loop, &end, 1);
    event_loop_wake(&rig.worker.loop);
    run_worker();
}

TEST_EACH(restarted_at_every_byte, headers)
{
    struct service_config config = terms("echo");
    for (size_t cut = 0; cut < c->length; cut++) {
        int client = arrive_with(&config, c->bytes, cut);
        for (int i = 0; i < 2; i++) {
            restart(false);
            turn_and_take();
        }
        send_all(client, c->bytes + cut, c->length - cut);
        send_text(client, "data");
        turn_and_expect(client, "data");
        ck_assert_uint_eq(bytes_in(), 4);
        leave_as(client, REASON_CLIENT_CLOSED, 1);
    }
}

TEST_EACH(restarted_within_a_long_header, lengths)
{
    static uint8_t bytes[PROXY_HEADER_V2_MAX + 4];
    struct service_config config = terms("echo");
    make_header(bytes, *c);
    int client = arrive_with(&config, bytes, *c / 2);
    restart(false);
    turn_and_take();
    send_all(client, bytes + *c / 2, *c + 4 - *c / 2);
    turn_and_expect(client, "data");
    leave_as(client, REASON_CLIENT_CLOSED, 1);
}

TEST(restart_does_not_give_more_time)
{
    struct service_config config = terms("echo");
    int client = arrive(&config, "PROXY");
    clock_move(TIMEOUT_USEC / 2);
    restart(false);
    turn_and_take();
    ck_assert_uint_eq(closed(), 0);
    clock_move(TIMEOUT_USEC / 2);
    expect_closed(client, REASON_BAD_PROXY_HEADER, 1);
}

/* Its listener is gone: what has come is answered, and nothing is waited for. */
TEST(listener_gone)
{
    struct service_config config = terms("echo");
    int client = arrive(&config, "PROXY");
    restart(true);
    turn_and_take();
    expect_closed(client, REASON_DRAINED, 1);
    client = arrive(&config, "PROXY");
    send_text(client, &V1[5]);
    send_text(client, "data");
    restart(true);
    turn_and_take();
    turn_and_expect(client, "data");
    turn_and_expect_end(client);
    leave_as(client, REASON_DRAINED, 1);
}

/* ---- shortages ---- */

static const struct {
    const char *rules;
    size_t length; /* of the header, when it is looked at first */
    enum reason reason;
} shortages[] = {
    {"malloc:ENOMEM:1", 5, REASON_ERROR},
    {"malloc:ENOMEM:2", sizeof V1 - 1, REASON_ERROR},
    {"malloc:ENOMEM:3", sizeof V1 - 1, REASON_ERROR},
    {"malloc:ENOMEM:4", sizeof V1 - 1, REASON_ERROR},
    {"realloc:ENOMEM:1", 0, REASON_ERROR},
    {"epoll_ctl_add:ENOSPC:1", 5, REASON_ERROR},
    {"recv:EIO:1", 0, REASON_ERROR},
    {"recv:EIO:2", 5, REASON_BAD_PROXY_HEADER},
    {"recv:ETIMEDOUT:1", 0, REASON_ERROR},
    {"recv:ECONNRESET:1", 0, REASON_RESET},
};

TEST_EACH(failing_calls, shortages)
{
    struct service_config config = terms("echo");
    unsigned descriptors = open_descriptors();
    int client;
    const struct new_client new_client = accept_of(&config, &client);
    if (c->length > 0)
        send_and_arrive(client, V1, c->length);
    fault_rules(c->rules);
    proxy_arrival_open(&rig.worker, &new_client);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_uint_eq(closed_as(c->reason), 1);
    close(client);
    ck_assert_uint_eq(open_descriptors(), descriptors);
    ck_assert(is_alone("203.0.113.7"));
}

/* The arrival, what is kept of its header, the connection. */
TEST_TIMES(short_memory_for_a_header_that_is_shown, 3)
{
    struct service_config config = terms("whoami");
    unsigned descriptors = open_descriptors();
    int client;
    const struct new_client new_client = accept_of(&config, &client);
    send_and_arrive(client, LOCAL, sizeof LOCAL - 1);
    fault_arm("malloc", ENOMEM, (unsigned)variant + 1);
    proxy_arrival_open(&rig.worker, &new_client);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    close(client);
    ck_assert_uint_eq(open_descriptors(), descriptors);
}

TEST(short_memory_after_a_restart)
{
    struct service_config config = terms("echo");
    int client = arrive(&config, "PROXY");
    restart(false);
    fault_rules("malloc:ENOMEM:2");
    turn_and_take();
    ck_assert_uint_eq(fault_disarm(), 1);
    expect_closed(client, REASON_ERROR, 1);
}

/* Those that wait still are closed with the worker: rig_stop looks. */
TEST(worker_goes)
{
    struct service_config config = terms("echo");
    arrive(&config, "");
    arrive(&config, "PROXY");
}
