#include "client/ping_stream.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As it is sent, and as capitals: small letters, so that no answer fits both kinds of --expect. */
#define MARK "ping"
#define MARK_UPPER "PING"
#define MARK_SIZE (sizeof MARK - 1)
#define DIGITS ((size_t)12)
#define NUMBER_MASK ((UINT64_C(1) << (4 * DIGITS)) - 1) /* nine thousand years of messages */
#define HEADER_SIZE (MARK_SIZE + DIGITS)

static_assert(sizeof MARK == sizeof MARK_UPPER, "they are found alike");
static_assert(HEADER_SIZE == PING_SIZE_MINIMUM, "a header fits");

/* What one recv(2) brings at most, besides a message that is not complete. */
#define RECEIVE_SIZE ((size_t)64 << 10)

/* How many messages before and behind a wrong one may explain it. */
#define NEIGHBOURS 2U

int ping_stream_init(struct ping_stream *stream, size_t size, enum expectation expect, uint64_t run)
{
    assert(size >= PING_SIZE_MINIMUM && size <= PING_SIZE_MAXIMUM);
    *stream = (struct ping_stream){
        .pattern = pattern_make(run, 0, size),
        .expect = expect,
        .size = size,
        .window = calloc(PING_WINDOW, sizeof *stream->window),
        .bytes = malloc(size + RECEIVE_SIZE),
        .wanted = malloc(size),
        .capacity = size + RECEIVE_SIZE,
        .oldest = 1,
    };
    if (stream->window && stream->bytes && stream->wanted)
        return 0;
    ping_stream_deinit(stream);
    return -ENOMEM;
}

void ping_stream_deinit(struct ping_stream *stream)
{
    free(stream->window);
    free(stream->bytes);
    free(stream->wanted);
    *stream = (struct ping_stream){0};
}

static void make_message(const struct ping_stream *stream, uint64_t number, uint8_t *out)
{
    char header[HEADER_SIZE + 1];

    pattern_fill(&stream->pattern, (number - 1) * stream->size, out, stream->size);
    (void)snprintf(header, sizeof header, MARK "%012" PRIX64, number & NUMBER_MASK);
    memcpy(out, header, HEADER_SIZE);
}

static struct ping_message *message_of(struct ping_stream *stream, uint64_t number)
{
    return &stream->window[number % PING_WINDOW];
}

static bool is_in_window(const struct ping_stream *stream, uint64_t number)
{
    return number >= 1 && number <= stream->sent && number + PING_WINDOW > stream->sent;
}

const struct ping_message *ping_stream_message(const struct ping_stream *stream, uint64_t number)
{
    return is_in_window(stream, number) ? &stream->window[number % PING_WINDOW] : NULL;
}

static void find_oldest(struct ping_stream *stream)
{
    while (stream->oldest <= stream->sent && (!is_in_window(stream, stream->oldest) ||
                                              message_of(stream, stream->oldest)->state != PING_WAITING))
        stream->oldest++;
}

void ping_stream_send(struct ping_stream *stream, uint64_t now_usec, uint8_t *out)
{
    stream->sent++;
    *message_of(stream, stream->sent) = (struct ping_message){.sent_usec = now_usec, .state = PING_WAITING};
    find_oldest(stream);
    make_message(stream, stream->sent, out);
}

uint8_t *ping_stream_space(struct ping_stream *stream, size_t *room)
{
    *room = stream->capacity - stream->length;
    assert(*room > 0);
    return stream->bytes + stream->length;
}

void ping_stream_received(struct ping_stream *stream, size_t length)
{
    assert(length <= stream->capacity - stream->length);
    stream->length += length;
}

static void consume(struct ping_stream *stream, size_t length)
{
    stream->length -= length;
    memmove(stream->bytes, stream->bytes + length, stream->length);
}

static bool is_mark(const uint8_t *bytes)
{
    return memcmp(bytes, MARK, MARK_SIZE) == 0 || memcmp(bytes, MARK_UPPER, MARK_SIZE) == 0;
}

/* The number in a header at this place, or 0. */
static uint64_t number_at(const struct ping_stream *stream, size_t at)
{
    char digits[DIGITS + 1] = "";

    if (at + HEADER_SIZE > stream->length || !is_mark(stream->bytes + at))
        return 0;
    memcpy(digits, stream->bytes + at + MARK_SIZE, DIGITS);
    if (strspn(digits, "0123456789ABCDEF") != DIGITS)
        return 0;
    uint64_t number = strtoull(digits, NULL, 16);
    return number <= stream->sent ? number : 0;
}

static const uint8_t *find_mark(const uint8_t *bytes, size_t length)
{
    const uint8_t *mark = memmem(bytes, length, MARK, MARK_SIZE);
    const uint8_t *upper = memmem(bytes, mark ? (size_t)(mark - bytes) : length, MARK_UPPER, MARK_SIZE);

    return upper ? upper : mark;
}

/* The place of the next header from `from` on; stream->length when there is none. */
static size_t find_header(const struct ping_stream *stream, size_t from)
{
    while (from + HEADER_SIZE <= stream->length) {
        const uint8_t *mark = find_mark(stream->bytes + from, stream->length - from);
        if (!mark)
            break;
        from = (size_t)(mark - stream->bytes);
        if (number_at(stream, from) != 0)
            return from;
        from++;
    }
    return stream->length;
}

/* The answers to the messages around `number`, one behind the other. Returns their length, 0 when memory is
 * short; *here is where that of `number` begins. */
static size_t answers_around(const struct ping_stream *stream, uint64_t number, uint8_t **out, size_t *here)
{
    uint64_t first = number > NEIGHBOURS ? number - NEIGHBOURS : 1;
    uint64_t last = number + NEIGHBOURS < stream->sent ? number + NEIGHBOURS : stream->sent;
    size_t length = (size_t)(last - first + 1) * stream->size;

    *out = malloc(length);
    if (!*out)
        return 0;
    for (uint64_t i = first; i <= last; i++)
        make_message(stream, i, *out + (i - first) * stream->size);
    expect_apply(stream->expect, *out, length);
    *here = (size_t)(number - first) * stream->size;
    return length;
}

/* What is wrong with the bytes at hand, which should be the answer to message `number`. */
static void explain(const struct ping_stream *stream, uint64_t number, bool ended, struct fault *fault)
{
    uint64_t offset = (number - 1) * stream->size;
    uint8_t *around;
    size_t here, same = 0;

    if (number > stream->sent) {
        *fault = (struct fault){.kind = FAULT_SURPLUS, .offset = offset, .length = stream->length};
        return;
    }
    size_t length = answers_around(stream, number, &around, &here);
    *fault = (struct fault){
        .kind = FAULT_OTHER, .offset = offset, .length = stream->length, .got = stream->bytes[0]};
    if (length == 0)
        return;
    while (same < stream->length && here + same < length && stream->bytes[same] == around[here + same])
        same++;
    if (same < stream->length)
        *fault = diagnose_part(&(struct answer_part){{around, length}, here + same}, stream->expect,
                               offset + same, (struct span){stream->bytes + same, stream->length - same});
    else if (ended)
        *fault = (struct fault){.kind = FAULT_CUT, .offset = offset + same, .length = stream->size - same};
    free(around);
}

static void spoil(struct ping_stream *stream, uint64_t number)
{
    if (!is_in_window(stream, number) || message_of(stream, number)->state != PING_WAITING)
        return;
    message_of(stream, number)->state = PING_SPOILT;
    stream->spoilt++;
    find_oldest(stream);
}

static void corrupt(struct ping_stream *stream, uint64_t number, bool ended, struct ping_event *out)
{
    const struct ping_message *message = ping_stream_message(stream, number);

    *out = (struct ping_event){
        .kind = PING_CORRUPT, .number = number, .sent_usec = message ? message->sent_usec : 0};
    explain(stream, number, ended, &out->fault);
    stream->corrupted++;
    stream->is_lost = true;
    spoil(stream, number);
}

/* A whole message that is as it should be. */
static void answer(struct ping_stream *stream, uint64_t number, struct ping_event *out)
{
    struct ping_message *message = message_of(stream, number);

    if (!is_in_window(stream, number)) {
        *out = (struct ping_event){.kind = PING_TOO_LATE, .number = number};
        stream->too_late++;
        return;
    }
    *out = (struct ping_event){.kind = PING_REPLY, .number = number, .sent_usec = message->sent_usec};
    if (message->state == PING_ANSWERED) {
        out->kind = PING_DUPLICATE;
        stream->duplicates++;
        return;
    }
    /* Strange bytes were taken for its answer, and now it came. */
    if (message->state == PING_SPOILT)
        stream->spoilt--;
    message->state = PING_ANSWERED;
    stream->answered++;
    find_oldest(stream);
}

static bool is_right(const struct ping_stream *stream, uint64_t number)
{
    make_message(stream, number, stream->wanted);
    expect_apply(stream->expect, stream->wanted, stream->size);
    return memcmp(stream->wanted, stream->bytes, stream->size) == 0;
}

/* Goes to the next header, or as near to it as is known: the last bytes may be the beginning of one. */
static void skip(struct ping_stream *stream)
{
    size_t next = find_header(stream, 1);

    if (next == stream->length)
        next = stream->length < HEADER_SIZE ? 0 : stream->length - (HEADER_SIZE - 1);
    consume(stream, next);
}

static bool take_message(struct ping_stream *stream, uint64_t number, bool ended, struct ping_event *out)
{
    bool whole = stream->length >= stream->size;

    if (!whole && !ended && find_header(stream, 1) == stream->length)
        return false;
    if (whole && is_right(stream, number)) {
        answer(stream, number, out);
        consume(stream, stream->size);
        return true;
    }
    corrupt(stream, number, ended, out);
    skip(stream);
    return true;
}

bool ping_stream_next(struct ping_stream *stream, bool ended, struct ping_event *out)
{
    while (stream->length >= HEADER_SIZE || (ended && stream->length > 0)) {
        uint64_t number = number_at(stream, 0);
        if (number != 0) {
            stream->is_lost = false;
            return take_message(stream, number, ended, out);
        }
        /* All that is strange in a row is one event, of the message that should be here. */
        bool is_news = !stream->is_lost;
        if (is_news)
            corrupt(stream, stream->oldest, ended, out);
        if (stream->length < HEADER_SIZE)
            stream->length = 0;
        else
            skip(stream);
        if (is_news)
            return true;
        if (stream->length < HEADER_SIZE)
            break;
    }
    return false;
}
