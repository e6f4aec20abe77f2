#include "serve/connection_log.h"

#include "capture.h"
#include "serve/reason.h"

static void teardown(void)
{
    connection_log_configure(true, ADDRESS_FULL);
}

static struct connection_facts facts(void)
{
    return (struct connection_facts){
        .id = 42,
        .client = {.family = AF_INET, .port = 4711, .ip = {192, 0, 2, 77}},
        .listener = "127.0.0.1:7",
        .service = "echo",
        .worker = 3,
        .bytes_in = 1001,
        .bytes_out = 2002,
        .duration_usec = 12000034,
    };
}

FIXTURE(NULL, teardown)

TEST(closed_tells_everything)
{
    const struct connection_facts some = facts();
    capture(LOG_LEVEL_INFO);
    connection_log_closed(&some, REASON_IDLE_TIMEOUT, 0, false);
    connection_log_closed(&some, REASON_ERROR, ENOMEM, false);
    const char *text = written();
    static const char *const parts[] = {
        "connection 42", "192.0.2.77:4711", "idle_timeout", "echo on 127.0.0.1:7",          "worker 3",
        "1001 bytes in", "2002 out",        "12.000034 s",  "error: Cannot allocate memory"};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        expect_in(text, parts[i]);
}

TEST(probes_are_for_debug)
{
    const struct connection_facts some = facts();
    capture(LOG_LEVEL_INFO);
    connection_log_closed(&some, REASON_CLIENT_CLOSED, 0, true);
    connection_log_connected(&some);
    ck_assert_str_eq(written(), "");
    capture(LOG_LEVEL_DEBUG);
    connection_log_closed(&some, REASON_CLIENT_CLOSED, 0, true);
    connection_log_connected(&some);
    const char *text = written();
    expect_in(text, "client_closed");
    expect_in(text, "connection 42 from 192.0.2.77:4711: echo on 127.0.0.1:7, worker 3");
}

TEST(addresses_are_shown_as_configured)
{
    const struct connection_facts some = facts();
    capture(LOG_LEVEL_DEBUG);
    connection_log_configure(true, ADDRESS_PREFIX);
    connection_log_connected(&some);
    connection_log_refused(&some, REASON_DENIED, NULL);
    connection_log_trace(&some, true, "x", 1);
    connection_log_closed(&some, REASON_RESET, 0, false);
    const char *text = written();
    expect_in(text, "192.0.2.0/24");
    ck_assert_ptr_null(strstr(text, "192.0.2.77"));

    capture(LOG_LEVEL_DEBUG);
    connection_log_configure(true, ADDRESS_NONE);
    connection_log_connected(&some);
    connection_log_refused(&some, REASON_DENIED, NULL);
    connection_log_trace(&some, true, "x", 1);
    connection_log_closed(&some, REASON_RESET, 0, false);
    text = written();
    ck_assert_ptr_null(strstr(text, "192.0.2"));
    expect_in(text, "reset");
}

TEST(connections_can_be_left_out)
{
    const struct connection_facts some = facts();
    capture(LOG_LEVEL_DEBUG);
    connection_log_configure(false, ADDRESS_FULL);
    connection_log_connected(&some);
    connection_log_closed(&some, REASON_RESET, 0, false);
    ck_assert_str_eq(written(), "");
    capture(LOG_LEVEL_DEBUG);
    connection_log_refused(&some, REASON_DENIED, NULL); /* no connection: shown all the same */
    expect_in(written(), "denied");
}

TEST(refused_waiting_failed)
{
    const struct connection_facts some = facts();
    capture(LOG_LEVEL_NOTICE);
    connection_log_refused(&some, REASON_PER_SOURCE, NULL);
    connection_log_waiting(REASON_QUEUE_FULL, 77, 5);
    connection_log_accept_failed("*:7", ENOBUFS);
    const char *text = written();
    expect_in(text, "192.0.2.77:4711 refused on 127.0.0.1:7: per_source\n");
    expect_in(text, "queue_full");
    expect_in(text, "77 connections");
    expect_in(text, "5 of them queued");
    expect_in(text, "cannot accept on *:7: No buffer space available");
    capture(LOG_LEVEL_WARNING);
    connection_log_refused(&some, REASON_PER_SOURCE, NULL);
    connection_log_waiting(REASON_QUEUE_FULL, 77, 5);
    ck_assert_str_eq(written(), "");
}

/* Both addresses are shown, and hidden, alike. */
TEST(proxied_clients)
{
    const struct address proxy = {.family = AF_INET, .port = 4123, .ip = {10, 0, 0, 2}};
    struct connection_facts some = facts();
    some.proxy = &proxy;
    capture(LOG_LEVEL_DEBUG);
    connection_log_connected(&some);
    connection_log_trace(&some, true, "x", 1);
    connection_log_closed(&some, REASON_RESET, 0, false);
    connection_log_refused(&some, REASON_DENIED, NULL);
    connection_log_refused(&some, REASON_BAD_PROXY_HEADER, "a bad source port");
    const char *text = written();
    expect_in(text, "connection 42 from 192.0.2.77:4711 via 10.0.0.2:4123: echo on ");
    expect_in(text, "connection 42 from 192.0.2.77:4711 via 10.0.0.2:4123 sent 1 bytes");
    expect_in(text, "connection 42 from 192.0.2.77:4711 via 10.0.0.2:4123 closed: reset, ");
    expect_in(text, "client 192.0.2.77:4711 via 10.0.0.2:4123 refused on 127.0.0.1:7: denied\n");
    expect_in(text, "refused on 127.0.0.1:7: bad_proxy_header: a bad source port\n");

    capture(LOG_LEVEL_DEBUG);
    connection_log_configure(true, ADDRESS_PREFIX);
    connection_log_closed(&some, REASON_RESET, 0, false);
    text = written();
    expect_in(text, "from 192.0.2.0/24 via 10.0.0.0/24 closed");
    capture(LOG_LEVEL_DEBUG);
    connection_log_configure(true, ADDRESS_NONE);
    connection_log_refused(&some, REASON_DENIED, NULL);
    expect_in(written(), "client - via - refused");
}

/* Any bytes, of which no message breaks, and nothing with less than the full addresses. */
TEST(proxied_clients_at_paths)
{
    static const struct {
        struct span path;
        enum address_detail detail;
        const char *expected;
    } cases[] = {
        {{(const uint8_t *)"/run/a \"b", 9},
         ADDRESS_FULL,
         "client unix:\"/run/a \\\"b\" via 10.0.0.2:4123 refused"},
        {{(const uint8_t *)"\0a\0\n", 4},
         ADDRESS_FULL,
         "client unix:\"@a\\x00\\n\" via 10.0.0.2:4123 refused"},
        {{NULL, 0}, ADDRESS_FULL, "client unix via 10.0.0.2:4123 refused"},
        {{(const uint8_t *)"/run/a", 6}, ADDRESS_PREFIX, "client unix via 10.0.0.0/24 refused"},
        {{(const uint8_t *)"/run/a", 6}, ADDRESS_NONE, "client - via - refused"},
    };
    const struct address proxy = {.family = AF_INET, .port = 4123, .ip = {10, 0, 0, 2}};
    struct connection_facts some = facts();
    uint8_t longest[108];
    memset(longest, 0xff, sizeof longest);
    some.client = (struct address){.family = AF_UNIX};
    some.proxy = &proxy;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        some.path = cases[i].path;
        capture(LOG_LEVEL_NOTICE);
        connection_log_configure(true, cases[i].detail);
        connection_log_refused(&some, REASON_DENIED, NULL);
        expect_in(written(), cases[i].expected);
    }
    some.path = (struct span){longest, sizeof longest};
    capture(LOG_LEVEL_NOTICE);
    connection_log_configure(true, ADDRESS_FULL);
    connection_log_refused(&some, REASON_DENIED, NULL);
    expect_in(written(), "\\xff\\xff...\" via 10.0.0.2:4123 refused on 127.0.0.1:7: denied\n");
}

TEST(trace_is_escaped_and_short)
{
    const struct connection_facts some = facts();
    char many[500];
    memset(many, 'm', sizeof many);
    capture(LOG_LEVEL_INFO);
    connection_log_trace(&some, true, "\x1b[31m\n", 6);
    connection_log_trace(&some, false, many, sizeof many);
    const char *text = written();
    expect_in(text, "sent 6 bytes: ");
    expect_in(text, "was sent 500 bytes: ");
    expect_in(text, "...");
    ck_assert_ptr_null(strchr(text, '\x1b'));
    many[65] = '\0';
    ck_assert_ptr_null(strstr(text, many)); /* 64 of them and no more */
    many[64] = '\0';
    expect_in(text, many);
    capture(LOG_LEVEL_NOTICE);
    connection_log_trace(&some, true, "x", 1);
    ck_assert_str_eq(written(), "");
}
