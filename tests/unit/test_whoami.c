/* What whoami says: of a view that is given, and through sockets. */
#include "serve/connection_view.h"
#include "serve/services.h"

#include "connection_rig.h"
#include "serve/progress.h"
#include "serve/proxied.h"

#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/un.h>

FIXTURE(rig_start, rig_stop)

#define ACCEPTED (UINT64_C(1795849699) * USEC_PER_SEC + 633833)

/* A string may hold NULs. */
#define SPAN(text) {(const uint8_t *)(text), sizeof(text) - 1}
#define V4_ADDRESS(a, b, c, d, number)                                                                       \
    {                                                                                                        \
        .family = AF_INET, .port = (number), .ip = { a, b, c, d }                                            \
    }
#define V4(a, b, c, d, number) {.address = V4_ADDRESS(a, b, c, d, number)}
#define V6(last, number)                                                                                     \
    {                                                                                                        \
        .address = {.family = AF_INET6, .port = (number), .ip = {0x20, 1, 0xd, 0xb8, [15] = (last)} }        \
    }
#define PATH(name) {.address = {.family = AF_UNIX}, .path = SPAN(name)}

/* Of somebody at TCP, whom a test changes. */
static const struct tcp_view tcp = {
    .rtt_usec = 61, .rttvar_usec = 30, .mss = 1448, .congestion_control = "cubic"};
static const struct ucred nobody = {.pid = 4711, .uid = 65534, .gid = 12};
static struct connection_view view = {
    .id = 5,
    .accepted_usec = ACCEPTED,
    .listener = "*:7021",
    .service = "whoami",
    .host = "box",
    .worker = 2,
    .peer = V4(192, 0, 2, 1, 56324),
    .server = V4(192, 0, 2, 2, 7021),
    .tcp = &tcp,
};

#define BEGIN "{\"id\": 5, "
#define PEER "\"address\": \"192.0.2.1\", \"port\": 56324"
#define SERVER "\"server\": {\"address\": \"192.0.2.2\", \"port\": 7021}, "
#define ABOUT                                                                                                \
    "\"listener\": \"*:7021\", \"service\": \"whoami\", \"worker\": 2, \"host\": \"box\", "                  \
    "\"accepted\": \"2026-11-28T07:08:19.633833Z\""
#define TCP                                                                                                  \
    ", \"tcp\": {\"rtt_us\": 61, \"rttvar_us\": 30, \"mss_bytes\": 1448, "                                   \
    "\"congestion_control\": \"cubic\"}"

/* In memory of its own, so that a sanitizer sees any write beyond the end. Returns the line as a string. */
static const char *line(void)
{
    static char text[SERVICE_DESCRIPTION_SIZE + 1];
    uint8_t *out = malloc(SERVICE_DESCRIPTION_SIZE);
    ck_assert_ptr_nonnull(out);
    struct service_state state = {0};
    size_t length = service_describe(service_find("whoami"), &state, &view, out);
    ck_assert_uint_le(length, SERVICE_DESCRIPTION_SIZE);
    ck_assert(state.done);
    ck_assert_uint_eq(state.produced, length);
    memcpy(text, out, length);
    text[length] = '\0';
    ck_assert_uint_eq(strlen(text), length);
    free(out);
    return text;
}

TEST(of_tcp)
{
    ck_assert_str_eq(line(), BEGIN "\"client\": {" PEER "}, " SERVER ABOUT TCP "}\n");
}

TEST(of_tcp_without_what_is_not_known)
{
    struct tcp_view unmeasured = tcp;
    unmeasured.rtt_usec = 0;
    unmeasured.congestion_control[0] = '\0';
    view.host = NULL;
    view.tcp = &unmeasured;
    ck_assert_str_eq(line(), BEGIN
                     "\"client\": {" PEER "}, " SERVER
                     "\"listener\": \"*:7021\", \"service\": \"whoami\", \"worker\": 2, "
                     "\"accepted\": \"2026-11-28T07:08:19.633833Z\", \"tcp\": {\"mss_bytes\": 1448}}\n");
}

static const struct {
    struct proxy_endpoint end;
    const char *shown;
} ends[] = {
    {V6(1, 65535), "\"address\": \"2001:db8::1\", \"port\": 65535"},
    {{.address = {.family = AF_INET6, .scope = 1, .ip = {0xfe, 0x80, [15] = 1}}},
     "\"address\": \"fe80::1%lo\", \"port\": 0"},
    {PATH("/run/a \"quoted\" \\ path"), "\"path\": \"/run/a \\\"quoted\\\" \\\\ path\""},
    {PATH("@is a path"), "\"path\": \"@is a path\""},
    {PATH("\0abstract"), "\"abstract\": \"abstract\""},
    {PATH("\0a\0b\xff"), "\"abstract\": \"a\\u0000b\\ufffd\""},
    {PATH("\0"), "\"abstract\": \"\""},
    {PATH(""), ""},
    {{.address = {.family = AF_UNSPEC}}, ""},
};

TEST_EACH(of_either_end, ends)
{
    char wanted[512];
    view.peer = view.server = c->end;
    snprintf(wanted, sizeof wanted, BEGIN "\"client\": {%s}, \"server\": {%s}, " ABOUT TCP "}\n", c->shown,
             c->shown);
    ck_assert_str_eq(line(), wanted);
}

TEST(of_a_path)
{
    view.peer = (struct proxy_endpoint)PATH("/tmp/client");
    view.server = (struct proxy_endpoint)PATH("/run/whoami");
    view.credentials = &nobody;
    view.tcp = NULL;
    ck_assert_str_eq(line(), BEGIN "\"client\": {\"path\": \"/tmp/client\", \"uid\": 65534, \"gid\": 12, "
                                   "\"pid\": 4711}, \"server\": {\"path\": \"/run/whoami\"}, " ABOUT "}\n");
}

static const struct {
    uint64_t usec;
    const char *shown;
} moments[] = {
    {0, "\"accepted\": \"1970-01-01T00:00:00.000000Z\", "},
    {1, "\"accepted\": \"1970-01-01T00:00:00.000001Z\", "},
    {UINT64_C(253402300799999999), "\"accepted\": \"9999-12-31T23:59:59.999999Z\", "},
    {UINT64_C(253402300800000000), NULL}, /* RFC 3339 ends with the year 9999 */
    {UINT64_MAX, NULL},
};

TEST_EACH(accepted_at, moments)
{
    view.accepted_usec = c->usec;
    ck_assert_msg(c->shown ? !!strstr(line(), c->shown) : !strstr(line(), "accepted"), "%s", line());
}

/* ---- What the proxy says ---- */

static const struct {
    const char *client, *proxy; /* what is shown of them; NULL: the peer */
    struct proxy_header header;
} headers[] = {
    {"\"address\": \"203.0.113.7\", \"port\": 4000",
     "\"version\": 1, \"command\": \"proxy\", \"destination\": {\"address\": \"198.51.100.1\", \"port\": "
     "443}",
     {.version = 1,
      .is_relayed = true,
      .source = V4(203, 0, 113, 7, 4000),
      .destination = V4(198, 51, 100, 1, 443)}},
    {"\"address\": \"2001:db8::7\", \"port\": 4000",
     "\"version\": 2, \"command\": \"proxy\", \"destination\": {\"address\": \"2001:db8::1\", \"port\": 443}",
     {.version = 2, .is_relayed = true, .source = V6(7, 4000), .destination = V6(1, 443)}},
    {"\"path\": \"/run/client\"",
     "\"version\": 2, \"command\": \"proxy\", \"destination\": {\"abstract\": \"x\"}",
     {.version = 2, .is_relayed = true, .source = PATH("/run/client"), .destination = PATH("\0x")}},
    {"",
     "\"version\": 2, \"command\": \"proxy\", \"destination\": {}",
     {.version = 2, .is_relayed = true, .source = PATH(""), .destination = PATH("")}},
    {NULL, "\"version\": 2, \"command\": \"local\"", {.version = 2, .is_local = true}},
    {NULL, "\"version\": 2, \"command\": \"unknown\"", {.version = 2}},
    {NULL, "\"version\": 1, \"command\": \"unknown\"", {.version = 1}},
};

TEST_EACH(of_a_header, headers)
{
    char wanted[1024];
    view.header = &c->header;
    snprintf(wanted, sizeof wanted,
             BEGIN "\"client\": {%s}, " SERVER "\"proxy\": {" PEER ", %s}, " ABOUT TCP "}\n",
             c->client ? c->client : PEER, c->proxy);
    ck_assert_str_eq(line(), wanted);
}

/* A proxy at a Unix socket, with a client that is not. */
TEST(of_a_header_at_a_path)
{
    view.header = &headers[0].header;
    view.peer = (struct proxy_endpoint)PATH("");
    view.server = (struct proxy_endpoint)PATH("/run/whoami");
    view.credentials = &nobody;
    view.tcp = NULL;
    ck_assert_str_eq(line(),
                     BEGIN "\"client\": {\"address\": \"203.0.113.7\", \"port\": 4000}, "
                           "\"server\": {\"path\": \"/run/whoami\"}, "
                           "\"proxy\": {\"uid\": 65534, \"gid\": 12, \"pid\": 4711, \"version\": 1, "
                           "\"command\": \"proxy\", "
                           "\"destination\": {\"address\": \"198.51.100.1\", \"port\": 443}}, " ABOUT "}\n");
}

#define X51 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X254 X51 X51 X51 X51 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
    const char *shown;
    struct proxy_header header;
} extensions[] = {
    {"", {0}},
    {", \"alpn\": \"h2\", \"authority\": \"example.com\", \"unique_id\": \"7f000001:1 \xc3\xa9\", "
     "\"checksum\": true",
     {.alpn = SPAN("h2"),
      .authority = SPAN("example.com"),
      .unique_id = SPAN("7f000001:1 \xc3\xa9"),
      .has_checksum = true}},
    {", \"alpn\": \"\", \"authority\": \"\", \"unique_id\": \"\"",
     {.alpn = SPAN(""), .authority = SPAN(""), .unique_id = SPAN("")}},
    /* Of any bytes. */
    {", \"alpn\": \"\\u0000\\u001b[2J\\\"}\\u000a\", \"authority\": \"\\ufffd\\ufffd\\u007f\", "
     "\"unique_id_hex\": \"0041ff9b\"",
     {.alpn = SPAN("\0\x1b[2J\"}\n"), .authority = SPAN("\xff\xc3\x7f"), .unique_id = SPAN("\0A\xff\x9b")}},
    {", \"unique_id\": \"\\u0000\\u0001\"", {.unique_id = SPAN("\0\1")}},
    /* Of any length: 255 bytes are shown, and no part of a character. */
    {", \"authority\": \"" X254 "y\"", {.authority = SPAN(X254 "y")}},
    {", \"authority\": \"" X254 "y\", \"authority_bytes\": 256", {.authority = SPAN(X254 "yz")}},
    {", \"authority\": \"" X254 "\", \"authority_bytes\": 256", {.authority = SPAN(X254 "\xc3\xa9")}},
    {", \"authority\": \"" X254 "\", \"authority_bytes\": 258", {.authority = SPAN(X254 "\xf0\x9f\x98\x80")}},
    {", \"authority\": \"" X51 X51 X51 X51 X51 "\", \"authority_bytes\": 510",
     {.authority = SPAN(X51 X51 X51 X51 X51 X51 X51 X51 X51 X51)}},
    /* TLS */
    {", \"tls\": null", {.has_tls = true, .tls_verify = 1, .tls_version = SPAN("TLSv1.3")}},
    {", \"tls\": {\"certificate\": false, \"verified\": false}",
     {.has_tls = true, .tls_client = PROXY_TLS_CLIENT}},
    {", \"tls\": {\"version\": \"TLSv1.3\", \"name\": \"it\\\"s me\", \"certificate\": true, \"verified\": "
     "true}",
     {.has_tls = true,
      .tls_client = PROXY_TLS_CLIENT | PROXY_TLS_CERTIFICATE,
      .tls_version = SPAN("TLSv1.3"),
      .tls_common_name = SPAN("it\"s me")}},
    {", \"tls\": {\"version\": \"TLSv1.2\", \"certificate\": true, \"verified\": false}",
     {.has_tls = true,
      .tls_client = PROXY_TLS_CLIENT | PROXY_TLS_SESSION_CERT,
      .tls_verify = 10,
      .tls_version = SPAN("TLSv1.2")}},
};

TEST_EACH(of_extensions, extensions)
{
    char wanted[2048];
    struct proxy_header header = c->header;
    header.version = 2;
    view.header = &header;
    snprintf(wanted, sizeof wanted,
             BEGIN "\"client\": {" PEER "}, " SERVER "\"proxy\": {" PEER
                   ", \"version\": 2, \"command\": \"unknown\"%s}, " ABOUT TCP "}\n",
             c->shown);
    ck_assert_str_eq(line(), wanted);
}

/* Every text as long as it can be, of bytes that take the most room. */
static const uint8_t worst_bytes[] = {0x01, 0xff, 0x7f};

TEST_EACH(longest, worst_bytes)
{
    static uint8_t bytes[65536];
    char listener[108] = "", host[65] = "";
    memset(bytes, *c, sizeof bytes);
    memset(listener, *c, sizeof listener - 1);
    memset(host, *c, sizeof host - 1);
    const struct proxy_endpoint path = {.address = {.family = AF_UNIX}, .path = {bytes, 108}};
    const struct span text = {bytes, sizeof bytes};
    struct tcp_view longest = {UINT32_MAX, UINT32_MAX, UINT32_MAX, ""};
    memset(longest.congestion_control, *c, sizeof longest.congestion_control - 1);
    const struct ucred credentials = {-1, UINT32_MAX, UINT32_MAX};
    const struct proxy_header header = {
        .version = UINT32_MAX,
        .is_relayed = true,
        .source = path,
        .destination = path,
        .alpn = text,
        .authority = text,
        .unique_id = {bytes, 128},
        .has_checksum = true,
        .has_tls = true,
        .tls_client = PROXY_TLS_CLIENT,
        .tls_version = text,
        .tls_common_name = text,
    };
    view = (struct connection_view){
        .id = UINT64_MAX,
        .accepted_usec = ACCEPTED,
        .listener = listener,
        .service = "whoami",
        .host = host,
        .worker = UINT32_MAX,
        .peer = path,
        .server = path,
        .credentials = &credentials,
        .tcp = &longest,
        .header = &header,
    };
    const char *said = line();
    size_t length = strlen(said);
    ck_assert(length > 10000 && length < 12 * 1024);
    ck_assert_str_eq(said + length - 3, "}}\n");
}

static const char *const short_of_memory[] = {"fmemopen:ENOMEM", "fflush:ENOMEM"};

TEST_EACH(none_when_memory_is_short, short_of_memory)
{
    static uint8_t out[SERVICE_DESCRIPTION_SIZE];
    struct service_state state = {0};
    fault_rules(*c);
    size_t length = service_describe(service_find("whoami"), &state, &view, out);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_uint_eq(length, 0);
}

/* ---- Through sockets ---- */

/* Turns until the end of the stream. Returns all that came, without the newline. */
static const char *turn_and_hear(int client)
{
    static char bytes[SERVICE_DESCRIPTION_SIZE + 1];
    size_t length = turn_and_receive(client, bytes, sizeof bytes - 1);
    ck_assert_uint_gt(length, 0);
    ck_assert_int_eq(bytes[length - 1], '\n');
    bytes[length - 1] = '\0';
    ck_assert_ptr_null(strchr(bytes, '\n'));
    return bytes;
}

static void expect_part(const char *said, const char *part)
{
    ck_assert_msg(strstr(said, part), "no %s in %s", part, said);
}

TEST(says_what_the_kernel_knows)
{
    struct service_config config = config_for("whoami");
    char wanted[128], algorithm[16] = "";
    socklen_t size = sizeof algorithm;
    int client = serve(&config);
    const char *said = turn_and_hear(client);
    expect_part(said,
                "{\"id\": 1, \"client\": {\"address\": \"192.0.2.1\", \"port\": 4711}, "); /* the rig's */
    snprintf(wanted, sizeof wanted,
             "\"server\": {\"address\": \"127.0.0.1\", \"port\": %u}, \"listener\": \"test\"",
             port_of(rig.server));
    expect_part(said, wanted);
    expect_part(said, "\"service\": \"whoami\", \"worker\": 1, \"host\": \"");
    ck_assert_int_eq(getsockopt(rig.server, IPPROTO_TCP, TCP_CONGESTION, algorithm, &size), 0);
    snprintf(wanted, sizeof wanted, "\"congestion_control\": \"%s\"}}", algorithm);
    expect_part(said, wanted);
    expect_part(said, "\"rtt_us\": ");
    expect_lingering(client, REASON_SERVED);
}

/* The moment of the accept, not of the answer. */
TEST(says_when_it_was_accepted)
{
    struct service_config config = terms_with("whoami", "hello\n", NULL, NULL);
    struct tm utc = {0};
    int client;
    tcp_pair(0, &client, &rig.server);
    struct new_client new_client = accepted_for(&config, rig.server);
    new_client.accepted_usec -= 3600 * USEC_PER_SEC;
    connection_open(&rig.worker, &new_client);
    turn_and_expect(client, "hello\n");
    const char *at = strstr(turn_and_hear(client), "\"accepted\": \"20");
    ck_assert_ptr_nonnull(at);
    at = strptime(at + strlen("\"accepted\": \""), "%Y-%m-%dT%H:%M:%S.", &utc);
    ck_assert(at && strspn(at, "0123456789") == 6 && at[6] == 'Z');
    ck_assert_int_le(labs(time(NULL) - 3600 - timegm(&utc)), PATIENCE_MSEC / 1000);
    expect_lingering(client, REASON_SERVED);
}

/* A name that is not in any folder. */
static socklen_t abstract_name(struct sockaddr_un *name, const char *text)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "%s-%d", text, (int)getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static void bind_abstract(int fd, const char *text)
{
    struct sockaddr_un name;
    socklen_t length = abstract_name(&name, text);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, length), 0);
}

/* The worker's end is rig.server. Returns that of a client, with a name or without one. */
static int open_unix(const char *client_name)
{
    struct sockaddr_un name;
    socklen_t length = abstract_name(&name, "server");
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bind_abstract(listening, "server");
    ck_assert_int_eq(listen(listening, 1), 0);
    if (client_name)
        bind_abstract(client, client_name);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&name, length), 0);
    rig.server = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(rig.server, 0);
    close(listening);
    return client;
}

static const struct {
    const char *name, *shown; /* of the client; NULL: it has none */
    const char *rules;
} unix_clients[] = {
    {NULL, "{\"id\": 1, \"client\": {\"uid\": %u, \"gid\": %u, \"pid\": %d}, ", ""},
    {"client",
     "{\"id\": 1, \"client\": {\"abstract\": \"client-%4$d\", \"uid\": %1$u, \"gid\": %2$u, \"pid\": %3$d}, ",
     ""},
    {"client", "{\"id\": 1, \"client\": {\"uid\": %u, \"gid\": %u, \"pid\": %d}, ", "getpeername:ENOTCONN"},
};

TEST_EACH(says_who_is_at_a_unix_socket, unix_clients)
{
    struct service_config config = config_for("whoami");
    char wanted[256];
    int client = open_unix(c->name);
    struct new_client new_client = accepted_for(&config, rig.server);
    new_client.client = (struct address){.family = AF_UNIX};
    fault_rules(c->rules);
    connection_open(&rig.worker, &new_client);
    fault_disarm();
    const char *said = turn_and_hear(client);
    snprintf(wanted, sizeof wanted, c->shown, getuid(), getgid(), getpid(), getpid());
    ck_assert_msg(strncmp(said, wanted, strlen(wanted)) == 0, "%s in place of %s", said, wanted);
    snprintf(wanted, sizeof wanted, "\"server\": {\"abstract\": \"server-%d\"}, \"listener\": \"test\"",
             getpid());
    expect_part(said, wanted);
    ck_assert_ptr_null(strstr(said, "\"tcp\""));
    close(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define IPV4 "\xcb\0\x71\7\xc6\x33\x64\1\x0f\xa0\1\xbb" /* from 203.0.113.7:4000 to 198.51.100.1:443 */

static const struct {
    struct span header;
    const char *client, *proxy; /* what is shown of them; NULL: the peer */
} proxied[] = {
    {SPAN("PROXY TCP4 203.0.113.7 198.51.100.1 4000 443\r\n"), "\"address\": \"203.0.113.7\", \"port\": 4000",
     "\"version\": 1, \"command\": \"proxy\", \"destination\": {\"address\": \"198.51.100.1\", \"port\": "
     "443}"},
    {SPAN(V2 "\x21\x11\0\x19" IPV4 "\2\0\1x\5\0\6\0\1\2\3\4\xff"),
     "\"address\": \"203.0.113.7\", \"port\": 4000",
     "\"version\": 2, \"command\": \"proxy\", \"destination\": {\"address\": \"198.51.100.1\", \"port\": "
     "443}, "
     "\"authority\": \"x\", \"unique_id_hex\": \"0001020304ff\""},
    {SPAN(V2 "\x20\0\0\0"), NULL, "\"version\": 2, \"command\": \"local\""},
    {SPAN("PROXY UNKNOWN\r\n"), NULL, "\"version\": 1, \"command\": \"unknown\""},
};

static void expect_proxied(const __typeof__(proxied[0]) *c, int client, const char *peer)
{
    char wanted[512];
    const char *said = turn_and_hear(client);
    snprintf(wanted, sizeof wanted, "{\"id\": 1, \"client\": {%s}, ", c->client ? c->client : peer);
    ck_assert_msg(strncmp(said, wanted, strlen(wanted)) == 0, "%s in place of %s", said, wanted);
    snprintf(wanted, sizeof wanted, ", \"proxy\": {%s, %s}, \"listener\"", peer, c->proxy);
    expect_part(said, wanted);
    close(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

TEST_EACH(says_what_a_proxy_has_said, proxied)
{
    static const struct address proxy = V4_ADDRESS(192, 0, 2, 9, 99);
    struct service_config config = config_for("whoami");
    int client;
    tcp_pair(0, &client, &rig.server);
    struct new_client new_client = accepted_for(&config, rig.server);
    new_client.proxied = proxied_new(&proxy, c->client ? PROXIED_CLIENT : PROXIED_CHECK, c->header);
    if (c->client)
        new_client.client = (struct address)V4_ADDRESS(203, 0, 113, 7, 4000);
    else
        new_client.client = proxy;
    connection_open(&rig.worker, &new_client);
    expect_proxied(c, client, "\"address\": \"192.0.2.9\", \"port\": 99");
}

/* The credentials are the proxy's, whatever its client's family. */
TEST_EACH(says_what_a_proxy_at_a_unix_socket_has_said, proxied)
{
    char peer[128];
    struct service_config config = config_for("whoami");
    int client = open_unix("proxy");
    struct new_client new_client = accepted_for(&config, rig.server);
    new_client.proxied = proxied_new(&(struct address){.family = AF_UNIX},
                                     c->client ? PROXIED_CLIENT : PROXIED_CHECK, c->header);
    new_client.client =
        c->client ? (struct address)V4_ADDRESS(203, 0, 113, 7, 4000) : (struct address){.family = AF_UNIX};
    connection_open(&rig.worker, &new_client);
    snprintf(peer, sizeof peer, "\"abstract\": \"proxy-%d\", \"uid\": %u, \"gid\": %u, \"pid\": %d", getpid(),
             getuid(), getgid(), getpid());
    expect_proxied(c, client, peer);
}

/* Whatever the kernel does not say is left out. */
TEST(a_kernel_that_says_nothing)
{
    struct service_config config = config_for("whoami");
    int client;
    tcp_pair(0, &client, &rig.server);
    const struct new_client new_client = accepted_for(&config, rig.server);
    fault_rules("getsockname:ENOBUFS,getsockopt:ENOPROTOOPT");
    connection_open(&rig.worker, &new_client);
    fault_disarm();
    const char *said = turn_and_hear(client);
    expect_part(said, "\"server\": {}, ");
    ck_assert_ptr_null(strstr(said, "\"tcp\""));
    close(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

TEST(closed_when_memory_is_short)
{
    struct service_config config = config_for("whoami");
    fault_rules("fmemopen:ENOMEM");
    int client = serve(&config);
    ck_assert_uint_eq(fault_disarm(), 1);
    turn_and_expect_end(client);
    ck_assert_uint_eq(closed_as(REASON_ERROR), 1);
    close(client);
}

/* The whole line is made at once, also where unsent_limit is less, and the rest waits for its client. */
TEST(a_client_that_takes_it_byte_by_byte)
{
    struct service_config config = terms_with("whoami", "hello\n", NULL, NULL);
    config.unsent_limit = SERVICE_MIN_OUTPUT;
    fault_rules("send:short=1");
    int client = serve(&config);
    static char bytes[1024];
    size_t length = turn_and_receive(client, bytes, sizeof bytes - 1);
    fault_disarm();
    ck_assert_msg(strncmp(bytes, "hello\n{\"id\": 1, ", 16) == 0, "%s", bytes);
    ck_assert_str_eq(bytes + length - 3, "}}\n");
    close(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

static const char *const before_or_after[] = {"", "what is this?\n"};

TEST_EACH(a_client_that_half_closes, before_or_after)
{
    struct service_config config = terms_with("whoami", "hello\n", NULL, NULL);
    int client;
    tcp_pair(0, &client, &rig.server);
    send_text(client, *c);
    shutdown(client, SHUT_WR);
    const struct new_client new_client = accepted_for(&config, rig.server);
    connection_open(&rig.worker, &new_client);
    turn_and_expect(client, "hello\n");
    expect_part(turn_and_hear(client), "\"whoami\"");
    close(client);
    TURN_UNTIL_CLOSED(REASON_SERVED, 1);
}

/* It is answered, as whoever has come by then. */
TEST(a_stop_before_it_has_said_it)
{
    struct service_config config = terms_with("whoami", "hello\n", NULL, NULL);
    fault_rules("send:EAGAIN");
    int client = serve(&config);
    turn_and_drain();
    fault_disarm();
    turn_and_expect(client, "hello\n");
    expect_part(turn_and_hear(client), "\"whoami\"");
    close(client);
    TURN_UNTIL_CLOSED(REASON_DRAINED, 1);
}

/* ---- Of a listener that misbehaves ---- */

static const struct {
    struct misbehaviour_params faults;
    bool is_whole, is_twice;
} bad[] = {
    {{.delay = USEC_PER_SEC}, .is_whole = true},
    {{.slice = 7}, .is_whole = true},
    {{.rate = 100000}, .is_whole = true},
    {{.repeat = 1, .slice = 16}, .is_twice = true},
    {{.corrupt = 0.5}},
    {{.limit = 100}},
};

TEST_EACH(misbehaving, bad)
{
    static char bytes[4096];
    struct misbehaviour_params faults = c->faults;
    struct service_config config = config_for("whoami");
    size_t length = 0;
    faults.after = USEC_NEVER;
    faults.toxicity = faults.seed = 1;
    config.misbehaviour = &faults;
    config.unsent_limit = 200; /* less than the line */
    int client = serve(&config);
    WAIT_FOR((turn_after(USEC_PER_SEC),
              length += turn_and_receive(client, bytes + length, sizeof bytes - 1 - length), length > 0));
    if (c->is_whole)
        ck_assert_msg(memcmp(bytes, "{\"id\": 1, ", 10) == 0 && strcmp(bytes + length - 3, "}}\n") == 0, "%s",
                      bytes);
    else if (c->is_twice)
        ck_assert_mem_eq(bytes, bytes + 16, 16);
    else if (faults.limit > 0)
        ck_assert_uint_eq(length, 100);
    else
        ck_assert_uint_gt(length, 100);
    close(client);
    WAIT_FOR((turn_after(USEC_PER_SEC), closed() == 1));
}
