#include "client/ping/stream.h"

#include "common.h"
#include "faults.h"

#define SIZE ((size_t)64)

static struct ping_stream stream;
static struct ping_event event;
static uint8_t messages[16][SIZE]; /* by number, from 1 */

static void start(enum expectation expect, uint64_t count)
{
    ck_assert_int_eq(ping_stream_init(&stream, SIZE, expect, 42), 0);
    for (uint64_t i = 1; i <= count; i++)
        ping_stream_send(&stream, 1000 * i, messages[i]);
}

static void receive(const void *bytes, size_t length)
{
    size_t room;
    uint8_t *space = ping_stream_space(&stream, &room);
    ck_assert_uint_ge(room, length);
    memcpy(space, bytes, length);
    ping_stream_received(&stream, length);
}

static void expect_event(enum ping_event_kind kind, uint64_t number)
{
    ck_assert(ping_stream_next(&stream, false, &event));
    ck_assert_msg(event.kind == kind && event.number == number, "%d of %lu instead of %d of %lu",
                  (int)event.kind, event.number, (int)kind, number);
    ck_assert_uint_eq(event.sent_usec, 1000 * number);
}

static void expect_no_event(void)
{
    ck_assert(!ping_stream_next(&stream, false, &event));
}

static void expect_counts(uint64_t answered, uint64_t spoilt, uint64_t duplicates, uint64_t corrupted)
{
    ck_assert_uint_eq(stream.answered, answered);
    ck_assert_uint_eq(stream.spoilt, spoilt);
    ck_assert_uint_eq(stream.duplicates, duplicates);
    ck_assert_uint_eq(stream.corrupted, corrupted);
    ck_assert_uint_eq(ping_stream_waiting(&stream), stream.sent - answered - spoilt);
    ping_stream_deinit(&stream);
}

TEST(answers)
{
    start(EXPECT_ECHO, 3);
    ck_assert_int_ne(memcmp(messages[1] + 16, messages[2] + 16, SIZE - 16), 0);
    expect_no_event();
    receive(messages[1], SIZE);
    expect_event(PING_REPLY, 1);
    expect_no_event();
    for (size_t i = 0; i < SIZE; i++) {
        expect_no_event();
        receive(messages[2] + i, 1);
    }
    receive(messages[3], SIZE);
    expect_event(PING_REPLY, 2);
    expect_event(PING_REPLY, 3);
    expect_no_event();
    expect_counts(3, 0, 0, 0);
}

static const char *const foreign[] = {
    "somebody else's line\n", "and more bytes than a header",
    "ping0000000000FF................................................", /* a number that was never sent */
};

/* What comes, piece by piece: the number of a message, "^" and a byte of it that is changed, "C": in
 * capitals, ":" and how many bytes of it; or "F" and the number of foreign bytes. And what it is taken for:
 * "=" is a reply, "+" a duplicate, "!" corrupt, with what happened to which bytes. */
static const struct {
    const char *name;
    enum expectation expect;
    unsigned sent;
    bool ends;
    const char *pieces, *events, *counts; /* answered, spoilt, duplicates, corrupted */
} strange[] = {
    {"lost", EXPECT_ECHO, 3, false, "1 3", "=1 =3", "2 0 0 0"},
    {"twice", EXPECT_ECHO, 2, false, "1 1 2", "=1 +1 =2", "2 0 1 0"},
    {"not in capitals", EXPECT_UPPER, 2, false, "1C 2", "=1 !2case64+64", "1 1 0 1"},
    {"in capitals", EXPECT_ECHO, 1, false, "1C", "!1case0+64", "0 1 0 1"},
    {"changed", EXPECT_ECHO, 2, false, "1^40 2", "!1changed40+1 =2", "1 1 0 1"},
    {"a header changed", EXPECT_ECHO, 2, false, "1^2 2", "!1changed2+1 =2", "1 1 0 1"},
    /* The next header is found where it comes early. */
    {"missing", EXPECT_ECHO, 3, false, "1:30 2 3", "!1missing30+34 =2 =3", "2 1 0 1"},
    /* Its own answer comes all the same. */
    {"between", EXPECT_ECHO, 2, false, "1 F0 2", "=1 !2inserted64+21 =2", "2 0 0 1"},
    {"after the last", EXPECT_ECHO, 1, false, "1 F1", "=1 !2surplus64+28", "1 0 0 1"},
    {"never sent", EXPECT_ECHO, 1, false, "F2 1", "!1changed14+50 =1", "1 0 0 1"},
    /* What came of it is right: lost, and not corrupt. */
    {"the end", EXPECT_ECHO, 2, true, "1 2:40", "=1", "1 0 0 0"},
    {"the end in a header", EXPECT_ECHO, 1, true, "1:5", "", "0 0 0 0"},
    {"the end in a duplicate", EXPECT_ECHO, 1, true, "1 1:40", "=1 !1cut40+24", "1 0 0 1"},
    {"the end after a change", EXPECT_ECHO, 2, true, "1^20 2:40", "!1changed20+1", "0 1 0 1"},
};

static void receive_piece(const char *piece)
{
    unsigned number = (unsigned)strtoul(piece + (piece[0] == 'F'), NULL, 10);
    const char *change = strchr(piece, '^'), *length = strchr(piece, ':');
    uint8_t bytes[SIZE];
    if (piece[0] == 'F') {
        receive(foreign[number], strlen(foreign[number]));
        return;
    }
    memcpy(bytes, messages[number], SIZE);
    if (change)
        bytes[atoi(change + 1)] ^= 1;
    expect_apply(strchr(piece, 'C') ? EXPECT_UPPER : EXPECT_ECHO, bytes, SIZE);
    receive(bytes, length ? (size_t)atoi(length + 1) : SIZE);
}

TEST_EACH(strange_answers, strange)
{
    char pieces[64], events[256] = "", counts[64];
    size_t length = 0;
    start(c->expect, c->sent);
    strcpy(pieces, c->pieces);
    for (char *piece = strtok(pieces, " "); piece; piece = strtok(NULL, " "))
        receive_piece(piece);
    while (ping_stream_next(&stream, c->ends, &event)) {
        char *end = events + length;
        length += (size_t)sprintf(end, "%s%c%lu", length > 0 ? " " : "", "=+!"[event.kind], event.number);
        if (event.kind == PING_CORRUPT)
            length += (size_t)sprintf(events + length, "%s%lu+%lu", fault_kind_name(event.fault.kind),
                                      event.fault.offset, event.fault.length);
        ck_assert_uint_lt(length, 128);
    }
    ck_assert_str_eq(events, c->events);
    sprintf(counts, "%lu %lu %lu %lu", stream.answered, stream.spoilt, stream.duplicates, stream.corrupted);
    ck_assert_str_eq(counts, c->counts);
    ping_stream_deinit(&stream);
}

/* All that is strange in a row is told once. */
TEST(another_protocol)
{
    start(EXPECT_ECHO, 2);
    for (size_t i = 0; i < 100; i++) {
        receive("HTTP/1.1 400 Bad Request\r\n", 26);
        while (ping_stream_next(&stream, false, &event))
            ck_assert_int_eq(event.kind, PING_CORRUPT);
    }
    expect_counts(0, 1, 0, 1);
}

TEST(a_window_of_messages)
{
    uint8_t message[SIZE];
    start(EXPECT_ECHO, 1);
    for (size_t i = 0; i < PING_WINDOW; i++)
        ping_stream_send(&stream, 5, message);
    ck_assert_ptr_null(ping_stream_message(&stream, 1));
    ck_assert_ptr_nonnull(ping_stream_message(&stream, 2));
    receive(messages[1], SIZE); /* right, however old */
    ck_assert(ping_stream_next(&stream, false, &event));
    ck_assert_int_eq(event.kind, PING_TOO_LATE);
    ck_assert_uint_eq(event.number, 1);
    ck_assert_uint_eq(stream.too_late, 1);
    ck_assert_uint_eq(stream.answered + stream.corrupted, 0);
    messages[1][SIZE - 2] ^= 1; /* and wrong, however old */
    receive(messages[1], SIZE);
    ck_assert(ping_stream_next(&stream, false, &event));
    ck_assert_int_eq(event.kind, PING_CORRUPT);
    receive(message, SIZE);
    ck_assert(ping_stream_next(&stream, false, &event));
    ck_assert_int_eq(event.kind, PING_REPLY);
    ck_assert_uint_eq(event.number, PING_WINDOW + 1);
    ping_stream_deinit(&stream);
}

/* Headers of messages that were sent, one after the other, and nothing of their answers. */
TEST(forged_headers)
{
    unsigned events = 0;
    start(EXPECT_ECHO, 3);
    for (size_t i = 0; i < 3000; i++) {
        receive(messages[1 + i % 3], 16);
        for (; ping_stream_next(&stream, false, &event); events++)
            ck_assert_int_eq(event.kind, PING_CORRUPT);
    }
    ck_assert_uint_eq(events, 3);
    receive(messages[2], SIZE);
    while (ping_stream_next(&stream, false, &event))
        events++;
    ck_assert_int_eq(event.kind, PING_REPLY);
    ck_assert_uint_eq(events, 4);
    expect_counts(1, 2, 0, 3);
}

/* The same of the largest messages, in pieces of every kind: headers that follow each other at once, marks
 * without a number, and a message that comes byte by byte. Of the processor's seconds each takes less than
 * one. */
TEST_TIMES(takes_no_time_that_a_server_chooses, 5)
{
    static const char *const pieces[] = {"ping000000000001", "PING", "pingPING", "PING000000000001ping"};
    const size_t total = (size_t)4 << 20, length = variant < 4 ? strlen(pieces[variant]) : 0;
    uint8_t *message = malloc(PING_SIZE_MAXIMUM);
    struct timespec before, spent;
    size_t room;
    ck_assert_int_eq(ping_stream_init(&stream, PING_SIZE_MAXIMUM, EXPECT_ECHO, 1), 0);
    ping_stream_send(&stream, 1, message);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (size_t done = 0, part; done < (length > 0 ? total : PING_SIZE_MAXIMUM - 1); done += part) {
        uint8_t *space = ping_stream_space(&stream, &room);
        part = length > 0 ? room / length * length : 1;
        for (size_t at = 0; at < part && length > 0; at += length)
            memcpy(space + at, pieces[variant], length);
        if (length == 0)
            *space = message[done];
        ping_stream_received(&stream, part);
        while (ping_stream_next(&stream, false, &event))
            ck_assert_int_eq(event.kind, PING_CORRUPT);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    ck_assert_int_lt(spent.tv_sec - before.tv_sec, 10);
    free(message);
    ping_stream_deinit(&stream);
}

TEST_TIMES(every_size, 4)
{
    static const size_t sizes[] = {PING_SIZE_MINIMUM, 17, 1000, PING_SIZE_MAXIMUM};
    size_t size = sizes[variant], room;
    uint8_t *message = malloc(size);
    ck_assert_int_eq(ping_stream_init(&stream, size, EXPECT_ECHO, 1), 0);
    ping_stream_send(&stream, 1, message);
    for (size_t at = 0; at < size; at += room) {
        uint8_t *space = ping_stream_space(&stream, &room);
        room = room < size - at ? room : size - at;
        memcpy(space, message + at, room);
        ping_stream_received(&stream, room);
        ck_assert_int_eq(ping_stream_next(&stream, false, &event), at + room == size);
    }
    ck_assert_int_eq(event.kind, PING_REPLY);
    free(message);
    ping_stream_deinit(&stream);
}

/* Of another connection nothing is expected that went over the one before. */
TEST(restart)
{
    start(EXPECT_ECHO, 2);
    receive(messages[1], SIZE);
    expect_event(PING_REPLY, 1);
    receive(messages[2], SIZE / 2);
    expect_no_event();
    ping_stream_restart(&stream);
    ck_assert_uint_eq(stream.gone, 1);
    ck_assert_uint_eq(ping_stream_waiting(&stream), 0);
    ping_stream_send(&stream, 3000, messages[3]);
    receive(messages[3], SIZE);
    expect_event(PING_REPLY, 3);
    expect_no_event();
    ping_stream_deinit(&stream);
}

TEST(no_memory)
{
    static const struct {
        const char *call;
        unsigned nth;
    } cases[] = {{"calloc", 1}, {"malloc", 1}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        fault_arm(cases[i].call, ENOMEM, cases[i].nth);
        int r = ping_stream_init(&stream, SIZE, EXPECT_ECHO, 1);
        fault_disarm();
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert_ptr_null(stream.bytes);
    }
    /* What went wrong is told without its reason. */
    start(EXPECT_ECHO, 1);
    messages[1][40] ^= 1;
    receive(messages[1], SIZE);
    fault_arm("malloc", ENOMEM, 0);
    bool came = ping_stream_next(&stream, false, &event);
    fault_disarm();
    ck_assert(came);
    ck_assert_int_eq(event.kind, PING_CORRUPT);
    ck_assert_int_eq(event.fault.kind, FAULT_OTHER);
    expect_counts(0, 1, 0, 1);
}
