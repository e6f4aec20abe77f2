/* The messages of a ping over a byte stream, and what has become of each.
 *
 *     ping_stream_send -> message -> server -> bytes -> ping_stream_space, _received -> ping_stream_next
 *
 * A stream has no packets that could be lost or come twice, but a server or a proxy can still drop, repeat or
 * change bytes. So each message begins with a mark and its number, by which the stream is found again after
 * whatever went wrong, in capitals too, and its other bytes are like those of no other message.
 *
 * The time that all of this takes is bounded by the bytes that were sent and came, whatever is in them. One
 * thread. */
#pragma once

#include "client/check/diagnosis.h"
#include "client/check/pattern.h"
#include "client/options.h"

#include <stdbool.h>

/* Older messages than this many are not waited for any more, and stay lost. */
#define PING_WINDOW 65536U

enum ping_event_kind {
    PING_REPLY,
    PING_DUPLICATE, /* of a message that has been answered */
    PING_CORRUPT,   /* bytes that are not as they should be; `fault` says how. Of more such bytes, until an
                       answer is right, there is one for each message that they seem to answer */
    PING_TOO_LATE,  /* right, but of a message that is too old: nobody knows when it left, or if it is the
                       first */
};

struct ping_event {
    enum ping_event_kind kind;
    uint64_t number; /* of the message, from 1 */
    uint64_t sent_usec;
    struct fault fault;
};

enum ping_state {
    PING_WAITING,
    PING_ANSWERED,
    PING_SPOILT, /* its answer came, and was wrong */
    PING_GONE,   /* its connection is gone, and the answer with it */
};

struct ping_message {
    uint64_t sent_usec;
    enum ping_state state;
};

struct ping_stream {
    struct pattern pattern;
    enum expectation expect;
    size_t size; /* of a message */
    struct ping_message *window;
    uint64_t sent, answered, spoilt, gone, too_late, duplicates,
        corrupted;   /* the last: events, of which a message may have two */
    uint64_t oldest; /* every message before this one is answered or spoilt, or too old */
    uint8_t *bytes;  /* room for what comes */
    size_t capacity;
    size_t start, length; /* of the answer in it that is not yet understood */
    size_t searched;      /* of this, no header begins between the first byte and here */
    bool is_lost;         /* no answer has been right since the last PING_CORRUPT */
};

/* Returns 0, or -ENOMEM with nothing to release. */
int ping_stream_init(struct ping_stream *stream, size_t size, enum expectation expect, uint64_t run);
void ping_stream_deinit(struct ping_stream *stream);

/* Writes the next message, of stream->size bytes, to `out`. */
void ping_stream_send(struct ping_stream *stream, uint64_t now_usec, uint8_t *out);

/* Where to put what comes next, and how much there is room for: never none. */
uint8_t *ping_stream_space(struct ping_stream *stream, size_t *room);

/* So many bytes have been put there. ping_stream_next has to be called until it returns false. */
void ping_stream_received(struct ping_stream *stream, size_t length);

/* What has come; with `ended` also what will not be completed any more. */
bool ping_stream_next(struct ping_stream *stream, bool ended, struct ping_event *out);

/* Another connection: what came of the one before is forgotten, and no message of that is waited for. */
void ping_stream_restart(struct ping_stream *stream);

/* Message `number`, which has been sent; NULL when it is too old. */
const struct ping_message *ping_stream_message(const struct ping_stream *stream, uint64_t number);

static inline uint64_t ping_stream_waiting(const struct ping_stream *stream)
{
    return stream->sent - stream->answered - stream->spoilt - stream->gone;
}
