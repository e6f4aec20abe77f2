#include "client/ping/stream.h"

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

/* How much one recv(2) may bring at least. */
#define RECEIVE_SIZE ((size_t)64 << 10)

/* How many messages before and after a wrong one may explain it. */
#define NEIGHBOURS 2U

int ping_stream_init(struct ping_stream *stream, size_t size, enum expectation expect, uint64_t run)
{
    assert(size >= PING_SIZE_MINIMUM && size <= PING_SIZE_MAXIMUM);
    /* So much that bytes are moved only after more than they are have come: see ping_stream_space. */
    size_t capacity = 2 * (size + RECEIVE_SIZE);

    *stream = (struct ping_stream){
        .pattern = pattern_make(run, 0, size),
        .expect = expect,
        .size = size,
        .window = calloc(PING_WINDOW, sizeof *stream->window),
        .bytes = malloc(capacity),
        .capacity = capacity,
        .oldest = 1,
    };
    if (stream->window && stream->bytes)
        return 0;
    ping_stream_deinit(stream);
    return -ENOMEM;
}

void ping_stream_deinit(struct ping_stream *stream)
{
    free(stream->window);
    free(stream->bytes);
    *stream = (struct ping_stream){0};
}

static void make_header(uint64_t number, uint8_t out[static HEADER_SIZE])
{
    char header[HEADER_SIZE + 1];
    snprintf(header, sizeof header, MARK "%012" PRIX64, number & NUMBER_MASK);
    memcpy(out, header, HEADER_SIZE);
}

static void make_message(const struct ping_stream *stream, uint64_t number, uint8_t *out)
{
    pattern_fill(&stream->pattern, (number - 1) * stream->size, out, stream->size);
    make_header(number, out);
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

/* The bytes of the answer that are not yet understood. */
static struct span unread(const struct ping_stream *stream)
{
    return (struct span){stream->bytes + stream->start, stream->length};
}

/* Between two moves at least size + RECEIVE_SIZE bytes come, and less than that is moved. */
uint8_t *ping_stream_space(struct ping_stream *stream, size_t *room)
{
    if (stream->length == 0 || stream->capacity - stream->start - stream->length < RECEIVE_SIZE) {
        memmove(stream->bytes, stream->bytes + stream->start, stream->length);
        stream->start = 0;
    }
    *room = stream->capacity - stream->start - stream->length;
    assert(*room >= RECEIVE_SIZE);
    return stream->bytes + stream->start + stream->length;
}

void ping_stream_received(struct ping_stream *stream, size_t length)
{
    assert(length <= stream->capacity - stream->start - stream->length);
    stream->length += length;
}

static void consume(struct ping_stream *stream, size_t length)
{
    stream->start += length;
    stream->length -= length;
    stream->searched = stream->searched > length ? stream->searched - length : 0;
}

static bool is_mark(const uint8_t bytes[static MARK_SIZE])
{
    return memcmp(bytes, MARK, MARK_SIZE) == 0 || memcmp(bytes, MARK_UPPER, MARK_SIZE) == 0;
}

/* The number in a header at the beginning of the bytes, or 0. */
static uint64_t read_number(const struct ping_stream *stream, struct span bytes)
{
    char digits[DIGITS + 1] = "";
    if (bytes.length < HEADER_SIZE || !is_mark(bytes.bytes))
        return 0;
    memcpy(digits, bytes.bytes + MARK_SIZE, DIGITS);
    if (strspn(digits, "0123456789ABCDEF") != DIGITS)
        return 0;
    uint64_t number = strtoull(digits, NULL, 16);
    return number <= stream->sent ? number : 0;
}

/* The place of the next header after the first byte; stream->length when there is none. No place is looked at
 * twice, however many bytes come at a time. */
static size_t find_header(struct ping_stream *stream)
{
    struct span bytes = unread(stream);
    size_t at = stream->searched > 1 ? stream->searched : 1;
    while (at + HEADER_SIZE <= bytes.length) {
        if ((bytes.bytes[at] == MARK[0] || bytes.bytes[at] == MARK_UPPER[0]) &&
            read_number(stream, span_from(bytes, at)) != 0)
            break;
        at++;
    }
    stream->searched = at;
    return at + HEADER_SIZE <= bytes.length ? at : bytes.length;
}

/* The answers to the messages around `number`, one after the other. Returns their length, 0 when memory is
 * short; the one of `number` begins at *offset. */
static size_t answers_around(const struct ping_stream *stream, uint64_t number, uint8_t **out, size_t *offset)
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
    *offset = (size_t)(number - first) * stream->size;
    return length;
}

/* What is wrong with the bytes at hand, which should be the answer to message `number`. Takes time for a few
 * messages: see is_news. */
static void explain(const struct ping_stream *stream, uint64_t number, bool ended, struct fault *fault)
{
    uint64_t offset = (number - 1) * stream->size;
    struct span came = unread(stream);
    uint8_t *answers;
    size_t here;
    if (number > stream->sent) {
        *fault = (struct fault){.kind = FAULT_SURPLUS, .offset = offset, .length = came.length};
        return;
    }
    size_t length = answers_around(stream, number, &answers, &here);
    *fault =
        (struct fault){.kind = FAULT_OTHER, .offset = offset, .length = came.length, .got = came.bytes[0]};
    if (length == 0)
        return;
    struct span whole = {answers, length};
    size_t same = span_shared(came, span_from(whole, here));
    if (same < came.length)
        *fault = diagnose_part(&(struct answer_part){whole, here + same}, stream->expect, offset + same,
                               span_from(came, same));
    else if (ended)
        *fault = (struct fault){.kind = FAULT_CUT, .offset = offset + same, .length = stream->size - same};
    free(answers);
}

static void spoil(struct ping_stream *stream, uint64_t number)
{
    if (!is_in_window(stream, number) || message_of(stream, number)->state != PING_WAITING)
        return;
    message_of(stream, number)->state = PING_SPOILT;
    stream->spoilt++;
    find_oldest(stream);
}

/* Returns false where the bytes are right, and only the end has cut them short: that message is lost. */
static bool corrupt(struct ping_stream *stream, uint64_t number, bool ended, struct ping_event *out)
{
    const struct ping_message *message = ping_stream_message(stream, number);
    *out = (struct ping_event){
        .kind = PING_CORRUPT, .number = number, .sent_usec = message ? message->sent_usec : 0};
    explain(stream, number, ended, &out->fault);
    if (out->fault.kind == FAULT_CUT && message && message->state == PING_WAITING)
        return false;
    stream->corrupted++;
    stream->is_lost = true;
    spoil(stream, number);
    return true;
}

/* A whole message that is as it should be. */
static void answer(struct ping_stream *stream, uint64_t number, struct ping_event *out)
{
    struct ping_message *message = message_of(stream, number);
    stream->is_lost = false;
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
    struct span message = span_first(unread(stream), stream->size);
    struct span body = span_from(message, HEADER_SIZE);
    uint8_t header[HEADER_SIZE];
    if (message.length < stream->size)
        return false;
    make_header(number, header);
    expect_apply(stream->expect, header, HEADER_SIZE);
    return memcmp(message.bytes, header, HEADER_SIZE) == 0 &&
           pattern_check(&stream->pattern, stream->expect, (number - 1) * stream->size + HEADER_SIZE,
                         body.bytes, body.length) == body.length;
}

/* Goes to the next header, or as near to it as is known: the last bytes may be the beginning of one. */
static void skip(struct ping_stream *stream)
{
    size_t next = find_header(stream);
    if (next == stream->length)
        next = stream->length < HEADER_SIZE ? 0 : stream->length - (HEADER_SIZE - 1);
    consume(stream, next);
}

/* All that is strange in a row is one event, and of each message there is one. So a server that makes up
 * headers is told of, and explained, no more often than messages are sent and answered. */
static bool is_news(const struct ping_stream *stream, uint64_t number)
{
    const struct ping_message *message = ping_stream_message(stream, number);
    return !stream->is_lost || (message && message->state == PING_WAITING);
}

void ping_stream_restart(struct ping_stream *stream)
{
    for (uint64_t number = stream->oldest; number <= stream->sent; number++)
        if (is_in_window(stream, number) && message_of(stream, number)->state == PING_WAITING) {
            message_of(stream, number)->state = PING_GONE;
            stream->gone++;
        }
    find_oldest(stream);
    stream->start = stream->length = stream->searched = 0;
    stream->is_lost = false;
}

/* A header that more may follow; another one in place of it, and no more does. */
static bool is_incomplete(struct ping_stream *stream)
{
    return stream->length < stream->size && find_header(stream) == stream->length;
}

bool ping_stream_next(struct ping_stream *stream, bool ended, struct ping_event *out)
{
    while (stream->length >= HEADER_SIZE || (ended && stream->length > 0)) {
        uint64_t number = read_number(stream, unread(stream));
        if (number != 0 && !ended && is_incomplete(stream))
            return false;
        if (number != 0 && is_right(stream, number)) {
            answer(stream, number, out);
            consume(stream, stream->size);
            return true;
        }
        /* Without a header they are those of the message that should be here. */
        bool tells = number != 0 ? is_news(stream, number) : !stream->is_lost;
        if (tells && !corrupt(stream, number != 0 ? number : stream->oldest, ended, out)) {
            consume(stream, stream->length);
            return false;
        }
        if (stream->length < HEADER_SIZE)
            consume(stream, stream->length);
        else
            skip(stream);
        if (tells)
            return true;
        if (stream->length < HEADER_SIZE && !ended)
            break;
    }
    return false;
}
