/* What a ping makes of any bytes: answers, parts of them, headers of messages and of none. */
#include "fuzz.h"

#include "client/ping/stream.h"

#define MESSAGES_MAX 12
#define SIZE_MAX_HERE 600

static uint8_t messages[MESSAGES_MAX][SIZE_MAX_HERE]; /* as they are answered */

struct counts {
    uint64_t replies, duplicates, corrupt, too_late;
    uint64_t came; /* bytes */
};

static void take_events(struct ping_stream *stream, bool ended, struct counts *counts)
{
    struct ping_event event;
    uint64_t events = 0;
    while (ping_stream_next(stream, ended, &event)) {
        counts->replies += event.kind == PING_REPLY;
        counts->duplicates += event.kind == PING_DUPLICATE;
        counts->corrupt += event.kind == PING_CORRUPT;
        counts->too_late += event.kind == PING_TOO_LATE;
        FUZZ_CHECK(++events <= counts->came);
        FUZZ_CHECK(event.number >= 1 && event.number <= stream->sent + 1);
        if (event.kind == PING_REPLY || event.kind == PING_DUPLICATE)
            FUZZ_CHECK(ping_stream_message(stream, event.number)->state == PING_ANSWERED);
        FUZZ_CHECK(stream->start + stream->length <= stream->capacity);
    }
    FUZZ_CHECK(stream->length < stream->size);
    FUZZ_CHECK(!ended || stream->length == 0);
}

static void check_counts(const struct ping_stream *stream, const struct counts *counts)
{
    uint64_t answered = 0, spoilt = 0, waiting = 0;
    for (uint64_t i = 1; i <= stream->sent; i++) {
        enum ping_state state = ping_stream_message(stream, i)->state;
        answered += state == PING_ANSWERED;
        spoilt += state == PING_SPOILT;
        waiting += state == PING_WAITING;
        FUZZ_CHECK(i >= stream->oldest || state != PING_WAITING);
    }
    FUZZ_CHECK(stream->answered == answered && counts->replies == answered);
    FUZZ_CHECK(stream->spoilt == spoilt && ping_stream_waiting(stream) == waiting);
    FUZZ_CHECK(stream->duplicates == counts->duplicates && stream->corrupted == counts->corrupt);
    FUZZ_CHECK(stream->too_late == counts->too_late);
    FUZZ_CHECK((counts->replies + counts->duplicates) * stream->size <= counts->came);
    /* What takes long to explain comes no more often than this, whatever the server does. */
    FUZZ_CHECK(counts->corrupt <= stream->sent + counts->replies + counts->duplicates + counts->too_late + 1);
}

static void receive(struct ping_stream *stream, struct span bytes, struct counts *counts)
{
    size_t room;
    uint8_t *space = ping_stream_space(stream, &room);
    FUZZ_CHECK(room >= bytes.length);
    memcpy(space, bytes.bytes, bytes.length);
    ping_stream_received(stream, bytes.length);
    counts->came += bytes.length;
    take_events(stream, false, counts);
}

static void send_message(struct ping_stream *stream)
{
    if (stream->sent == MESSAGES_MAX)
        return;
    ping_stream_send(stream, stream->sent, messages[stream->sent]);
    expect_apply(stream->expect, messages[stream->sent - 1], stream->size);
}

/* A piece of an answer, perhaps with a byte changed. */
static void answer(struct ping_stream *stream, struct span *input, uint8_t step, struct counts *counts)
{
    uint8_t piece[SIZE_MAX_HERE];
    struct span message = {messages[fuzz_number(input, (size_t)stream->sent - 1)], stream->size};
    if (step & 0x10)
        message = span_from(message, fuzz_number(input, stream->size));
    if (step & 0x20)
        message = span_first(message, fuzz_number(input, stream->size));
    if (message.length == 0)
        return;
    memcpy(piece, message.bytes, message.length);
    if (step & 0x40)
        piece[fuzz_number(input, message.length - 1)] ^= fuzz_byte(input);
    receive(stream, (struct span){piece, message.length}, counts);
}

/* A stream with nothing sent. Its memory is that of the one before: a window takes most of the time to make.
 */
static struct ping_stream begin(size_t size, enum expectation expect, uint64_t run)
{
    static struct ping_stream kept;
    if (!kept.bytes)
        FUZZ_CHECK(ping_stream_init(&kept, SIZE_MAX_HERE, EXPECT_ECHO, 0) == 0);
    return (struct ping_stream){
        .pattern = pattern_make(run, 0, size),
        .expect = expect,
        .size = size,
        .window = kept.window,
        .oldest = 1,
        .bytes = kept.bytes,
        .capacity = kept.capacity,
    };
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    size_t size = PING_SIZE_MINIMUM + fuzz_number(&input, SIZE_MAX_HERE - PING_SIZE_MINIMUM);
    struct ping_stream stream = begin(size, kind & 1 ? EXPECT_UPPER : EXPECT_ECHO, kind);
    struct counts counts = {0};
    char header[24];
    while (input.length > 0) {
        uint8_t step = fuzz_byte(&input);
        switch (step & 7) {
        case 0:
            receive(&stream, fuzz_bytes(&input, step >> 3), &counts);
            break;
        case 1:
            (void)snprintf(header, sizeof header, "%s%012X", step & 8 ? "PING" : "ping", fuzz_byte(&input));
            receive(&stream, span_first((struct span){(const uint8_t *)header, 16}, step & 16 ? 7 : 16),
                    &counts);
            break;
        case 2:
        case 3:
            send_message(&stream);
            break;
        default:
            if (stream.sent > 0)
                answer(&stream, &input, step, &counts);
            break;
        }
    }
    check_counts(&stream, &counts);
    take_events(&stream, true, &counts);
    check_counts(&stream, &counts);
    return 0;
}
