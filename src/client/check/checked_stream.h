/* One connection's bytes both ways: what is sent is made up as it goes, and what comes back is compared with
 * what it has to be. Neither is ever kept. One thread. */
#pragma once

#include "client/check/diagnosis.h"

#include <stdbool.h>

struct checked_stream {
    struct pattern pattern;
    enum expectation expect;
    bool was_reset;          /* as a send was told; the next recv(2) tells nothing but an end then */
    uint64_t due;            /* bytes to be sent so far */
    uint64_t sent, received; /* bytes; all received ones were right */
};

/* Sends what is due to a socket, in a few pieces at most, so that others have their turn. Returns 0; -EAGAIN:
 * there is more to send once it is writable; or another negative errno. 0 also after a reset: what the server
 * answered before that is still to be read. */
int checked_stream_send(struct checked_stream *stream, int fd);

/* Returns how many of the bytes that came are right. When it is not all, those from there on are evidence. */
size_t checked_stream_take(struct checked_stream *stream, const void *bytes, size_t length);

struct fault checked_stream_diagnose(const struct checked_stream *stream, const void *evidence,
                                     size_t length);

/* How many bytes of the evidence are not those that belong there. */
uint64_t checked_stream_count_wrong(const struct checked_stream *stream, const void *evidence, size_t length);

/* Answers that are due and have not come, as a fault. */
struct fault checked_stream_cut(const struct checked_stream *stream);
