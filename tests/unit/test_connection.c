/* A connection, as its client and the published counters see it. */
#include "serve/connection.h"

#include "capture.h"
#include "connection_rig.h"
#include "serve/proxied.h"

#include <ctype.h>

FIXTURE(rig_start, rig_stop)

/* `proxy`: the family of the proxy that it comes by; 0: none. */
static int serve_as(const struct service_config *config, sa_family_t family, sa_family_t proxy)
{
    int client;
    const struct address from = {.family = proxy};
    tcp_pair(0, &client, &rig.server);
    struct new_client new_client = accepted_for(config, rig.server);
    new_client.client.family = family;
    if (proxy != 0)
        new_client.proxied = proxied_new(&from, PROXIED_CLIENT, (struct span){NULL, 0});
    connection_open(&rig.worker, &new_client);
    return client;
}

TEST(echo)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    send_text(client, " again");
    turn_and_expect(client, " again");
    ck_assert_uint_eq(bytes_in(), 11);
    ck_assert_uint_eq(bytes_out(), 11);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

TEST(traces)
{
    struct service_config config = config_for("upper");
    capture(LOG_LEVEL_INFO);
    int untraced = serve(&config);
    send_text(untraced, "secret");
    turn_and_expect(untraced, "SECRET");
    config.trace = true;
    int client = serve(&config);
    send_text(client, "hello");
    turn_and_expect(client, "HELLO");
    const char *text = written();
    be_quiet();
    expect_in(text, "sent 5 bytes: \"hello\"");
    expect_in(text, "was sent 5 bytes: \"HELLO\"");
    ck_assert_ptr_null(strcasestr(text, "secret"));
    close(untraced);
    close(client);
}

/* A client that leaves without a byte is for debug; one that got something is not. */
TEST(probes)
{
    struct service_config config = config_for("echo");
    capture(LOG_LEVEL_INFO);
    close(serve(&config));
    close_hard(serve(&config));
    WAIT_FOR(responded() && closed() == 2);
    ck_assert_str_eq(written(), "");
    capture(LOG_LEVEL_INFO);
    config = config_for("time");
    close(serve(&config));
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
    expect_in(written(), "closed: served");
    be_quiet();
}

/* At once, without lingering. */
TEST(half_close_gets_the_rest)
{
    struct service_config config = config_for("upper");
    int client = serve(&config);
    send_text(client, "bye");
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    turn_and_expect(client, "BYE");
    turn_and_expect_end(client);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
}

#define BULK (1 << 20)

/* A client that writes without reading is held back; when it reads, it gets every byte. */
TEST(back_pressure)
{
    static uint8_t sent[BULK], got[BULK];
    struct service_config config = config_for("echo");
    uint64_t random = 7;
    size_t out = 0, in = 0;
    for (size_t i = 0; i < BULK; i++)
        sent[i] = (uint8_t)next_random(&random);
    config.unsent_limit = 16384;
    int client = serve_small(&config, 16384);
    for (int stalled = 0; stalled < 20;) { /* until nothing moves any more */
        ssize_t r = send(client, sent + out, BULK - out, MSG_DONTWAIT | MSG_NOSIGNAL);
        stalled = r > 0 ? 0 : stalled + 1;
        out += r > 0 ? (size_t)r : 0;
        turn();
    }
    ck_assert_uint_lt(out, BULK);
    ck_assert_uint_gt(bytes_in(), bytes_out());
    ck_assert_uint_le(bytes_in() - bytes_out(), config.unsent_limit);
    ck_assert_uint_eq(turn_under("recv:count,send:count"), 0);

    for (int idle = 0; in < BULK && idle < PATIENCE_MSEC;) {
        ssize_t w = out < BULK ? send(client, sent + out, BULK - out, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        out += w > 0 ? (size_t)w : 0;
        turn();
        ssize_t r = recv(client, got + in, BULK - in, MSG_DONTWAIT);
        in += r > 0 ? (size_t)r : 0;
        idle = r > 0 || w > 0 ? 0 : idle + 1;
        if (idle > 0)
            nap();
    }
    ck_assert_uint_eq(in, BULK);
    ck_assert_mem_eq(sent, got, BULK);
    ck_assert_uint_eq(turn_under("recv:count,send:count"), 0); /* and it waits for bytes alone */
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
}

static const char *const short_rules[] = {"send:short=1", "recv:short=1", "send:short=2:/2,recv:short=3",
                                          "send:EAGAIN", "recv:EAGAIN"};

TEST_EACH(short_reads_and_sends, short_rules)
{
    struct service_config config = terms_with("upper", NULL, NULL, "end");
    char bytes[64] = "";
    size_t have = 0;
    int client = serve(&config);
    send_text(client, "one\ntwo three\nend\nnot this");
    for (int tries = 0; tries < PATIENCE_MSEC; tries++) {
        turn_under(strstr(*c, "EAGAIN") && tries % 2 == 1 ? "" : *c);
        ssize_t r = recv(client, bytes + have, sizeof bytes - have, MSG_DONTWAIT);
        if (r == 0)
            break;
        have += r > 0 ? (size_t)r : 0;
    }
    ck_assert_str_eq(bytes, "ONE\nTWO THREE\nEND\n");
    close(client);
    TURN_UNTIL_CLOSED(REASON_END_WORD, 1);
}

TEST(end_word_lingers)
{
    struct service_config config = terms_with("upper", "hello\n", NULL, "end");
    int client = serve(&config);
    send_text(client, "a\nend\r\nrest");
    turn_and_expect(client, "hello\nA\nEND\r\n");
    expect_lingering(client, REASON_END_WORD);
    ck_assert_uint_eq(bytes_out(), 13);
}

static const struct {
    const char *service, *text;
    size_t length;
} served[] = {{"greet", "some text\n", 10}, {"time", NULL, 4}, {"daytime", NULL, 26}, {"reply", "text\n", 5}};

TEST_EACH(served_and_lingering, served)
{
    struct service_config config = terms_with(c->service, NULL, c->text, NULL);
    char bytes[64];
    int client = serve(&config);
    if (config.service->speaks_when_asked) {
        turn();
        expect_nothing_yet(client);
        send_text(client, "?");
    }
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), c->length);
    if (c->text)
        ck_assert_mem_eq(bytes, c->text, c->length);
    expect_lingering(client, REASON_SERVED);
}

static size_t answer_once(const struct service_params *params, struct service_state *state, uint8_t *bytes,
                          size_t length)
{
    (void)params;
    (void)bytes;
    state->done = true;
    return length;
}

/* A service that answers, and ends without an end word. */
TEST(served_after_an_answer)
{
    const struct service once = {.name = "once", .answer = answer_once};
    struct service_config config = config_for("echo");
    config.service = &once;
    int client = serve(&config);
    send_text(client, "all");
    turn_and_expect(client, "all");
    expect_lingering(client, REASON_SERVED);
}

/* How it ends changes nothing of the reason. */
TEST(lingering_ends)
{
    struct service_config config = config_for("time");
    char bytes[4];
    int client = serve(&config); /* the client resets */
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    turn_and_expect_end(client);
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);

    client = serve(&config); /* it never goes */
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    turn_after(LINGER_USEC - 100 * USEC_PER_MSEC);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 1);
    turn_after(200 * USEC_PER_MSEC);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 2);
    close(client);

    client = serve(&config); /* a read that comes to nothing, and one that fails */
    send_and_arrive(client, "x", 1);
    ck_assert_uint_eq(turn_under("recv:EAGAIN"), 1);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 2);
    ck_assert_uint_eq(turn_under("recv:EIO"), 1);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 3);
    close(client);

    fault_rules("shutdown:ENOTCONN"); /* it does not even begin */
    client = serve(&config);
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_SERVED), 4);
    close(client);
}

/* It has the whole answer in the kernel's hands, and its write timeout starts again with each byte that it
 * takes. From the last one on it is like any other. */
TEST(lingering_of_a_slow_reader)
{
    enum { LENGTH = 60000 }; /* one turn's */
    static char text[LENGTH + 1], got[LENGTH];
    memset(text, 't', LENGTH);
    struct service_config config = terms_with("reply", NULL, text, NULL);
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    int client = serve_small(&config, 4096);
    set_socket_option(rig.server, SOL_SOCKET, SO_SNDBUF, 4 * LENGTH);
    send_and_arrive(client, "x", 1);
    ck_assert_uint_eq(turn_under("send:count"), 1);
    ck_assert_uint_eq(bytes_out(), LENGTH);
    for (size_t have = 0; have < LENGTH;) {
        turn_after(4 * USEC_PER_SEC);
        ck_assert_uint_eq(closed(), 0);
        have += turn_and_receive(client, got, have + LENGTH / 8 > LENGTH ? LENGTH - have : LENGTH / 8);
    }
    turn_and_expect_end(client);
    send_text(client, "late"); /* and not reset */
    turn_after(3 * USEC_PER_SEC);
    turn_after(3 * USEC_PER_SEC);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 1);
    close(client);
}

TEST(discard_answers_nothing)
{
    struct service_config config = terms_with("discard", "g", NULL, NULL);
    int client = serve(&config);
    turn_and_expect(client, "g");
    send_text(client, "into the void");
    WAIT_FOR(responded() && bytes_in() == 13);
    expect_nothing_yet(client);
    shutdown(client, SHUT_WR);
    turn_and_expect_end(client);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
}

/* Speaks without end, reads what it throws away meanwhile, and goes on after a half-close until the client
 * leaves. */
TEST(chargen)
{
    static uint8_t bytes[1 << 20], more[1 << 18];
    struct service_config config = config_for("chargen");
    int client = serve(&config);
    send_text(client, "ignored");
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof bytes);
    expect_chargen(bytes, sizeof bytes);
    ck_assert_uint_eq(bytes_in(), 7);
    shutdown(client, SHUT_WR);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(turn_and_receive(client, more, sizeof more), sizeof more);
    close(client); /* with bytes unread: a reset */
    WAIT_FOR(responded() && closed() == 1);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED) + closed_as(REASON_RESET), 1);
}

/* Half-closed, with nothing unsent: it has simply left. */
TEST(leaving_a_service_without_end)
{
    struct service_config config = config_for("chargen");
    int client = serve(&config);
    shutdown(client, SHUT_WR);
    ck_assert(becomes_readable(rig.server));
    turn();
    ck_assert_uint_eq(turn_under("send:EPIPE:1"), 1);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
}

TEST(resets)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_text(client, "x");
    turn_and_expect(client, "x");
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_RESET, 1);
}

static const struct {
    const char *first, *rules; /* of the turn that keeps a rest, or NULL; and of the one that fails */
    enum reason reason;
} failures[] = {
    {NULL, "recv:ECONNRESET:1", REASON_RESET},
    {NULL, "recv:EIO:1", REASON_ERROR},
    {NULL, "recv:ETIMEDOUT:1", REASON_ERROR},
    {NULL, "send:ECONNRESET:1", REASON_RESET},
    {NULL, "send:EPIPE:1", REASON_RESET},
    {NULL, "send:ENOBUFS:1", REASON_ERROR},
    {NULL, "send:short=2:1 malloc:ENOMEM:1", REASON_ERROR},        /* what is kept needs memory, */
    {NULL, "send:short=2:1 epoll_ctl_mod:ENOMEM:1", REASON_ERROR}, /* and waits for another event */
    {"send:short=2:1", "send:ETIMEDOUT:1", REASON_WRITE_TIMEOUT},  /* TCP_USER_TIMEOUT */
    {"send:short=2:1", "send:ECONNRESET:1", REASON_RESET},
    {"send:short=2:1", "send:EIO:1", REASON_ERROR},
};

TEST_EACH(failing_calls, failures)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_and_arrive(client, "hello", 5);
    if (c->first)
        turn_under(c->first);
    ck_assert_uint_eq(turn_under(c->rules), strchr(c->rules, ' ') ? 2 : 1);
    ck_assert_uint_eq(closed_as(c->reason), 1);
    if (c->first)
        expect_text(client, "he");
    close(client);
}

static const struct {
    const char *rules;
    bool at_the_start;
} shortages[] = {
    {"malloc:ENOMEM:1", true},
    {"epoll_ctl_add:ENOMEM:1", true},
    {"malloc:ENOMEM:1", false}, /* for the buffer of a read */
};

TEST_EACH(short_memory, shortages)
{
    struct service_config config = config_for("echo");
    config.unsent_limit = 1 << 24;
    int client;
    tcp_pair(0, &client, &rig.server);
    const struct new_client new_client = accepted_for(&config, rig.server);
    fault_rules(c->at_the_start ? c->rules : "");
    connection_open(&rig.worker, &new_client);
    fault_disarm();
    if (!c->at_the_start) {
        send_and_arrive(client, "x", 1);
        ck_assert_uint_eq(turn_under(c->rules), 1);
    }
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    close(client);
}

static uint8_t block[65536];

/* Sends the block and turns until it is back, or the connection closed. Returns how much came back. */
static size_t exchange_block(int client)
{
    static uint8_t got[sizeof block];
    uint64_t closed_before = closed();
    size_t have = 0;
    send_all(client, block, sizeof block);
    for (int rest = PATIENCE_MSEC; have < sizeof block && rest > 0; rest--) {
        turn();
        ssize_t r = recv(client, got + have, sizeof got - have, MSG_DONTWAIT);
        if (r > 0)
            have += (size_t)r;
        else if (closed() > closed_before)
            break;
        else
            nap();
    }
    ck_assert_mem_eq(got, block, have);
    return have;
}

/* Returns a client whose next block is to pass through, if its bytes may. */
static int serve_bulk(const struct service_config *config, sa_family_t family, sa_family_t proxy)
{
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)('A' + i * 31 % 26);
    int client = serve_as(config, family, proxy);
    ck_assert_uint_eq(exchange_block(client), sizeof block);
    return client;
}

TEST(bulk_passes_through)
{
    struct service_config config = config_for("echo");
    int client = serve_bulk(&config, AF_INET, 0);
    fault_rules("splice:count");
    size_t have = exchange_block(client);
    ck_assert_uint_ge(fault_disarm(), 2);
    ck_assert_uint_eq(have, sizeof block);
    ck_assert_uint_eq(bytes_in(), 2 * sizeof block);
    ck_assert_uint_eq(bytes_out(), 2 * sizeof block);
    for (int i = 0; i < 2; i++) { /* the first small one tells that the bulk is over */
        send_text(client, "small");
        turn_and_expect(client, "small");
    }
    send_and_arrive(client, "small", 5);
    ck_assert_uint_eq(turn_under("splice:count"), 0);
    close(client);
}

TEST(bulk_of_a_local_client_by_a_distant_proxy)
{
    struct service_config config = config_for("echo");
    int client = serve_bulk(&config, AF_UNIX, AF_INET6);
    fault_rules("splice:count");
    size_t have = exchange_block(client);
    ck_assert_uint_ge(fault_disarm(), 2);
    ck_assert_uint_eq(have, sizeof block);
    close(client);
}

static const struct {
    const char *service, *end_word;
    bool trace;
    sa_family_t family, proxy;
} looked_at[] = {
    {"upper", NULL, false, AF_INET}, {"echo", "end", false, AF_INET},         {"echo", NULL, true, AF_INET},
    {"echo", NULL, false, AF_UNIX},  {"echo", NULL, false, AF_INET, AF_UNIX}, /* the socket is what matters */
};

TEST_EACH(bulk_that_somebody_looks_at, looked_at)
{
    struct service_config config = terms_with(c->service, NULL, NULL, c->end_word);
    config.trace = c->trace;
    int client = serve_bulk(&config, c->family, c->proxy);
    fault_rules("splice:count");
    size_t have = exchange_block(client);
    ck_assert_uint_eq(fault_disarm(), 0);
    ck_assert_uint_eq(have, sizeof block);
    close(client);
}

static const char *const copied[] = {
    "splice:ENOSYS",    "splice:EPERM:1", "splice:EINVAL:2",   "splice:EAGAIN:1",
    "splice:EAGAIN:/2", "splice:short:2", "splice:short=9999",
};

TEST_EACH(bulk_that_has_to_be_copied, copied)
{
    struct service_config config = config_for("echo");
    int client = serve_bulk(&config, AF_INET, 0);
    fault_rules(*c);
    size_t have = exchange_block(client);
    ck_assert_uint_ge(fault_disarm(), 1);
    ck_assert_uint_eq(have, sizeof block);
    close(client);
}

static const struct {
    const char *rules;
    enum reason reason;
} bulk_failures[] = {
    {"splice:ECONNRESET:1", REASON_RESET},
    {"splice:EIO:1", REASON_ERROR},
    {"splice:EPIPE:2", REASON_RESET},
    {"splice:ETIMEDOUT:1", REASON_ERROR}, /* the keepalive: nothing was left unread */
    {"splice:EIO:2", REASON_ERROR},
    {"splice:short=10:2,malloc:ENOMEM", REASON_ERROR},
    {"splice:short=10:2,read:EIO:1-2", REASON_ERROR},
};

/* And nobody else gets what was left of it. */
TEST_EACH(bulk_that_fails, bulk_failures)
{
    struct service_config config = config_for("echo");
    int other = serve_bulk(&config, AF_INET, 0);
    int client = serve_bulk(&config, AF_INET, 0);
    send_and_arrive(client, block, sizeof block);
    turn_under(c->rules);
    ck_assert_uint_eq(closed_as(c->reason), 1);
    ck_assert_uint_eq(exchange_block(other), sizeof block);
    close(client);
    close(other);
}

TEST(idle_timeout)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 100 * USEC_PER_SEC;
    int client = serve(&config);
    for (int i = 0; i < 3; i++) { /* bytes put it off */
        turn_after(60 * USEC_PER_SEC);
        expect_nothing_yet(client);
        send_text(client, "x");
        turn_and_expect(client, "x");
    }
    turn_after(99 * USEC_PER_SEC);
    expect_nothing_yet(client);
    turn_after(2 * USEC_PER_SEC);
    expect_lingering(client, REASON_IDLE_TIMEOUT);
}

TEST(without_idle_timeout)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    turn_after(100 * 86400 * USEC_PER_SEC);
    expect_nothing_yet(client);
    send_text(client, "x");
    turn_and_expect(client, "x");
    close(client);
}

/* Nobody reads: a reset ends it. */
TEST(write_timeout)
{
    static char filler[1 << 16];
    struct service_config config = config_for("chargen");
    config.write_timeout_usec = 20 * USEC_PER_SEC;
    int client = serve_small(&config, 4096);
    while (turn_under("send:count") > 0)
        continue;
    uint64_t stalled = clock_monotonic_usec();
    unsigned turns = 0;
    for (; closed() == 0; turns++)
        turn_after(USEC_PER_SEC);
    ck_assert_uint_eq(closed_as(REASON_WRITE_TIMEOUT), 1);
    ck_assert_uint_ge(clock_monotonic_usec() - stalled, 19 * USEC_PER_SEC);
    ck_assert_uint_le(turns, 22);
    ssize_t r;
    while ((r = recv(client, filler, sizeof filler, MSG_DONTWAIT)) > 0)
        continue;
    ck_assert_int_eq(r, -1);
    ck_assert_int_eq(errno, ECONNRESET);
    close(client);
}

/* While bytes are unsent it is the write timeout that counts, and the idle timeout when they are out. */
TEST(one_timeout_counts_at_a_time)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 1000 * USEC_PER_SEC;
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    int client = serve(&config);
    turn_after(900 * USEC_PER_SEC);
    send_and_arrive(client, "hello", 5);
    turn_under("send:short=1:1");
    turn_and_expect(client, "hello");
    turn_after(900 * USEC_PER_SEC);
    expect_nothing_yet(client);
    send_and_arrive(client, "hello", 5);
    turn_under("send:short=1:1");
    fault_rules("send:EAGAIN");
    for (int i = 0; i < 20 && closed() == 0; i++)
        turn_after(USEC_PER_SEC);
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_WRITE_TIMEOUT), 1);
    close(client);
}

static const char many[] =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/* The daemon stops: what has arrived is answered, and nothing later. */
static const struct {
    const char *service, *text, *early, *rules;
    bool half_closes;
} drains[] = {
    {"echo"},
    {"upper"},
    {"discard"},
    {"reply", .text = "text"},
    {"upper", .early = many}, /* in several turns */
    {"echo", .early = "last", .half_closes = true},
    {"echo", .rules = "ioctl:EINVAL"}, /* what cannot be counted has not arrived */
};

TEST_EACH(drained, drains)
{
    struct service_config config = terms_with(c->service, NULL, c->text, NULL);
    config.unsent_limit = 64;
    int client = serve(&config);
    turn();
    if (c->early)
        send_and_arrive(client, c->early, strlen(c->early));
    if (c->half_closes)
        shutdown(client, SHUT_WR);
    fault_rules(c->rules ? c->rules : "");
    turn_and_drain();
    fault_disarm();
    if (!c->half_closes)
        send_text(client, "too late");
    for (const char *at = c->early; at && *at; at++)
        turn_and_expect(client, (char[]){c->service[0] == 'u' ? (char)toupper(*at) : *at, '\0'});
    if (!c->half_closes) {
        expect_lingering(client, REASON_DRAINED);
    } else {
        turn_and_expect_end(client);
        ck_assert_uint_eq(closed_as(REASON_DRAINED), 1);
        close(client);
    }
    ck_assert(atomic_load(&rig.worker.drained));
}

TEST(drain_in_bulk)
{
    struct service_config config = config_for("echo");
    int client = serve_bulk(&config, AF_INET, 0);
    static uint8_t got[10000];
    send_and_arrive(client, block, sizeof got);
    turn_and_drain();
    send_text(client, "too late");
    ck_assert_uint_eq(turn_and_receive(client, got, sizeof got), sizeof got);
    ck_assert_mem_eq(got, block, sizeof got);
    expect_lingering(client, REASON_DRAINED);
}

TEST(drain_sends_what_is_unsent)
{
    struct service_config config = config_for("echo");
    int client = serve(&config);
    send_and_arrive(client, "hello", 5);
    turn_under("send:short=1:1");
    turn_and_drain();
    turn_and_expect(client, "hello");
    expect_lingering(client, REASON_DRAINED);
}

/* Its last line is whole, and is not lost to a reset when the client still speaks. */
TEST(chargen_drains_at_the_end_of_a_line)
{
    static uint8_t bytes[1 << 16];
    struct service_config config = config_for("chargen");
    config.unsent_limit = 100; /* ends within a line */
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 250), 250);
    turn_and_drain();
    send_text(client, "late");
    size_t length = 250 + turn_and_receive(client, bytes + 250, sizeof bytes - 250);
    ck_assert_uint_eq(length % 74, 0);
    expect_chargen(bytes, length);
    expect_lingering(client, REASON_DRAINED);
}

TEST(opened_while_draining)
{
    struct service_config config = terms_with("upper", "hello\n", NULL, NULL);
    int client;
    turn_and_drain();
    tcp_pair(0, &client, &rig.server);
    send_and_arrive(client, "quick", 5);
    const struct new_client new_client = accepted_for(&config, rig.server);
    connection_open(&rig.worker, &new_client);
    turn_and_expect(client, "hello\nQUICK");
    expect_lingering(client, REASON_DRAINED);
}

TEST(greeting_in_pieces)
{
    static char greeting[1001], bytes[1001];
    memset(greeting, 'g', sizeof greeting - 1);
    struct service_config config = terms_with("echo", greeting, NULL, NULL);
    config.unsent_limit = 64;
    int client = serve(&config);
    send_text(client, "!"); /* not answered before the greeting is out */
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof bytes);
    ck_assert_mem_eq(bytes, greeting, sizeof greeting - 1);
    ck_assert_int_eq(bytes[1000], '!');
    close(client);
}

/* Closed when connection_open returns. */
TEST(client_gone_before_the_greeting)
{
    struct service_config config = terms_with("echo", "hello\n", NULL, NULL);
    int client;
    tcp_pair(0, &client, &rig.server);
    close_hard(client);
    ck_assert(becomes_readable(rig.server));
    const struct new_client new_client = accepted_for(&config, rig.server);
    connection_open(&rig.worker, &new_client);
    ck_assert_uint_eq(closed_as(REASON_RESET), 1);
}
