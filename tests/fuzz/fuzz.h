/* What the fuzz targets share. Each target is one file with
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
 *
 * as libFuzzer wants it: built with clang and -Dfuzz=enabled, libFuzzer runs it; else driver.c does, which
 * takes the same arguments. A target takes its decisions from the input (fuzz_byte, fuzz_number), and checks
 * more than that nothing is read beyond its end (FUZZ_CHECK). */
#pragma once

#include "base/span.h"
#include "client/check/pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#define FUZZ_CHECK(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                    \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* The next byte of the input, 0 when there is none any more. */
static inline uint8_t fuzz_byte(struct span *input)
{
    uint8_t byte = input->length > 0 ? input->bytes[0] : 0;
    *input = span_from(*input, 1);
    return byte;
}

/* A number from 0 to `most`. */
static inline size_t fuzz_number(struct span *input, size_t most)
{
    size_t number = 0;
    for (size_t range = most; range > 0; range >>= 8)
        number = number << 8 | fuzz_byte(input);
    return most < SIZE_MAX ? number % (most + 1) : number;
}

/* For what takes long: true of one input in 256, whatever it was made of. */
static inline bool fuzz_is_seldom(struct span input)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < input.length; i++)
        sum = (uint8_t)(sum + input.bytes[i]);
    return sum == 37;
}

static inline struct span fuzz_bytes(struct span *input, size_t most)
{
    struct span bytes = span_first(*input, most);
    *input = span_from(*input, bytes.length);
    return bytes;
}

/* A copy with nothing after it that a sanitizer would not see; the caller's. */
static inline uint8_t *fuzz_copy(struct span bytes)
{
    uint8_t *copy = malloc(bytes.length > 0 ? bytes.length : 1);
    FUZZ_CHECK(copy);
    if (bytes.length > 0)
        memcpy(copy, bytes.bytes, bytes.length);
    return copy;
}

/* A server that answers a stream of the pattern as the input says: right bytes, bytes that are left out, that
 * come again, that are changed, and others. */
struct fuzz_server {
    struct span *input;
    const struct pattern *pattern;
    enum expectation expect;
    uint64_t place; /* of the answer */
};

#define FUZZ_PIECE ((size_t)4096)

/* One step, with room for so many bytes. Returns how many it makes. */
static inline size_t fuzz_server_step(struct fuzz_server *server, uint8_t kind, uint8_t *out, size_t room)
{
    size_t length = fuzz_number(server->input, kind & 0x80 ? room : 100);
    struct span foreign;
    length = length < room ? length : room;
    switch (kind & 7) {
    case 0: /* they are missing */
        server->place += length;
        return 0;
    case 1: /* they come again */
        server->place -= length < server->place ? length : server->place;
        return 0;
    case 2:
        foreign = fuzz_bytes(server->input, length);
        memcpy(out, foreign.bytes, foreign.length);
        return foreign.length;
    case 3:
        memset(out, fuzz_byte(server->input), length);
        return length;
    default:
        pattern_answer(server->pattern, server->expect, server->place, out, length);
        server->place += length;
        if ((kind & 7) == 4 && length > 0)
            out[fuzz_number(server->input, length - 1)] ^= fuzz_byte(server->input);
        return length;
    }
}

/* Returns how many bytes come next, all at once; 0 at the end of the input. */
static inline size_t fuzz_server_says(struct fuzz_server *server, uint8_t out[static FUZZ_PIECE])
{
    size_t length = 0;
    bool more = true;
    while (server->input->length > 0 && (more || length == 0) && length < FUZZ_PIECE) {
        uint8_t kind = fuzz_byte(server->input);
        length += fuzz_server_step(server, kind, out + length, FUZZ_PIECE - length);
        more = kind & 0x40;
    }
    return length;
}
