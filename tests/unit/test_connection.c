#include "serve/connection.h"

#include "base/clock.h"
#include "capture.h"
#include "rig.h"

static bool is_lingering(void)
{
    return !list_is_empty(&rig.worker.connections) && newest()->lingering;
}

/* Makes the newest connection's timer fire as if `usec` had passed since bytes last moved. Soon after a boot
 * that is before the clock began: the difference wraps, and its sum with the timeout wraps back. */
static void fire_after(uint64_t usec)
{
    struct connection *c = newest();
    rig.worker.loop.now = clock_monotonic_usec();
    c->active_usec = rig.worker.loop.now - usec;
    timer_disarm(&c->timer);
    c->timer.fire(&c->timer);
}

START_TEST(echo)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    ck_assert_uint_eq(rig.worker.loop.sources, 1);
    send_text(client, "hello");
    turn_and_expect(client, "hello");
    send_text(client, " again");
    turn_and_expect(client, " again");
    struct connection *c = newest();
    ck_assert_uint_eq(c->bytes_in, 11);
    ck_assert_uint_eq(c->bytes_out, 11);
    ck_assert_ptr_null(c->unsent);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_in), 11);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_out), 11);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    ck_assert_uint_eq(rig.worker.loop.sources, 0);
    rig_stop();
}
END_TEST

START_TEST(traces)
{
    struct service_config config = config_for("upper");
    rig_start();
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
    ck_assert_ptr_nonnull(strstr(text, "sent 5 bytes: \"hello\""));
    ck_assert_ptr_nonnull(strstr(text, "was sent 5 bytes: \"HELLO\""));
    ck_assert_ptr_null(strcasestr(text, "secret"));
    close(untraced);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 2);
    rig_stop();
}
END_TEST

/* A client that leaves without a byte is for debug; one that got something is not. */
START_TEST(probes)
{
    struct service_config config = config_for("echo");
    rig_start();
    capture(LOG_LEVEL_INFO);
    close(serve(&config));
    close_hard(serve(&config));
    WAIT_FOR(responded() && atomic_load(&rig.worker.counters.closed) == 2);
    const char *text = written();
    ck_assert_str_eq(text, "");
    capture(LOG_LEVEL_INFO);
    config = config_for("time");
    close(serve(&config));
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
    text = written();
    be_quiet();
    ck_assert_ptr_nonnull(strstr(text, "closed: served"));
    rig_stop();
}
END_TEST

START_TEST(half_close_gets_the_rest)
{
    struct service_config config = config_for("upper");
    rig_start();
    int client = serve(&config);
    send_text(client, "bye");
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    turn_and_expect(client, "BYE");
    turn_and_expect_end(client);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1); /* at once, without lingering */
    close(client);
    rig_stop();
}
END_TEST

START_TEST(local_client)
{
    struct service_config config = config_for("echo");
    int pair[2];
    rig_start();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    struct new_client new_client = accepted_for(&config, pair[1]);
    new_client.client = (struct address){.family = AF_UNIX};
    connection_open(&rig.worker, &new_client);
    send_text(pair[0], "hi");
    turn_and_expect(pair[0], "hi");
    close(pair[0]);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

#define BULK (1 << 20)

/* A client that writes without reading is held back; when it reads, it gets every byte. */
START_TEST(back_pressure)
{
    static uint8_t sent[BULK], got[BULK];
    struct service_config config = config_for("echo");
    uint64_t random = 7;
    size_t out = 0, in = 0;
    rig_start();
    for (size_t i = 0; i < BULK; i++)
        sent[i] = (uint8_t)next_random(&random);
    config.unsent_limit = 16384;
    int client = serve_small(&config, 16384);
    int stalled = 0;
    while (stalled < 20) { /* nothing moves any more */
        ssize_t r = send(client, sent + out, BULK - out, MSG_DONTWAIT | MSG_NOSIGNAL);
        stalled = r > 0 ? 0 : stalled + 1;
        out += r > 0 ? (size_t)r : 0;
        turn();
    }
    struct connection *c = newest();
    ck_assert_uint_lt(out, BULK);
    ck_assert_ptr_nonnull(c->unsent);
    ck_assert_uint_eq(c->source.interest, EPOLLOUT);
    ck_assert_uint_gt(c->bytes_in, c->bytes_out);
    ck_assert_uint_le(c->bytes_in - c->bytes_out, config.unsent_limit);

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
    ck_assert_int_eq(memcmp(sent, got, BULK), 0);
    ck_assert_ptr_null(c->unsent);
    turn();
    ck_assert_uint_eq(c->source.interest, EPOLLIN);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

START_TEST(short_reads_and_sends)
{
    static const char *const rules[] = {"send:short=1", "recv:short=1", "send:short=2:/2,recv:short=3",
                                        "send:EAGAIN", "recv:EAGAIN"};
    struct service_config config = config_for("upper");
    static char end_word[] = "end";
    config.params.end_word = end_word;
    config.params.end_word_length = 3;
    rig_start();
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        char bytes[64] = "";
        size_t have = 0;
        int client = serve(&config);
        send_text(client, "one\ntwo three\nend\nnot this");
        for (int tries = 0; tries < PATIENCE_MSEC && !is_lingering(); tries++) {
            bool yields = strstr(rules[i], "EAGAIN") && tries % 2 == 1;
            fault_rules(yields ? "" : rules[i]);
            turn();
            fault_disarm();
        }
        have = turn_and_receive(client, bytes, sizeof bytes - 1);
        ck_assert_msg(have == 18, "%s: %zu", rules[i], have);
        ck_assert_str_eq(bytes, "ONE\nTWO THREE\nEND\n");
        close(client);
        WAIT_FOR(responded() && list_is_empty(&rig.worker.connections));
        ck_assert_uint_eq(closed_as(REASON_END_WORD), i + 1);
    }
    rig_stop();
}
END_TEST

START_TEST(end_word_lingers)
{
    struct service_config config = config_for("upper");
    static char end_word[] = "end", greeting[] = "hello\n";
    config.params.end_word = end_word;
    config.params.end_word_length = 3;
    config.params.greeting = greeting;
    config.params.greeting_length = 6;
    rig_start();
    int client = serve(&config);
    send_text(client, "a\nend\r\nrest");
    turn_and_expect(client, "hello\nA\nEND\r\n");
    turn_and_expect_end(client);
    ck_assert(is_lingering());
    for (int i = 0; i < 5; i++) { /* what still comes is thrown away, and costs no reset */
        send_text(client, "more and more");
        turn();
    }
    WAIT_FOR(responded() && counter_read(&rig.worker.counters.bytes_in) == 11 + 5 * 13);
    ck_assert_uint_eq(counter_read(&rig.worker.counters.bytes_out), 13);
    ck_assert(is_lingering());
    expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(REASON_END_WORD, 1);
    rig_stop();
}
END_TEST

START_TEST(served_and_lingering)
{
    static const char *const names[] = {"greet", "time", "daytime", "reply"};
    static char text[] = "some text\n";
    rig_start();
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct service_config config = config_for(names[i]);
        char bytes[64];
        if (config.service->takes_text) {
            config.params.text = text;
            config.params.text_length = strlen(text);
        }
        int client = serve(&config);
        if (config.service->speaks_when_asked) {
            turn();
            expect_nothing_yet(client);
            send_text(client, "?");
        }
        size_t length = turn_and_receive(client, bytes, sizeof bytes);
        ck_assert_uint_eq(length, i == 1 ? 4 : i == 2 ? 26 : strlen(text));
        if (config.service->takes_text)
            ck_assert_mem_eq(bytes, text, length);
        ck_assert(is_lingering());
        close(client);
        TURN_UNTIL_CLOSED(REASON_SERVED, i + 1);
    }
    rig_stop();
}
END_TEST

START_TEST(no_end_of_lingering_changes_the_reason)
{
    struct service_config config = config_for("time");
    char bytes[4];
    rig_start();
    /* 1: the client resets */
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 4), 4);
    ck_assert(is_lingering());
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
    /* 2: it never goes */
    client = serve(&config);
    ck_assert(is_lingering());
    fire_after(LINGER_USEC / 2);
    ck_assert(is_lingering());
    ck_assert(timer_is_armed(&newest()->timer));
    fire_after(LINGER_USEC);
    ck_assert_uint_eq(closed_as(REASON_SERVED), 2);
    close(client);
    /* 3: a read fails, and one that only comes to nothing */
    client = serve(&config);
    send_text(client, "x");
    fault_arm("recv", EAGAIN, 1);
    newest()->source.ready(&newest()->source, EPOLLIN);
    fault_disarm();
    ck_assert(is_lingering());
    fault_arm("recv", EIO, 1);
    newest()->source.ready(&newest()->source, EPOLLIN);
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_SERVED), 3);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(failed_half_close_closes)
{
    struct service_config config = config_for("time");
    rig_start();
    fault_arm("shutdown", ENOTCONN, 1);
    int client = serve(&config);
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_SERVED), 1);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(discard_answers_nothing)
{
    struct service_config config = config_for("discard");
    static char greeting[] = "g";
    config.params.greeting = greeting;
    config.params.greeting_length = 1;
    rig_start();
    int client = serve(&config);
    turn_and_expect(client, "g");
    send_text(client, "into the void");
    WAIT_FOR(responded() && newest()->bytes_in == 13);
    expect_nothing_yet(client);
    shutdown(client, SHUT_WR);
    turn_and_expect_end(client);
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
    rig_stop();
}
END_TEST

static uint8_t chargen_byte(uint64_t position)
{
    uint64_t line = position / 74, column = position % 74;
    return (uint8_t)(column == 72 ? '\r' : column == 73 ? '\n' : ' ' + (int)((line + column) % 95));
}

/* Returns where the bytes differ from the service's first ones, or `length`. */
static size_t chargen_until(const uint8_t *bytes, size_t length)
{
    size_t i = 0;
    while (i < length && bytes[i] == chargen_byte(i))
        i++;
    return i;
}

/* Speaks without end, reads what it throws away meanwhile, and goes on behind a half-close until the client
 * leaves. */
START_TEST(chargen)
{
    static uint8_t bytes[1 << 20];
    struct service_config config = config_for("chargen");
    rig_start();
    int client = serve(&config);
    send_text(client, "ignored");
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof bytes);
    ck_assert_uint_eq(chargen_until(bytes, sizeof bytes), sizeof bytes);
    shutdown(client, SHUT_WR);
    static uint8_t more[1 << 18];
    ck_assert_uint_eq(turn_and_receive(client, more, sizeof more), sizeof more);
    WAIT_FOR(responded() && turn_and_receive(client, more, sizeof more) && newest()->client_closed);
    ck_assert_uint_eq(newest()->bytes_in, 7);
    close(client); /* with bytes unread: a reset */
    WAIT_FOR(responded() && list_is_empty(&rig.worker.connections));
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED) + closed_as(REASON_RESET), 1);
    rig_stop();
}
END_TEST

START_TEST(leaving_a_service_without_end)
{
    struct service_config config = config_for("chargen");
    rig_start();
    /* Half-closed and nothing unsent: it has simply left. */
    int client = serve(&config);
    shutdown(client, SHUT_WR);
    struct connection *c = newest();
    c->client_closed = true;
    fault_arm("send", EPIPE, 1);
    c->source.ready(&c->source, EPOLLOUT);
    fault_disarm();
    ck_assert_uint_eq(closed_as(REASON_CLIENT_CLOSED), 1);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(resets)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    send_text(client, "x");
    turn_and_expect(client, "x");
    close_hard(client);
    TURN_UNTIL_CLOSED(REASON_RESET, 1);
    rig_stop();
}
END_TEST

START_TEST(failing_reads_and_sends)
{
    static const struct {
        const char *call;
        int error;
        enum reason reason;
    } cases[] = {
        {"recv", ECONNRESET, REASON_RESET}, {"recv", EIO, REASON_ERROR},
        {"recv", ETIMEDOUT, REASON_ERROR},  {"send", ECONNRESET, REASON_RESET},
        {"send", EPIPE, REASON_RESET},      {"send", ENOBUFS, REASON_ERROR},
        {"malloc", ENOMEM, REASON_ERROR},   {"epoll_ctl_mod", ENOMEM, REASON_ERROR},
    };
    struct service_config config = config_for("echo");
    rig_start();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t before = closed_as(cases[i].reason);
        int client = serve(&config);
        send_text(client, "hello");
        ck_assert(becomes_readable(newest()->source.fd));
        char rules[128];
        /* What is kept needs memory, and waits for another event. */
        bool keeps = strcmp(cases[i].call, "malloc") == 0 || strcmp(cases[i].call, "epoll_ctl_mod") == 0;
        snprintf(rules, sizeof rules, "%s%s:%s:1", keeps ? "send:short=2:1 " : "", cases[i].call,
                 strerrorname_np(cases[i].error));
        fault_rules(rules);
        turn();
        ck_assert_uint_eq(fault_disarm(), keeps ? 2 : 1);
        ck_assert_msg(closed_as(cases[i].reason) == before + 1, "%s", rules);
        close(client);
    }
    ck_assert(list_is_empty(&rig.worker.connections));
    rig_stop();
}
END_TEST

START_TEST(failing_send_of_unsent)
{
    static const struct {
        int error;
        enum reason reason;
    } cases[] = {
        {ETIMEDOUT, REASON_WRITE_TIMEOUT}, /* TCP_USER_TIMEOUT */
        {ECONNRESET, REASON_RESET},
        {EIO, REASON_ERROR},
    };
    struct service_config config = config_for("echo");
    rig_start();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int client = serve(&config);
        send_text(client, "hello");
        ck_assert(becomes_readable(newest()->source.fd));
        fault_rules("send:short=2");
        turn();
        fault_disarm();
        ck_assert_ptr_nonnull(newest()->unsent);
        fault_arm("send", cases[i].error, 1);
        turn();
        fault_disarm();
        ck_assert_uint_eq(closed_as(cases[i].reason), 1);
        expect_text(client, "he");
        close(client);
    }
    rig_stop();
}
END_TEST

static uint8_t block[65536];

/* Sends the block and turns until it is back, or the connection closed. Returns how much came back. */
static size_t exchange_block(int client)
{
    static uint8_t got[sizeof block];
    uint64_t closed = atomic_load(&rig.worker.counters.closed);
    size_t have = 0;
    send_all(client, block, sizeof block);
    for (int rest = PATIENCE_MSEC; have < sizeof block && rest > 0; rest--) {
        turn();
        ssize_t r = recv(client, got + have, sizeof got - have, MSG_DONTWAIT);
        if (r > 0)
            have += (size_t)r;
        else if (atomic_load(&rig.worker.counters.closed) > closed)
            break;
        else
            nap();
    }
    ck_assert_mem_eq(got, block, have);
    return have;
}

/* Returns a client whose next block is to pass through, if its bytes may. */
static int serve_bulk(const struct service_config *config)
{
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)('A' + i * 31 % 26);
    int client = serve(config);
    ck_assert_uint_eq(exchange_block(client), sizeof block);
    return client;
}

START_TEST(bulk_passes_through)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve_bulk(&config);
    fault_rules("splice:count");
    size_t have = exchange_block(client);
    ck_assert_uint_ge(fault_disarm(), 2);
    ck_assert_uint_eq(have, sizeof block);
    ck_assert_uint_eq(newest()->bytes_in, 2 * sizeof block);
    ck_assert_uint_eq(newest()->bytes_out, 2 * sizeof block);
    for (int i = 0; i < 2; i++) { /* the first small one tells that the bulk is over */
        send_text(client, "small");
        turn_and_expect(client, "small");
    }
    fault_rules("splice:count");
    send_text(client, "small");
    WAIT_FOR(responded() && newest()->bytes_in == 2 * sizeof block + 15);
    ck_assert_uint_eq(fault_disarm(), 0);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(bulk_that_somebody_looks_at)
{
    static const char end_word[] = "end";
    struct service_config plain = config_for("echo"), ended = plain, traced = plain;
    ended.params.end_word = end_word;
    ended.params.end_word_length = strlen(end_word);
    traced.trace = true;
    const struct service_config cases[] = {config_for("upper"), ended, traced, plain};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rig_start();
        int client = serve_bulk(&cases[i]);
        if (i + 1 == COUNT_OF(cases)) { /* a local client */
            newest()->client.family = AF_UNIX;
            newest()->in_bulk = false;
            ck_assert_uint_eq(exchange_block(client), sizeof block);
        }
        fault_rules("splice:count");
        size_t have = exchange_block(client);
        ck_assert_uint_eq(fault_disarm(), 0);
        ck_assert_uint_eq(have, sizeof block);
        close(client);
        rig_stop();
    }
}
END_TEST

START_TEST(bulk_that_has_to_be_copied)
{
    static const char *const cases[] = {
        "splice:ENOSYS",    "splice:EPERM:1", "splice:EINVAL:2",   "splice:EAGAIN:1",
        "splice:EAGAIN:/2", "splice:short:2", "splice:short=9999",
    };
    struct service_config config = config_for("echo");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rig_start();
        int client = serve_bulk(&config);
        fault_rules(cases[i]);
        size_t have = exchange_block(client);
        ck_assert_uint_ge(fault_disarm(), 1);
        ck_assert_msg(have == sizeof block, "%s: %zu", cases[i], have);
        close(client);
        rig_stop();
    }
}
END_TEST

/* And nobody else gets what stayed behind. */
START_TEST(bulk_that_fails)
{
    static const struct {
        const char *rules;
        enum reason reason;
    } cases[] = {
        {"splice:ECONNRESET:1", REASON_RESET},
        {"splice:EIO:1", REASON_ERROR},
        {"splice:EPIPE:2", REASON_RESET},
        {"splice:ETIMEDOUT:1", REASON_ERROR}, /* the keepalive: nothing was left unread */
        {"splice:EIO:2", REASON_ERROR},
        {"splice:short=10:2,malloc:ENOMEM", REASON_ERROR},
        {"splice:short=10:2,read:EIO:1-2", REASON_ERROR},
    };
    struct service_config config = config_for("echo");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rig_start();
        int other = serve_bulk(&config);
        int client = serve_bulk(&config);
        send_all(client, block, sizeof block);
        WAIT_FOR(arrived(newest()->source.fd) == sizeof block);
        fault_rules(cases[i].rules);
        turn();
        fault_disarm();
        ck_assert_msg(closed_as(cases[i].reason) == 1, "%s", cases[i].rules);
        ck_assert_uint_eq(exchange_block(other), sizeof block);
        close(client);
        close(other);
        rig_stop();
    }
}
END_TEST

START_TEST(drain_in_bulk)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve_bulk(&config);
    send_all(client, block, 10000);
    WAIT_FOR(arrived(newest()->source.fd) == 10000);
    connection_drain(newest());
    send_text(client, "too late");
    WAIT_FOR(responded() && is_lingering());
    ck_assert_uint_eq(newest()->bytes_out, sizeof block + 10000);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(short_memory_at_the_start)
{
    struct service_config config = config_for("echo");
    static const char *const calls[] = {"malloc", "epoll_ctl_add"};
    rig_start();
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        int client, server;
        tcp_pair(0, &client, &server);
        const struct new_client new_client = accepted_for(&config, server);
        fault_arm(calls[i], ENOMEM, 1);
        connection_open(&rig.worker, &new_client);
        fault_disarm();
        ck_assert_uint_eq(closed_as(REASON_ERROR), i + 1);
        ck_assert(list_is_empty(&rig.worker.connections));
        expect_end(client);
        close(client);
    }
    rig_stop();
}
END_TEST

START_TEST(short_memory_for_scratch)
{
    static const char *const names[] = {"echo", "chargen"};
    rig_start();
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct service_config config = config_for(names[i]);
        config.unsent_limit = rig.worker.scratch_size + 1;
        if (i == 1)
            rig.worker.scratch_size = 1; /* as if it had to grow for output, too */
        int client, server;
        tcp_pair(0, &client, &server);
        const struct new_client new_client = accepted_for(&config, server);
        send_text(client, "x");
        ck_assert(becomes_readable(server));
        fault_arm("malloc", ENOMEM, 2); /* behind the connection's own */
        connection_open(&rig.worker, &new_client);
        if (i == 0)
            turn();
        ck_assert_uint_eq(fault_disarm(), 1);
        ck_assert_uint_eq(closed_as(REASON_ERROR), i + 1);
        close(client);
    }
    rig_stop();
}
END_TEST

START_TEST(scratch_grows)
{
    struct service_config config = config_for("echo");
    rig_start();
    size_t size = rig.worker.scratch_size;
    config.unsent_limit = 4 * size;
    int client = serve(&config);
    send_text(client, "x");
    turn_and_expect(client, "x");
    ck_assert_uint_eq(rig.worker.scratch_size, 4 * size);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

START_TEST(idle_timeout)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 20 * USEC_PER_MSEC;
    rig_start();
    int client = serve(&config);
    turn_and_expect_end(client); /* by the loop's own timer */
    ck_assert(is_lingering());
    close(client);
    TURN_UNTIL_CLOSED(REASON_IDLE_TIMEOUT, 1);
    rig_stop();
}
END_TEST

START_TEST(bytes_put_the_idle_timeout_off)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 100 * USEC_PER_SEC;
    rig_start();
    int client = serve(&config);
    struct connection *c = newest();
    uint64_t armed_for = c->timer.tick;
    fire_after(60 * USEC_PER_SEC); /* moved 60 seconds ago: 40 are left */
    ck_assert(!is_lingering());
    ck_assert(timer_is_armed(&c->timer));
    ck_assert_uint_lt(c->timer.tick, armed_for);

    c->active_usec -= 60 * USEC_PER_SEC;
    send_text(client, "x");
    turn_and_expect(client, "x");
    ck_assert(rig.worker.loop.now - c->active_usec < 50 * USEC_PER_SEC);
    fire_after(100 * USEC_PER_SEC);
    ck_assert(is_lingering());
    close(client);
    TURN_UNTIL_CLOSED(REASON_IDLE_TIMEOUT, 1);
    rig_stop();
}
END_TEST

START_TEST(without_idle_timeout)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    ck_assert(!timer_is_armed(&newest()->timer));
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

START_TEST(write_timeout)
{
    static char filler[1 << 16];
    struct service_config config = config_for("chargen");
    config.write_timeout_usec = 20 * USEC_PER_MSEC;
    rig_start();
    int client = serve_small(&config, 4096);
    TURN_UNTIL_CLOSED(REASON_WRITE_TIMEOUT, 1); /* by the loop's own timer: nobody reads */
    ssize_t r;
    while ((r = recv(client, filler, sizeof filler, MSG_DONTWAIT)) > 0)
        ;
    ck_assert_int_eq(r, -1);
    ck_assert_int_eq(errno, ECONNRESET);
    close(client);
    rig_stop();
}
END_TEST

START_TEST(timers_follow_the_state)
{
    struct service_config config = config_for("echo");
    config.idle_timeout_usec = 1000 * USEC_PER_SEC;
    config.write_timeout_usec = 10 * USEC_PER_SEC;
    rig_start();
    int client = serve(&config);
    struct connection *c = newest();
    uint64_t idle = c->timer.tick;
    send_text(client, "hello");
    ck_assert(becomes_readable(c->source.fd));
    fault_rules("send:short=1");
    turn();
    fault_disarm();
    ck_assert_ptr_nonnull(c->unsent);
    ck_assert_uint_lt(c->timer.tick, idle); /* the write timeout counts now */
    turn_and_expect(client, "hello");
    turn();
    ck_assert_ptr_null(c->unsent);
    ck_assert_uint_ge(c->timer.tick, idle);
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

START_TEST(drain_answers_what_has_arrived)
{
    struct service_config config = config_for("upper");
    config.unsent_limit = 64; /* several turns */
    rig_start();
    int client = serve(&config);
    char early[200], bytes[512];
    memset(early, 'a', sizeof early);
    send_all(client, early, sizeof early);
    WAIT_FOR(arrived(newest()->source.fd) == sizeof early);
    connection_drain(newest());
    send_text(client, "too late");
    size_t have = turn_and_receive(client, bytes, sizeof bytes);
    ck_assert_uint_eq(have, sizeof early);
    for (size_t i = 0; i < have; i++)
        ck_assert_int_eq(bytes[i], 'A');
    ck_assert(is_lingering()); /* so that the late bytes make no reset */
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

START_TEST(drain_of_the_idle)
{
    static const char *const names[] = {"echo", "upper", "discard", "reply"};
    static char text[] = "text";
    rig_start();
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct service_config config = config_for(names[i]);
        if (config.service->takes_text) {
            config.params.text = text;
            config.params.text_length = 4;
        }
        int client = serve(&config);
        turn();
        connection_drain(newest());
        expect_end(client);
        ck_assert(is_lingering());
        connection_drain(newest()); /* again: nothing changes */
        ck_assert(is_lingering());
        close(client);
        TURN_UNTIL_CLOSED(REASON_DRAINED, i + 1);
    }
    rig_stop();
}
END_TEST

START_TEST(drain_sends_what_is_unsent)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    send_text(client, "hello");
    ck_assert(becomes_readable(newest()->source.fd));
    fault_rules("send:short=1");
    turn();
    fault_disarm();
    connection_drain(newest());
    ck_assert(!is_lingering());
    turn_and_expect(client, "hello");
    turn_and_expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

START_TEST(drain_of_the_half_closed)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    send_text(client, "last");
    shutdown(client, SHUT_WR);
    ck_assert(becomes_readable(newest()->source.fd));
    connection_drain(newest());
    turn_and_expect(client, "last");
    turn_and_expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

START_TEST(chargen_drains_at_the_end_of_a_line)
{
    static uint8_t bytes[1 << 16];
    struct service_config config = config_for("chargen");
    config.unsent_limit = 100; /* ends within a line */
    rig_start();
    int client = serve(&config);
    ck_assert_uint_eq(turn_and_receive(client, bytes, 250), 250);
    connection_drain(newest());
    size_t length = 250 + turn_and_receive(client, bytes + 250, sizeof bytes - 250);
    ck_assert_uint_eq(length % 74, 0);
    ck_assert_uint_eq(chargen_until(bytes, length), length);
    ck_assert(is_lingering());
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

/* Bytes that come behind the drain are not the client's FIN: the last line must not be lost to a reset. */
START_TEST(draining_chargen_is_spoken_to)
{
    static uint8_t bytes[1 << 16];
    struct service_config config = config_for("chargen");
    config.unsent_limit = 100;
    rig_start();
    int client = serve(&config);
    connection_drain(newest());
    send_text(client, "late");
    ck_assert(becomes_readable(newest()->source.fd));
    newest()->source.ready(&newest()->source, EPOLLIN | EPOLLOUT);
    ck_assert(is_lingering());
    ck_assert(!newest()->client_closed);
    size_t length = turn_and_receive(client, bytes, sizeof bytes);
    ck_assert_uint_eq(length, 148);
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

START_TEST(opened_while_draining)
{
    static char greeting[] = "hello\n";
    struct service_config config = config_for("upper");
    config.params.greeting = greeting;
    config.params.greeting_length = 6;
    rig_start();
    rig.worker.draining = true;
    int client, server;
    tcp_pair(0, &client, &server);
    send_text(client, "quick");
    ck_assert(becomes_readable(server));
    const struct new_client new_client = accepted_for(&config, server);
    connection_open(&rig.worker, &new_client);
    turn_and_expect(client, "hello\nQUICK");
    turn_and_expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    ck_assert(atomic_load(&rig.worker.drained));
    rig_stop();
}
END_TEST

/* A socket that cannot say what has arrived counts as one where nothing has. */
START_TEST(drain_without_a_count)
{
    struct service_config config = config_for("echo");
    rig_start();
    int client = serve(&config);
    fault_arm("ioctl", EINVAL, 0);
    connection_drain(newest());
    ck_assert_uint_ge(fault_disarm(), 1);
    turn_and_expect_end(client);
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
    rig_stop();
}
END_TEST

START_TEST(greeting_in_pieces)
{
    static char greeting[1000], bytes[1001];
    struct service_config config = config_for("echo");
    memset(greeting, 'g', sizeof greeting);
    config.params.greeting = greeting;
    config.params.greeting_length = sizeof greeting;
    config.unsent_limit = 64;
    rig_start();
    int client = serve(&config);
    send_text(client, "!"); /* not answered before the greeting is out */
    ck_assert_uint_eq(turn_and_receive(client, bytes, sizeof bytes), sizeof bytes);
    ck_assert_mem_eq(bytes, greeting, sizeof greeting);
    ck_assert_int_eq(bytes[1000], '!');
    close(client);
    TURN_UNTIL_CLOSED(REASON_CLIENT_CLOSED, 1);
    rig_stop();
}
END_TEST

START_TEST(client_gone_before_the_greeting)
{
    static char greeting[] = "hello\n";
    struct service_config config = config_for("echo");
    config.params.greeting = greeting;
    config.params.greeting_length = 6;
    rig_start();
    int client, server;
    tcp_pair(0, &client, &server);
    close_hard(client);
    ck_assert(becomes_readable(server));
    const struct new_client new_client = accepted_for(&config, server);
    connection_open(&rig.worker, &new_client); /* closed when it returns */
    ck_assert(list_is_empty(&rig.worker.connections));
    ck_assert_uint_eq(closed_as(REASON_RESET), 1);
    rig_stop();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("connection");
    tcase_add_test(tests, echo);
    tcase_add_test(tests, traces);
    tcase_add_test(tests, probes);
    tcase_add_test(tests, half_close_gets_the_rest);
    tcase_add_test(tests, local_client);
    tcase_add_test(tests, back_pressure);
    tcase_add_test(tests, short_reads_and_sends);
    tcase_add_test(tests, end_word_lingers);
    tcase_add_test(tests, served_and_lingering);
    tcase_add_test(tests, no_end_of_lingering_changes_the_reason);
    tcase_add_test(tests, failed_half_close_closes);
    tcase_add_test(tests, discard_answers_nothing);
    tcase_add_test(tests, chargen);
    tcase_add_test(tests, leaving_a_service_without_end);
    tcase_add_test(tests, resets);
    tcase_add_test(tests, failing_reads_and_sends);
    tcase_add_test(tests, failing_send_of_unsent);
    tcase_add_test(tests, bulk_passes_through);
    tcase_add_test(tests, bulk_that_somebody_looks_at);
    tcase_add_test(tests, bulk_that_has_to_be_copied);
    tcase_add_test(tests, bulk_that_fails);
    tcase_add_test(tests, drain_in_bulk);
    tcase_add_test(tests, short_memory_at_the_start);
    tcase_add_test(tests, short_memory_for_scratch);
    tcase_add_test(tests, scratch_grows);
    tcase_add_test(tests, idle_timeout);
    tcase_add_test(tests, bytes_put_the_idle_timeout_off);
    tcase_add_test(tests, without_idle_timeout);
    tcase_add_test(tests, write_timeout);
    tcase_add_test(tests, timers_follow_the_state);
    tcase_add_test(tests, drain_answers_what_has_arrived);
    tcase_add_test(tests, drain_of_the_idle);
    tcase_add_test(tests, drain_sends_what_is_unsent);
    tcase_add_test(tests, drain_of_the_half_closed);
    tcase_add_test(tests, chargen_drains_at_the_end_of_a_line);
    tcase_add_test(tests, draining_chargen_is_spoken_to);
    tcase_add_test(tests, opened_while_draining);
    tcase_add_test(tests, drain_without_a_count);
    tcase_add_test(tests, greeting_in_pieces);
    tcase_add_test(tests, client_gone_before_the_greeting);
    return run_case(tests);
}
