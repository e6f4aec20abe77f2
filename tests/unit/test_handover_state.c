#include "handover/state.h"

#include "base/clock.h"
#include "base/proxy_header.h"
#include "common.h"
#include "faults.h"
#include "serve/end_word.h"
#include "serve/services.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <xxhash.h>

/* Where the header's fields are, in bytes. */
#define AT_VERSION 8
#define AT_LENGTH 16
#define AT_CHECKSUM 24
#define HEADER_SIZE 32

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static struct service_config *configs[2];
static struct saved_listener listeners[2];
static struct saved_connection connections[4];
static struct prefix allowed[2], denied[1];
static struct saved_state state; /* that is written */
static struct saved_state got;   /* that is read back */
static uint8_t bytes[16384];     /* of a file */

static struct address address(const char *text)
{
    struct address out;
    ck_assert_int_eq(address_parse(text, 4711, &out), 0);
    return out;
}

static const struct misbehaviour_params faults = {
    .delay = 101,
    .jitter = 100,
    .rate = UINT64_C(1) << 40,
    .slice = 7,
    .slice_delay = 102,
    .accept_delay = 103,
    .close_delay = 104,
    .limit = 104,
    .after = USEC_NEVER,
    .end = MISBEHAVIOUR_HANG,
    .silent = true,
    .deaf = true,
    .corrupt = 0.1,
    .lose = 0.2,
    .repeat = 1.0,
    .toxicity = 1e-9,
    .seed = INT32_MAX,
    .is_drawn = true,
};

/* The rest of an answer, and another that is due at 105. */
static const uint8_t held[] = "ab\x69\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0z";

static const char proxy_header[] = "PROXY TCP4 192.0.2.1 192.0.2.2 4711 7\r\n";

static void make_configs(void)
{
    const struct service_config echo = {
        .service = service_find("echo"),
        .params = {.greeting = "hello\n", .greeting_length = 6, .end_word = "end", .end_word_length = 3},
        .misbehaviour = &faults,
        .rules = {.allow = {allowed, 2}, .deny = {denied, 1}, .per_source = UINT32_MAX, .scope = 3},
        .proxy = {.protocol = true, .timeout_usec = 12, .from = {denied, 1}},
        .trace = true,
        .idle_timeout_usec = 11,
        .write_timeout_usec = USEC_NEVER,
        .unsent_limit = 4096,
        .listener = (char *)"127.0.0.1:7",
    };
    const struct service_config greet = {
        .service = service_find("greet"),
        .params = {.text = "some text", .text_length = 9, .greeting = "", .greeting_length = 0},
        .idle_timeout_usec = USEC_NEVER,
        .write_timeout_usec = 22,
        .unsent_limit = SERVICE_MIN_OUTPUT,
        .listener = (char *)"/run/echo.sock",
    };
    configs[0] = service_config_new(&echo);
    configs[1] = service_config_new(&greet);
    ck_assert(configs[0] && configs[1]);
}

static void make_connections(void)
{
    connections[0] = (struct saved_connection){
        .cookie = 900,
        .client = {.client = address("192.0.2.1"), .id = 41, .accepted_usec = 1000},
        .proxied = {.is_there = true,
                    .proxy = address("10.0.0.2"),
                    .kind = PROXIED_CLIENT,
                    .header = (const uint8_t *)proxy_header,
                    .header_length = sizeof proxy_header - 1},
        .progress = {.bytes_in = 10,
                     .bytes_out = 6,
                     .active_usec = 2000,
                     .state = {.greeted = 6, .line = END_WORD_NO_MATCH, .asked = true},
                     .unsent = (const uint8_t *)"rest",
                     .unsent_length = 4,
                     .misbehaves = true,
                     .misbehaviour = {.key = UINT64_MAX,
                                      .accepted = 1000,
                                      .made = 20,
                                      .said = 104,
                                      .last_due = 105,
                                      .slice_due = 106,
                                      .rate_due = 107,
                                      .first_due = 108,
                                      .first_length = 2,
                                      .is_started = true,
                                      .is_hurried = true,
                                      .is_finished = true},
                     .held = held,
                     .held_length = sizeof held - 1,
                     .again = (const uint8_t *)"again!",
                     .again_length = 6},
    };
    connections[1] = (struct saved_connection){
        .cookie = 17,
        .config = 1,
        .client = {.client = {.family = AF_UNIX}, .id = 42, .accepted_usec = 1500},
        .proxied = {.is_there = true, .proxy = {.family = AF_UNIX}},
        .progress = {.bytes_out = 9,
                     .active_usec = 1500,
                     .state = {.produced = 9, .done = true},
                     .reason = REASON_SERVED,
                     .lingering = true},
    };
    connections[2] = (struct saved_connection){
        .cookie = UINT64_MAX,
        .client = {.client = address("fe80::1%1"), .id = UINT64_MAX, .accepted_usec = 3},
        .progress = {.bytes_in = UINT64_MAX,
                     .bytes_out = 1,
                     .state = {.line = 4, .ending = true, .done = true, .end_word_came = true},
                     .reason = REASON_END_WORD,
                     .client_closed = true,
                     .draining = true,
                     .due = UINT32_MAX,
                     .unsent = (const uint8_t *)"\0\xff",
                     .unsent_length = 2},
    };
    connections[3] = (struct saved_connection){
        .cookie = 18,
        .client = {.client = address("10.0.0.2"), .number = 9},
        .progress = {.header_due = true, .unsent = (const uint8_t *)"PROXY", .unsent_length = 5},
    };
}

static void make_example(void)
{
    ck_assert_int_eq(prefix_parse("10.0.0.0/8", &allowed[0]), 0);
    ck_assert_int_eq(prefix_parse("2001:db8::/128", &allowed[1]), 0);
    ck_assert_int_eq(prefix_parse("10.6.6.6", &denied[0]), 0);
    make_configs();
    make_connections();
    listeners[0] = (struct saved_listener){
        .name = (char *)"*:7",
        .any = true,
        .without_v6 = true,
        .cookie = 5,
        .number = 9,
        .port = 65535,
        .id = 3,
    };
    listeners[1] = (struct saved_listener){
        .name = (char *)"/run/echo", .cookie = 6, .device = 66, .inode = UINT64_MAX, .config = 1};
    state = (struct saved_state){
        .kind = SAVED_HANDOVER,
        .last_id = 44,
        .accepted = 45,
        .last_listener_id = 48,
        .totals = {.bytes_in = 46, .bytes_out = 47},
        .configs = configs,
        .config_count = COUNT_OF(configs),
        .listeners = listeners,
        .listener_count = COUNT_OF(listeners),
        .connections = connections,
        .connection_count = COUNT_OF(connections),
    };
    for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
        state.refused[reason] = 100 + reason;
        state.waits[reason] = 200 + reason;
        state.totals.closed_by[reason] = UINT64_MAX - reason;
    }
}

static void clear_example(void)
{
    saved_state_clear(&got);
    for (size_t i = 0; i < COUNT_OF(configs); i++)
        service_config_unref(configs[i]);
}

FIXTURE(make_example, clear_example)

static int write_state(void)
{
    int fd = saved_state_write(&state);
    ck_assert_msg(fd >= 0, "%s", strerror(-fd));
    return fd;
}

/* Returns how many bytes of the example there are in `bytes`. */
static size_t write_bytes(void)
{
    int fd = write_state();
    ssize_t length = pread(fd, bytes, sizeof bytes, 0);
    close(fd);
    ck_assert_int_gt(length, HEADER_SIZE);
    ck_assert_int_lt(length, sizeof bytes);
    return (size_t)length;
}

/* Makes the header fit what follows it. */
static void seal_header(size_t length)
{
    uint64_t body = length - HEADER_SIZE, checksum = XXH3_64bits(bytes + HEADER_SIZE, body);
    memcpy(bytes + AT_LENGTH, &body, sizeof body);
    memcpy(bytes + AT_CHECKSUM, &checksum, sizeof checksum);
}

/* Returns a file with what is in `bytes`. */
static int file_of(size_t length, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, length, 0), (ssize_t)length);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void expect_empty(void)
{
    static const struct saved_state empty;
    ck_assert_mem_eq(&got, &empty, sizeof empty);
}

static void expect_parsed(size_t length, int r)
{
    /* A block of its own length, so that a sanitizer sees the end of it. */
    uint8_t *copy = malloc(length > 0 ? length : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, length);
    ck_assert_int_eq(saved_state_parse(copy, length, &got), r);
    if (r < 0)
        expect_empty();
    saved_state_clear(&got);
    free(copy);
}

/* Ends the descriptor. */
static void expect_read(int fd, int r)
{
    ck_assert_int_eq(saved_state_read(fd, &got), r);
    close(fd);
    if (r < 0)
        expect_empty();
}

/* ---- what is written is read ---- */

static void expect_address(const struct address *one, const struct address *wanted)
{
    ck_assert(address_equal_ip(one, wanted));
    ck_assert_uint_eq(one->port, wanted->port);
}

static void expect_prefixes(const struct prefix_list *list, const struct prefix_list *wanted)
{
    ck_assert_uint_eq(list->count, wanted->count);
    for (size_t i = 0; i < list->count; i++) {
        expect_address(&list->items[i].base, &wanted->items[i].base);
        ck_assert_uint_eq(list->items[i].length, wanted->items[i].length);
    }
}

static void expect_config(const struct service_config *config, const struct service_config *wanted)
{
    ck_assert_ptr_ne(config, wanted);
    ck_assert_ptr_eq(config->service, wanted->service);
    ck_assert_pstr_eq(config->params.text, wanted->params.text);
    ck_assert_pstr_eq(config->params.greeting, wanted->params.greeting);
    ck_assert_pstr_eq(config->params.end_word, wanted->params.end_word);
    ck_assert_uint_eq(config->params.text_length, wanted->params.text_length);
    ck_assert_uint_eq(config->params.greeting_length, wanted->params.greeting_length);
    ck_assert_uint_eq(config->params.end_word_length, wanted->params.end_word_length);
    expect_prefixes(&config->rules.allow, &wanted->rules.allow);
    expect_prefixes(&config->rules.deny, &wanted->rules.deny);
    ck_assert_uint_eq(config->rules.per_source, wanted->rules.per_source);
    ck_assert_uint_eq(config->rules.scope, wanted->rules.scope);
    ck_assert_int_eq(config->proxy.protocol, wanted->proxy.protocol);
    ck_assert_uint_eq(config->proxy.timeout_usec, wanted->proxy.timeout_usec);
    expect_prefixes(&config->proxy.from, &wanted->proxy.from);
    ck_assert_int_eq(config->trace, wanted->trace);
    ck_assert_uint_eq(config->idle_timeout_usec, wanted->idle_timeout_usec);
    ck_assert_uint_eq(config->write_timeout_usec, wanted->write_timeout_usec);
    ck_assert_uint_eq(config->unsent_limit, wanted->unsent_limit);
    ck_assert_int_eq(config->can_splice, wanted->can_splice);
    ck_assert_str_eq(config->listener, wanted->listener);
    ck_assert(service_config_misbehaves_alike(config, wanted));
    ck_assert(!config->misbehaviour || config->misbehaviour->is_drawn == wanted->misbehaviour->is_drawn);
}

static void expect_listener(const struct saved_listener *listener, const struct saved_listener *wanted)
{
    ck_assert_uint_eq(listener->cookie, wanted->cookie);
    ck_assert_str_eq(listener->name, wanted->name);
    ck_assert(listener->any == wanted->any && listener->without_v6 == wanted->without_v6);
    ck_assert_uint_eq(listener->port, wanted->port);
    ck_assert_uint_eq(listener->device, wanted->device);
    ck_assert_uint_eq(listener->inode, wanted->inode);
    ck_assert_uint_eq(listener->config, wanted->config);
    ck_assert_uint_eq(listener->number, wanted->number);
    ck_assert_uint_eq(listener->id, wanted->id);
}

static void expect_service_state(const struct service_state *one, const struct service_state *wanted)
{
    ck_assert_uint_eq(one->produced, wanted->produced);
    ck_assert_uint_eq(one->greeted, wanted->greeted);
    ck_assert_uint_eq(one->line, wanted->line);
    ck_assert_int_eq(one->asked, wanted->asked);
    ck_assert_int_eq(one->ending, wanted->ending);
    ck_assert_int_eq(one->done, wanted->done);
    ck_assert_int_eq(one->end_word_came, wanted->end_word_came);
}

static void expect_misbehaviour(const struct misbehaviour *one, const struct misbehaviour *wanted)
{
    ck_assert_uint_eq(one->key, wanted->key);
    ck_assert_uint_eq(one->accepted, wanted->accepted);
    ck_assert_uint_eq(one->made, wanted->made);
    ck_assert_uint_eq(one->said, wanted->said);
    ck_assert_uint_eq(one->last_due, wanted->last_due);
    ck_assert_uint_eq(one->slice_due, wanted->slice_due);
    ck_assert_uint_eq(one->rate_due, wanted->rate_due);
    ck_assert_uint_eq(one->first_due, wanted->first_due);
    ck_assert_uint_eq(one->first_length, wanted->first_length);
    ck_assert_int_eq(one->is_started, wanted->is_started);
    ck_assert_int_eq(one->is_hurried, wanted->is_hurried);
    ck_assert_int_eq(one->is_finished, wanted->is_finished);
    ck_assert_int_eq(one->is_done, wanted->is_done);
    ck_assert_int_eq(one->ended_by, wanted->ended_by);
}

static void expect_progress(const struct progress *one, const struct progress *wanted)
{
    ck_assert_uint_eq(one->bytes_in, wanted->bytes_in);
    ck_assert_uint_eq(one->bytes_out, wanted->bytes_out);
    ck_assert_uint_eq(one->active_usec, wanted->active_usec);
    expect_service_state(&one->state, &wanted->state);
    ck_assert_int_eq(one->reason, wanted->reason);
    ck_assert_int_eq(one->client_closed, wanted->client_closed);
    ck_assert_int_eq(one->header_due, wanted->header_due);
    ck_assert_int_eq(one->draining, wanted->draining);
    ck_assert_int_eq(one->lingering, wanted->lingering);
    ck_assert_uint_eq(one->due, wanted->due);
    ck_assert_uint_eq(one->unsent_length, wanted->unsent_length);
    if (one->unsent_length > 0)
        ck_assert_mem_eq(one->unsent, wanted->unsent, one->unsent_length);
    ck_assert_int_eq(one->misbehaves, wanted->misbehaves);
    expect_misbehaviour(&one->misbehaviour, &wanted->misbehaviour);
    ck_assert_uint_eq(one->held_length, wanted->held_length);
    ck_assert_uint_eq(one->again_length, wanted->again_length);
    if (wanted->misbehaves) {
        ck_assert_mem_eq(one->held, wanted->held, one->held_length);
        ck_assert_mem_eq(one->again, wanted->again, one->again_length);
    }
}

static void expect_proxied(const struct saved_proxied *proxied, const struct saved_proxied *wanted)
{
    ck_assert_int_eq(proxied->is_there, wanted->is_there);
    expect_address(&proxied->proxy, &wanted->proxy);
    ck_assert_int_eq(proxied->kind, wanted->kind);
    ck_assert_uint_eq(proxied->header_length, wanted->header_length);
    if (wanted->header_length > 0)
        ck_assert_mem_eq(proxied->header, wanted->header, wanted->header_length);
}

static void expect_connection(const struct saved_connection *wanted)
{
    const struct saved_connection *connection = saved_state_connection(&got, wanted->cookie);
    ck_assert_ptr_nonnull(connection);
    ck_assert_uint_eq(connection->cookie, wanted->cookie);
    ck_assert_uint_eq(connection->config, wanted->config);
    expect_address(&connection->client.client, &wanted->client.client);
    ck_assert_uint_eq(connection->client.id, wanted->client.id);
    ck_assert_uint_eq(connection->client.number, wanted->client.number);
    ck_assert_uint_eq(connection->client.accepted_usec, wanted->client.accepted_usec);
    ck_assert_ptr_null(connection->client.config);
    ck_assert_ptr_null(connection->client.network);
    ck_assert_ptr_null(connection->client.progress);
    ck_assert_ptr_null(connection->client.proxied);
    expect_proxied(&connection->proxied, &wanted->proxied);
    expect_progress(&connection->progress, &wanted->progress);
}

static void expect_same(void)
{
    ck_assert_int_eq(got.kind, state.kind);
    ck_assert_uint_eq(got.last_id, state.last_id);
    ck_assert_uint_eq(got.accepted, state.accepted);
    ck_assert_mem_eq(got.refused, state.refused, sizeof got.refused);
    ck_assert_mem_eq(got.waits, state.waits, sizeof got.waits);
    ck_assert_mem_eq(&got.totals, &state.totals, sizeof got.totals);
    ck_assert_uint_eq(got.config_count, state.config_count);
    for (size_t i = 0; i < state.config_count; i++)
        expect_config(got.configs[i], state.configs[i]);
    ck_assert_uint_eq(got.last_listener_id, state.last_listener_id);
    ck_assert_uint_eq(got.listener_count, state.listener_count);
    for (size_t i = 0; i < state.listener_count; i++)
        expect_listener(&got.listeners[i], &state.listeners[i]);
    ck_assert_uint_eq(got.connection_count, state.connection_count);
    for (size_t i = 0; i < state.connection_count; i++)
        expect_connection(&state.connections[i]);
}

TEST_TIMES(comes_back_whole, SAVED_KINDS)
{
    state.kind = (enum saved_kind)variant;
    expect_read(write_state(), 0);
    expect_same();
    for (size_t i = 1; i < got.connection_count; i++)
        ck_assert_uint_lt(got.connections[i - 1].cookie, got.connections[i].cookie);
    ck_assert_ptr_null(saved_state_connection(&got, 19));
}

/* Writing leaves what is written as it is. */
TEST(written_twice)
{
    static uint8_t first[sizeof bytes];
    size_t length = write_bytes();
    memcpy(first, bytes, length);
    ck_assert_uint_eq(write_bytes(), length);
    ck_assert_mem_eq(bytes, first, length);
    expect_parsed(length, 0);
}

TEST(nothing_is_a_state_too)
{
    state = (struct saved_state){.kind = SAVED_DRAINED};
    expect_read(write_state(), 0);
    expect_same();
    ck_assert_ptr_null(saved_state_connection(&got, 0));
    saved_state_clear(&got);
    expect_empty();
    ck_assert_ptr_null(saved_state_connection(&got, 0));
}

/* More than one buffer of it. */
TEST(many_connections)
{
    enum { COUNT = 3000 };
    static struct saved_connection many[COUNT];
    static uint8_t unsent[1000];
    uint64_t random = 7;
    for (size_t i = 0; i < sizeof unsent; i++)
        unsent[i] = (uint8_t)next_random(&random);
    for (size_t i = 0; i < COUNT; i++) {
        many[i] = connections[0];
        many[i].cookie = (uint64_t)next_random(&random) << 32 | i;
        many[i].progress.unsent = unsent;
        many[i].progress.unsent_length = i % (sizeof unsent + 1);
    }
    state.connections = many;
    state.connection_count = COUNT;
    expect_read(write_state(), 0);
    expect_same();
}

/* Nobody changes it any more, and no child inherits it. */
TEST(is_sealed)
{
    int fd = write_state();
    ck_assert_int_eq(fcntl(fd, F_GET_SEALS) & SEALS, SEALS);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), -1);
    expect_read(fd, 0);
}

/* ---- what is refused ---- */

TEST(each_damaged_byte)
{
    size_t length = write_bytes();
    for (size_t i = 0; i < length; i++) {
        for (unsigned bit = 1; bit < 256; bit <<= 1) {
            bytes[i] ^= (uint8_t)bit;
            expect_parsed(length, i >= AT_VERSION && i < AT_LENGTH ? -EPROTONOSUPPORT : -EBADMSG);
            bytes[i] ^= (uint8_t)bit;
        }
    }
    expect_parsed(length, 0);
}

TEST(each_length)
{
    size_t length = write_bytes();
    for (size_t i = 0; i < length; i++)
        expect_parsed(i, -EBADMSG);
    for (size_t i = 1; i < 100; i++)
        expect_parsed(length + i, -EBADMSG);
}

/* Also where the header says the same, the reader stays within what is there. */
TEST(each_length_after_a_header_that_fits)
{
    size_t length = write_bytes();
    for (size_t i = HEADER_SIZE; i < length + 100; i++) {
        seal_header(i);
        expect_parsed(i, i == length ? 0 : -EBADMSG);
    }
}

static const uint8_t replacements[] = {0, 1, 0x7f, 0x80, 0xff};

/* A byte may be one of a text or a counter, which no reader can know to be wrong. */
TEST_EACH(each_other_byte_after_a_header_that_fits, replacements)
{
    size_t length = write_bytes(), refused = 0;
    for (size_t i = HEADER_SIZE; i < length; i++) {
        uint8_t before = bytes[i];
        bytes[i] = *c;
        seal_header(length);
        int r = saved_state_parse(bytes, length, &got);
        ck_assert_msg(r == 0 || r == -EBADMSG, "%s", strerror(-r));
        refused += r < 0;
        if (r < 0)
            expect_empty();
        saved_state_clear(&got);
        bytes[i] = before;
    }
    ck_assert_uint_gt(refused, 0);
}

TEST(other_versions)
{
    size_t length = write_bytes();
    for (uint64_t version = 0; version < 4; version++) {
        memcpy(bytes + AT_VERSION, &version, sizeof version);
        expect_read(file_of(length, SEALS), version == HANDOVER_STATE_VERSION ? 0 : -EPROTONOSUPPORT);
        saved_state_clear(&got);
    }
}

static const int lacking[] = {
    0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, SEALS};

TEST_EACH(files_that_somebody_can_change, lacking)
{
    size_t length = write_bytes();
    expect_read(file_of(length, SEALS & ~*c), *c == 0 ? 0 : -EBADMSG);
}

TEST(files_that_are_no_state)
{
    int pair[2];
    size_t length = write_bytes();
    expect_read(file_of(0, SEALS), -EBADMSG);
    expect_read(file_of(1, SEALS), -EBADMSG);
    expect_read(file_of(length - 1, SEALS), -EBADMSG);
    expect_read(file_of(length + 1, SEALS), -EBADMSG);
    bytes[length - 1] ^= 1;
    expect_read(file_of(length, SEALS), -EBADMSG);
    expect_read(open("/dev/null", O_RDONLY | O_CLOEXEC), -EBADMSG);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    expect_read(pair[0], -EBADMSG);
    close(pair[1]);
    ck_assert_int_eq(saved_state_read(-1, &got), -EBADMSG);
}

static void connection_without_config(void)
{
    connections[0].config = COUNT_OF(configs);
}

static void greeted_too_much(void)
{
    connections[0].progress.state.greeted = 7;
}

static void beyond_the_text(void)
{
    connections[1].progress.state.produced = 10;
}

static void beyond_the_end_word(void)
{
    connections[0].progress.state.line = 5;
}

static void lingers_with_unsent_bytes(void)
{
    connections[1].progress.unsent = (const uint8_t *)"x";
    connections[1].progress.unsent_length = 1;
}

static void lingers_without_a_reason(void)
{
    connections[1].progress.reason = REASON_NONE;
}

static void accepted_in_the_future(void)
{
    connections[3].client.accepted_usec = clock_monotonic_usec() + 60 * USEC_PER_SEC;
}

static void active_in_the_future(void)
{
    connections[3].progress.active_usec = clock_monotonic_usec() + 60 * USEC_PER_SEC;
}

static void tiny_buffer(void)
{
    configs[0]->unsent_limit = SERVICE_MIN_OUTPUT - 1;
}

static void misbehaves_on_purpose_of_nobody(void)
{
    connections[0].config = 1;
    connections[0].progress.state = (struct service_state){0};
}

static void holds_less_than_it_says(void)
{
    connections[0].progress.held_length--;
}

static void repeats_more_than_a_piece(void)
{
    connections[0].progress.again = (const uint8_t *)"0123456";
    connections[0].progress.again_length = 7;
}

static void has_said_more_than_the_limit(void)
{
    connections[0].progress.misbehaviour.said++;
}

static void has_ended_and_holds(void)
{
    connections[0].progress.misbehaviour.is_done = true;
}

static void is_ended_by_no_fault(void)
{
    connections[1].progress.reason = REASON_FAULT;
}

static void is_ended_by_a_fault_for_another_reason(void)
{
    connections[0].progress.misbehaviour.ended_by = MISBEHAVIOUR_LIMIT;
}

static void half_a_header(void)
{
    connections[0].proxied.header_length--;
}

static void more_than_a_header(void)
{
    connections[0].proxied.header_length++; /* its NUL */
}

static void header_that_is_not_due(void)
{
    connections[3].config = 1;
}

static void header_that_is_whole(void)
{
    static const uint8_t header[PROXY_HEADER_V2_MAX];
    connections[3].progress.unsent = header;
    connections[3].progress.unsent_length = sizeof header;
}

static void header_that_has_come(void)
{
    connections[3].proxied.is_there = true;
}

static void (*const impossible[])(void) = {
    header_that_is_not_due,
    header_that_is_whole,
    header_that_has_come,
    half_a_header,
    more_than_a_header,
    is_ended_by_no_fault,
    is_ended_by_a_fault_for_another_reason,
    misbehaves_on_purpose_of_nobody,
    holds_less_than_it_says,
    repeats_more_than_a_piece,
    has_said_more_than_the_limit,
    has_ended_and_holds,
    connection_without_config,
    greeted_too_much,
    beyond_the_text,
    beyond_the_end_word,
    lingers_with_unsent_bytes,
    lingers_without_a_reason,
    accepted_in_the_future,
    active_in_the_future,
    tiny_buffer,
};

TEST_EACH(what_none_of_ours_can_have_written, impossible)
{
    (*c)();
    expect_read(write_state(), -EBADMSG);
}

static void listener_without_config(void)
{
    listeners[1].config = COUNT_OF(configs);
}

static void unknown_kind(void)
{
    state.kind = SAVED_KINDS;
}

static void prefix_longer_than_its_address(void)
{
    configs[0]->rules.deny.items[0].length = 33;
}

static void prefix_longer_than_any(void)
{
    configs[0]->rules.allow.items[1].length = 129;
}

static void (*const not_written[])(void) = {listener_without_config, unknown_kind,
                                            prefix_longer_than_its_address, prefix_longer_than_any};

TEST_EACH(what_is_not_even_written, not_written)
{
    unsigned before = open_descriptors();
    (*c)();
    ck_assert_int_eq(saved_state_write(&state), -EBADMSG);
    ck_assert_uint_eq(open_descriptors(), before);
}

/* As another version may have them. */
static const struct {
    const char *name, *other;
} names[] = {{"echo", "ecko"},
             {"greet", "reply"},
             {"greet", "gre\0t"},
             {"client_closed", "client_gone__"},
             {"end_word", "end-word"},
             {"some text", "some\0text"},
             {"127.0.0.1:7", "127.0.0.1\0007"}};

TEST_EACH(names_that_are_not_known, names)
{
    size_t length = write_bytes(), name_length = strlen(c->name);
    uint8_t *at = memmem(bytes, length, c->name, name_length);
    ck_assert_ptr_nonnull(at);
    memcpy(at, c->other, name_length);
    seal_header(length);
    expect_parsed(length, strcmp(c->other, "reply") == 0 ? 0 : -EBADMSG);
}

/* ---- calls that fail ---- */

/* How often a state is mapped. */
static unsigned mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "memfd:tcpechod-state") != NULL;
    fclose(maps);
    return count;
}

static const struct {
    const char *rules;
    int error;
} write_failures[] = {
    {"memfd_create:EPERM", EPERM},
    {"memfd_create:EMFILE:1", EMFILE},
    {"memfd_create:EINVAL:1-2", EINVAL},
    {"memfd_create:EINVAL:1,memfd_create:ENFILE:2", ENFILE},
    {"fcntl:EMFILE:1", EMFILE}, /* the copy for the stream */
    {"fdopen:ENOMEM", ENOMEM},
    {"fflush:ENOSPC", ENOSPC},
    {"fstat:EIO", EIO},
    {"mmap:ENOMEM", ENOMEM},
    {"pwrite:ENOSPC", ENOSPC},
    {"fcntl:EPERM:2", EPERM}, /* the seals */
};

TEST_EACH(failing_to_write, write_failures)
{
    unsigned before = open_descriptors();
    fault_rules(c->rules);
    int r = saved_state_write(&state);
    unsigned long hits = fault_disarm();
    ck_assert_int_eq(r, -c->error);
    ck_assert_uint_ge(hits, 1);
    ck_assert_uint_eq(open_descriptors(), before);
    ck_assert_uint_eq(mappings(), 0);
}

/* Which does not know MFD_NOEXEC_SEAL. */
TEST(kernel_before_6_3)
{
    fault_arm("memfd_create", EINVAL, 1);
    int fd = saved_state_write(&state);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_ge(fd, 0);
    expect_read(fd, 0);
    expect_same();
}

/* At the last bytes, which fflush(3) writes, and in the middle of them. */
TEST_TIMES(no_room_for_the_file, 2)
{
    static uint8_t unsent[1 << 20];
    struct rlimit usual, limit;
    connections[0].progress.unsent = unsent;
    connections[0].progress.unsent_length = variant == 0 ? 100 : sizeof unsent;
    unsigned before = open_descriptors();
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &usual), 0);
    limit = (struct rlimit){.rlim_cur = 100, .rlim_max = usual.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int r = saved_state_write(&state);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &usual), 0);
    ck_assert_int_eq(r, -EFBIG);
    ck_assert_uint_eq(open_descriptors(), before);
}

static const struct {
    const char *call;
    int error, result;
    unsigned long times; /* that it is made at least */
} read_calls[] = {
    {"fcntl", EINVAL, EBADMSG, 1}, {"fstat", EIO, EIO, 1},        {"mmap", ENOMEM, ENOMEM, 1},
    {"calloc", ENOMEM, ENOMEM, 7}, {"malloc", ENOMEM, ENOMEM, 4}, {"strndup", ENOMEM, ENOMEM, 20},
    {"strdup", ENOMEM, ENOMEM, 2},
};

/* A sanitizer sees that no memory is left. */
TEST_EACH(failing_to_read, read_calls)
{
    int fd = write_state();
    unsigned before = open_descriptors();
    unsigned long nth = 0, hits;
    do {
        fault_arm(c->call, c->error, ++nth);
        int r = saved_state_read(fd, &got);
        hits = fault_disarm();
        ck_assert_int_eq(r, hits > 0 ? -c->result : 0);
        if (hits > 0)
            expect_empty();
        ck_assert_uint_eq(mappings(), hits == 0);
        ck_assert_uint_eq(open_descriptors(), before);
    } while (hits > 0);
    ck_assert_uint_gt(nth, c->times);
    expect_same();
    saved_state_clear(&got);
    ck_assert_uint_eq(mappings(), 0);
    close(fd);
}

/* ---- cookies ---- */

TEST(cookies)
{
    int client, server, copy;
    uint64_t one = 0, other = 0, same = 0, none = 77;
    tcp_pair(0, &client, &server);
    copy = fcntl(client, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_eq(socket_cookie(client, &one), 0);
    ck_assert_int_eq(socket_cookie(server, &other), 0);
    ck_assert_int_eq(socket_cookie(copy, &same), 0);
    ck_assert_uint_ne(one, other);
    ck_assert_uint_eq(one, same);
    close(copy);
    close(server);
    close(client);
    ck_assert_int_eq(socket_cookie(client, &none), -EBADF);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(socket_cookie(file, &none), -ENOTSOCK);
    ck_assert_uint_eq(none, 77);
    close(file);
}
