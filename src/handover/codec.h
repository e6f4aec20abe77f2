/* One description of what is written down serves both ways: each code_... function writes to `out` what it is
 * given, or reads it from between `at` and `end`, so that the two cannot differ. Numbers are 64 bits in the
 * machine's own order: the reader is on the same machine. Pure but for the stream; any thread. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct codec {
    FILE *out; /* NULL: reads */
    const uint8_t *at, *end;
    int error; /* 0, or the first negative errno; then everything reads as zero */
};

void codec_fail(struct codec *codec, int error);

void code_bytes(struct codec *codec, void *bytes, size_t length);
uint64_t code_number(struct codec *codec, uint64_t number);

/* Any field that holds a number. One that does not fit when it is read is no number of ours. What is written
 * is not touched: workers read a service_config meanwhile. */
#define CODE(codec, field)                                                                                   \
    do {                                                                                                     \
        uint64_t number_ = code_number((codec), (uint64_t)(field));                                          \
        if ((codec)->out)                                                                                    \
            break;                                                                                           \
        (field) = (__typeof__(field))number_;                                                                \
        if ((uint64_t)(field) != number_)                                                                    \
            codec_fail((codec), -EBADMSG);                                                                   \
    } while (0)

/* A bit field has no type of its own. */
#define CODE_BIT(codec, field)                                                                               \
    do {                                                                                                     \
        bool bit_ = (field);                                                                                 \
        CODE((codec), bit_);                                                                                 \
        if (!(codec)->out)                                                                                   \
            (field) = bit_;                                                                                  \
    } while (0)

/* Bytes that stay where they are when they are read. */
void code_borrowed(struct codec *codec, const uint8_t **bytes, size_t *length);

/* A copy of what is read, for free(3). NULL is a text, too. */
void code_text(struct codec *codec, char **text);

/* An array's length, and when it is read an array of it, for free(3), all zero. Every item takes some bytes,
 * which bounds it. Returns the array. */
void *code_array(struct codec *codec, void *items, size_t *count, size_t size);
