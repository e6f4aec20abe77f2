/* A connection that goes on at another worker, as its client sees it: as if nothing had happened. */
#include "serve/connection.h"
#include "serve/progress.h"
#include "serve/proxied.h"

#include "capture.h"
#include "connection_rig.h"

FIXTURE(rig_start, rig_stop)

static struct new_client carried[4];
static size_t carried_count;

static int carry(void *user, const struct new_client *client, const struct progress *progress)
{
    (void)user;
    ck_assert_uint_lt(carried_count, COUNT_OF(carried));
    struct new_client *to = &carried[carried_count++];
    *to = *client;
    to->fd = fcntl(client->fd, F_DUPFD_CLOEXEC, 0);
    to->config = service_config_ref(client->config);
    to->progress = progress_copy(progress);
    if (client->proxied) {
        const struct proxied *from = client->proxied;
        to->proxied = proxied_new(&from->proxy, from->kind, (struct span){from->header, from->length});
        ck_assert_ptr_nonnull(to->proxied);
    }
    ck_assert(to->fd >= 0 && to->progress);
    rig.server = to->fd;
    return 0;
}

/* The worker ends, and what it has is with `carried`. */
static void leave(void)
{
    carried_count = 0;
    ck_assert_int_eq(worker_save(&rig.worker, NULL, carry), 0);
    worker_deinit(&rig.worker);
}

/* Another worker goes on with it. */
static void go_on(void)
{
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity, &rig.admission), 0);
    rig.opened = 0;
    for (size_t i = 0; i < carried_count; i++) {
        struct new_client *client = &carried[i];
        client->network = &rig.source;
        atomic_fetch_add(&rig.source.connections, 1);
        rig.opened++;
        connection_open(&rig.worker, client);
    }
}

static void restart(void)
{
    leave();
    go_on();
}

/* Turns and restarts after each turn, until the stream has ended; the turns are under these rules. Returns
 * how many bytes came. */
static size_t receive_with_restarts(int client, const char *rules, void *bytes, size_t length)
{
    size_t have = 0;
    for (int tries = 0; tries < PATIENCE_MSEC; tries++) {
        restart();
        turn_under(rules);
        ssize_t r;
        while ((r = recv(client, (char *)bytes + have, length - have, MSG_DONTWAIT)) > 0)
            have += (size_t)r;
        if (r == 0)
            break;
    }
    return have;
}

/* ---- each state in which a connection can be ---- */

static const struct {
    const char *service, *greeting, *text, *end_word, *says, *hears, *rules;
    enum reason reason;
    bool half_closes;
} conversations[] = {
    {"echo", .says = "hello", .hears = "hello", .reason = REASON_CLIENT_CLOSED, .half_closes = true},
    {"upper", "hello\n", NULL, "end", "one\nend\r\nnot this", "hello\nONE\nEND\r\n",
     .reason = REASON_END_WORD},
    {"echo", NULL, NULL, "end", "xend\nen\nend\r\r\nend\n!", "xend\nen\nend\r\r\nend\n",
     .reason = REASON_END_WORD},
    {"reply", "hello\n", "some text", NULL, "?", "hello\nsome text", .reason = REASON_SERVED},
    {"greet", "hello\n", "some text", NULL, "", "hello\nsome text", .reason = REASON_SERVED},
    {"discard", "hello\n", NULL, NULL, "nothing", "hello\n", .reason = REASON_CLIENT_CLOSED,
     .half_closes = true},
};

static const char *const piecemeal[] = {"", "send:short=1", "recv:short=1", "recv:short=1,send:short=1",
                                        "recv:short=2,send:EAGAIN:/2"};

/* Bytes unsent, the greeting half sent, the end word half matched, a text half sent, the client's FIN read
 * and not read yet: restarted after every turn. */
TEST_TIMES(restarted_after_every_turn, COUNT_OF(conversations) * COUNT_OF(piecemeal))
{
    const __typeof__(conversations[0]) *c = &conversations[(size_t)variant / COUNT_OF(piecemeal)];
    struct service_config config = terms_with(c->service, c->greeting, c->text, c->end_word);
    char bytes[64] = "";
    int client = serve(&config);
    send_text(client, c->says);
    if (c->half_closes)
        shutdown(client, SHUT_WR);
    size_t length =
        receive_with_restarts(client, piecemeal[(size_t)variant % COUNT_OF(piecemeal)], bytes, sizeof bytes);
    ck_assert_uint_eq(length, strlen(c->hears));
    ck_assert_str_eq(bytes, c->hears);
    if (!c->half_closes) {
        restart();
        expect_lingering(client, c->reason);
    } else {
        ck_assert_uint_eq(closed_as(c->reason), 1);
        close(client);
    }
}

TEST(idle)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    for (int i = 0; i < 3; i++) {
        send_text(client, "before");
        turn_and_expect(client, "before");
        restart();
        turn();
        expect_nothing_yet(client);
        leave();
        send_text(client, "meanwhile");
        go_on();
        turn_and_expect(client, "meanwhile");
    }
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

TEST(unsent_bytes)
{
    struct service_config config = config_for("upper");
    int client = serve(&config);
    send_and_arrive(client, "hello", 5);
    turn_under("send:short=2:1");
    expect_text(client, "HE");
    restart();
    ck_assert_uint_eq(turn_under("send:short=1:1"), 1);
    restart();
    send_text(client, " again");
    turn_and_expect(client, "LLO AGAIN");
    ck_assert_uint_eq(bytes_in(), 6); /* what this worker has moved */
    ck_assert_uint_eq(bytes_out(), 8);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

TEST(end_word_in_two_pieces)
{
    struct service_config config = terms_with("upper", NULL, NULL, "end");
    int client = serve(&config);
    send_text(client, "a\nen");
    turn_and_expect(client, "A\nEN");
    restart();
    send_text(client, "d");
    turn_and_expect(client, "D");
    restart();
    send_text(client, "\r");
    turn_and_expect(client, "\r");
    restart();
    send_text(client, "\nrest");
    turn_and_expect(client, "\n");
    restart();
    expect_lingering(client, REASON_END_WORD);
}

TEST(reply_before_and_after_the_question)
{
    struct service_config config = terms_with("reply", NULL,
                                              "some text, in more than one piece of 64 bytes, "
                                              "so that it is half sent when it has begun",
                                              NULL);
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    int client = serve(&config);
    restart();
    turn();
    expect_nothing_yet(client);
    send_and_arrive(client, "?", 1);
    turn();
    restart();
    turn_and_expect(client, config.params.text);
    restart();
    expect_lingering(client, REASON_SERVED);
}

/* It is made by one process, and sent by many. */
TEST(description_half_sent)
{
    char bytes[1024] = "";
    struct service_config config = terms_with("whoami", "hello\n", NULL, NULL);
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    int client = serve(&config);
    size_t length = receive_with_restarts(client, "send:short=20", bytes, sizeof bytes - 1);
    ck_assert_msg(strncmp(bytes, "hello\n{\"id\": 1, ", 16) == 0 && strcmp(bytes + length - 3, "}}\n") == 0,
                  "%s", bytes);
    restart();
    expect_lingering(client, REASON_SERVED);
}

TEST(greeting_half_sent)
{
    static char greeting[1001], bytes[1002];
    memset(greeting, 'g', sizeof greeting - 1);
    struct service_config config = terms_with("echo", greeting, NULL, NULL);
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    int client = serve(&config);
    send_text(client, "!");
    shutdown(client, SHUT_WR);
    ck_assert_uint_eq(receive_with_restarts(client, "", bytes, sizeof bytes), 1001);
    ck_assert_mem_eq(bytes, greeting, sizeof greeting - 1);
    ck_assert_int_eq(bytes[1000], '!');
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
}

TEST(chargen_in_the_middle_of_a_line)
{
    static uint8_t bytes[1 << 18];
    struct service_config config = config_for("chargen");
    config.unsent_limit = 100;
    int client = serve_small(&config, 4096);
    size_t length = 0;
    for (int i = 0; i < 500; i++) {
        turn();
        ssize_t r = recv(client, bytes + length, i % 100, MSG_DONTWAIT);
        length += r > 0 ? (size_t)r : 0;
        restart();
    }
    turn_and_drain();
    restart();
    length += turn_and_receive(client, bytes + length, sizeof bytes - length);
    expect_chargen(bytes, length);
    ck_assert_uint_eq(length % 74, 0);
    expect_lingering(client, REASON_DRAINED);
}

TEST(chargen_half_closed)
{
    static uint8_t bytes[10000];
    struct service_config config = config_for("chargen");
    int client = serve_small(&config, 4096);
    shutdown(client, SHUT_WR);
    for (size_t length = 0; length < sizeof bytes; length += 1000) {
        ck_assert_uint_eq(turn_and_receive(client, bytes + length, 1000), 1000);
        restart();
    }
    expect_chargen(bytes, sizeof bytes);
    close(client);
    WAIT_FOR(responded() && closed() == 1);
}

/* What had arrived when the drain began is answered, and nothing later. */
TEST(draining)
{
    static char early[200], bytes[201];
    struct service_config config = config_for("upper");
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    int client = serve(&config);
    memset(early, 'a', sizeof early);
    send_and_arrive(client, early, sizeof early);
    turn_and_drain();
    send_text(client, "too late");
    ck_assert_uint_eq(receive_with_restarts(client, "", bytes, sizeof bytes), sizeof early);
    for (size_t i = 0; i < sizeof early; i++)
        ck_assert_int_eq(bytes[i], 'A');
    restart();
    expect_lingering(client, REASON_DRAINED);
}

TEST(lingering)
{
    struct service_config config = config_for("time");
    char bytes[4];
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    for (int i = 0; i < 3; i++) {
        restart();
        send_text(client, "more");
        WAIT_FOR(responded() && bytes_in() == 4);
        ck_assert_uint_eq(closed(), 0);
    }
    leave();
    send_text(client, "and more");
    close(client);
    go_on();
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

#define BULK (1 << 18)

/* A client that writes as much as it can and reads slowly. */
TEST(under_load)
{
    static uint8_t sent[BULK], got[BULK];
    struct service_config config = config_for("echo");
    uint64_t random = 7;
    size_t out = 0, in = 0;
    unsigned turns = 0;
    for (size_t i = 0; i < BULK; i++)
        sent[i] = (uint8_t)next_random(&random);
    config.unsent_limit = 16384;
    int client = serve_small(&config, 16384);
    for (int idle = 0; in < BULK && idle < PATIENCE_MSEC; turns++) {
        ssize_t w = out < BULK ? send(client, sent + out, BULK - out, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        out += w > 0 ? (size_t)w : 0;
        turn();
        if (turns % 3 == 0)
            restart();
        ssize_t r =
            recv(client, got + in, turns % 5 == 0 && BULK - in > 4096 ? 4096 : BULK - in, MSG_DONTWAIT);
        in += r > 0 ? (size_t)r : 0;
        idle = r > 0 || w > 0 ? 0 : idle + 1;
        if (idle > 0)
            nap();
    }
    ck_assert_uint_eq(in, BULK);
    ck_assert_mem_eq(sent, got, BULK);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

/* Reset meanwhile, or left. */
TEST(leaves_during_the_restart)
{
    struct service_config config = config_for("echo");
    int left = serve(&config), reset = serve(&config);
    send_text(left, "x");
    turn_and_expect(left, "x");
    send_text(reset, "x");
    turn_and_expect(reset, "x");
    leave();
    close(left);
    close_hard(reset);
    go_on();
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    TURN_UNTIL_CLOSED(REASON_RESET, 1);
}

/* ---- timeouts and counters ---- */

TEST(idle_timeout_counts_on)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 100 * USEC_PER_SEC;
    int client = serve(&config);
    turn_after(60 * USEC_PER_SEC);
    restart();
    turn_after(30 * USEC_PER_SEC);
    restart();
    turn_after(9 * USEC_PER_SEC);
    expect_nothing_yet(client);
    turn_after(2 * USEC_PER_SEC);
    restart();
    expect_lingering(client, REASON_IDLE_TIMEOUT);
}

/* What came during a long restart is looked at first. */
TEST(idle_timeout_during_the_restart)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 100 * USEC_PER_SEC;
    int client = serve(&config);
    leave();
    send_and_arrive(client, "still here", 10);
    clock_move(200 * USEC_PER_SEC);
    go_on();
    turn_and_expect(client, "still here");
    leave();
    clock_move(200 * USEC_PER_SEC);
    go_on();
    turn();
    expect_lingering(client, REASON_IDLE_TIMEOUT);
}

TEST(write_timeout_counts_on)
{
    struct service_config config = config_for("echo");
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    int client = serve(&config);
    send_and_arrive(client, "hello", 5);
    turn_under("send:EAGAIN");
    unsigned seconds = 0;
    for (; closed() == 0 && seconds < 60; seconds++) {
        if (seconds < 7)
            restart();
        clock_move(USEC_PER_SEC);
        turn_under("send:EAGAIN");
    }
    ck_assert_uint_ge(seconds, 10);
    ck_assert_uint_le(seconds, 12);
    ck_assert_uint_eq(closed_as(REASON_WRITE_TIMEOUT), 1);
    expect_reset(client);
    close(client);
}

TEST(lingering_counts_on)
{
    struct service_config config = config_for("time");
    char bytes[4];
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    turn_and_expect_end(client);
    turn_after(LINGER_USEC - 100 * USEC_PER_MSEC);
    restart();
    turn();
    ck_assert_uint_eq(closed(), 0);
    turn_after(200 * USEC_PER_MSEC);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 1);
    close(client);
}

/* A connection has connected once, and is closed once, with the sums. */
TEST(log_tells_of_one_connection)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    clock_move(60 * USEC_PER_SEC);
    leave();
    capture(LOG_LEVEL_DEBUG);
    go_on();
    send_text(client, "again");
    turn_and_expect(client, "again");
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    const char *text = written();
    be_quiet();
    expect_in(text,
              "connection 1 from 192.0.2.1:4711 closed: client_closed, echo on test, worker 1, 10 bytes "
              "in, 10 out, 60.");
    ck_assert_ptr_null(strchr(strchr(text, '\n') + 1, '\n'));
}

/* What a proxy has said of it is known to the last process. */
TEST(proxied)
{
    static const struct address proxy = {.family = AF_UNIX};
    static const uint8_t header[] = "a header";
    struct service_config config = config_for("echo");
    int client;
    tcp_pair(0, &client, &rig.server);
    struct new_client new_client = accepted_for(&config, rig.server);
    new_client.proxied = proxied_new(&proxy, PROXIED_CLIENT, (struct span){header, sizeof header});
    ck_assert_ptr_nonnull(new_client.proxied);
    connection_open(&rig.worker, &new_client);
    for (int i = 0; i < 2; i++)
        restart();
    leave();
    const struct proxied *there = carried[0].proxied;
    ck_assert_ptr_nonnull(there);
    ck_assert_int_eq(there->proxy.family, AF_UNIX);
    ck_assert_int_eq(there->kind, PROXIED_CLIENT);
    ck_assert_uint_eq(there->length, sizeof header);
    ck_assert_mem_eq(there->header, header, sizeof header);
    go_on();
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

/* ---- what ends it ---- */

/* Its listener is gone: it is answered what has arrived. */
TEST(retired)
{
    struct service_config config = config_for("upper");
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    static char early[200], bytes[201];
    int client = serve(&config);
    memset(early, 'a', sizeof early);
    send_and_arrive(client, early, sizeof early);
    turn();
    leave();
    carried[0].progress->ends = true;
    go_on();
    send_text(client, "too late");
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof early);
    expect_lingering(client, REASON_DRAINED);
}

/* What had ended already keeps its reason. */
TEST(retired_while_lingering)
{
    struct service_config config = config_for("time");
    char bytes[4];
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    leave();
    carried[0].progress->ends = true;
    go_on();
    expect_lingering(client, REASON_SERVED);
}

/* How far it had come is not known: its client sees an end and no reset. */
TEST(not_resumed)
{
    const struct progress ended = {.reason = REASON_NOT_RESUMED};
    struct service_config config = config_for("echo");
    int client = serve(&config);
    leave();
    free(carried[0].progress);
    carried[0].progress = progress_copy(&ended);
    go_on();
    expect_lingering(client, REASON_NOT_RESUMED);
}

static const char *const shortages[] = {"malloc:ENOMEM:1", "malloc:ENOMEM:2", "epoll_ctl_add:ENOMEM:1",
                                        "epoll_ctl_mod:ENOMEM:1"};

TEST_EACH(failing_calls, shortages)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_and_arrive(client, "hello", 5);
    turn_under("send:short=2:1");
    leave();
    ck_assert_int_eq(worker_init(&rig.worker, 0, rig.queue, &rig.capacity, &rig.admission), 0);
    unsigned before = open_descriptors();
    rig.opened = 1;
    carried[0].network = &rig.source;
    atomic_fetch_add(&rig.source.connections, 1);
    fault_rules(*c);
    connection_open(&rig.worker, &carried[0]);
    unsigned long hits = fault_disarm();
    ck_assert_uint_eq(hits, 1);
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    ck_assert_uint_eq(open_descriptors(), before - 1);
    expect_text(client, "he");
    expect_end(client);
    close(client);
}
