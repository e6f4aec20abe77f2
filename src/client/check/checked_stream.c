#include "client/check/checked_stream.h"

#include <errno.h>
#include <sys/socket.h>

#define PIECE ((size_t)64 << 10)
#define PIECES 4
#define COMPARED ((size_t)4096)

int checked_stream_send(struct checked_stream *stream, int fd)
{
    uint8_t bytes[PIECE];
    for (unsigned i = 0; stream->sent < stream->due && i < PIECES; i++) {
        size_t length = stream->due - stream->sent < PIECE ? (size_t)(stream->due - stream->sent) : PIECE;
        pattern_fill(&stream->pattern, stream->sent, bytes, length);
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            stream->sent += (uint64_t)sent;
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) {
            stream->was_reset = true;
            return 0;
        }
        return errno == EINTR ? -EAGAIN : -errno;
    }
    return stream->sent < stream->due ? -EAGAIN : 0;
}

size_t checked_stream_take(struct checked_stream *stream, const void *bytes, size_t length)
{
    uint64_t due = stream->sent - stream->received;
    size_t expected = length < due ? length : (size_t)due;
    size_t right = pattern_check(&stream->pattern, stream->expect, stream->received, bytes, expected);
    stream->received += right;
    return right;
}

struct fault checked_stream_diagnose(const struct checked_stream *stream, const void *evidence, size_t length)
{
    return diagnose(&stream->pattern, stream->expect, stream->received, stream->sent,
                    (struct span){evidence, length});
}

uint64_t checked_stream_count_wrong(const struct checked_stream *stream, const void *evidence, size_t length)
{
    uint64_t due = stream->sent - stream->received;
    struct span came = span_first((struct span){evidence, length}, due < length ? (size_t)due : length);
    uint64_t wrong = length - came.length;
    uint8_t wanted[COMPARED];
    for (size_t done = 0; done < came.length; done += COMPARED) {
        struct span part = span_first(span_from(came, done), COMPARED);
        pattern_answer(&stream->pattern, stream->expect, stream->received + done, wanted, part.length);
        wrong += span_differing(part, (struct span){wanted, part.length});
    }
    return wrong;
}

struct fault checked_stream_cut(const struct checked_stream *stream)
{
    return (struct fault){
        .kind = FAULT_CUT, .offset = stream->received, .length = stream->due - stream->received};
}
