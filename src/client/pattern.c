#include "client/pattern.h"

#include <string.h>

#define WORD sizeof(uint64_t)

/* Bytes that are made at a time for a comparison: they stay in the first-level cache. */
#define CHECK_CHUNK 4096

#define EACH_BYTE(value) ((uint64_t)(value)*UINT64_C(0x0101010101010101))

/* The finaliser of splitmix64 (Steele, Lea & Flood, 2014): a bijection, so no two words are the same. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

struct pattern pattern_make(uint64_t run, uint64_t number, size_t message_size)
{
    return (struct pattern){
        .seed = mix(mix(run) + number),
        .message = message_size >= WORD ? message_size : 0,
    };
}

/* LF becomes 0x8a. No byte carries into its neighbour: the highest bits are added apart. */
static uint64_t without_lf(uint64_t word)
{
    uint64_t zero_if_lf = word ^ EACH_BYTE('\n');
    uint64_t low = (zero_if_lf & EACH_BYTE(0x7f)) + EACH_BYTE(0x7f);
    return word ^ ~(low | zero_if_lf | EACH_BYTE(0x7f));
}

static uint64_t word_at(const struct pattern *pattern, uint64_t index)
{
    return without_lf(mix(pattern->seed + index * UINT64_C(0x9e3779b97f4a7c15)));
}

static void fill_words(const struct pattern *pattern, uint64_t offset, uint8_t *out, size_t length)
{
    uint64_t index = offset / WORD;
    size_t skip = offset % WORD;

    if (skip > 0) {
        uint64_t word = word_at(pattern, index++);
        size_t part = length < WORD - skip ? length : WORD - skip;
        memcpy(out, (const uint8_t *)&word + skip, part);
        out += part;
        length -= part;
    }
    for (; length >= WORD; out += WORD, length -= WORD) {
        uint64_t word = word_at(pattern, index++);
        memcpy(out, &word, WORD);
    }
    if (length > 0) {
        uint64_t word = word_at(pattern, index);
        memcpy(out, &word, length);
    }
}

void pattern_fill(const struct pattern *pattern, uint64_t offset, void *out, size_t length)
{
    uint8_t *bytes = out;

    fill_words(pattern, offset, bytes, length);
    if (pattern->message == 0)
        return;
    uint64_t to_end = pattern->message - 1 - offset % pattern->message;
    for (; to_end < length; to_end += pattern->message)
        bytes[to_end] = '\n';
}

/* Without a branch, so that compilers make it 16 or 32 bytes at a time. */
static void to_upper(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t is_lower = (uint8_t)(bytes[i] - 'a') < 26;
        bytes[i] = (uint8_t)(bytes[i] - (is_lower << 5));
    }
}

void expect_apply(enum expectation expect, void *bytes, size_t length)
{
    if (expect == EXPECT_UPPER)
        to_upper(bytes, length);
}

void pattern_answer(const struct pattern *pattern, enum expectation expect, uint64_t offset, void *out,
                    size_t length)
{
    pattern_fill(pattern, offset, out, length);
    expect_apply(expect, out, length);
}

size_t pattern_check(const struct pattern *pattern, enum expectation expect, uint64_t offset,
                     const void *bytes, size_t length)
{
    const uint8_t *got = bytes;
    uint8_t wanted[CHECK_CHUNK];

    for (size_t done = 0; done < length;) {
        size_t part = length - done < sizeof wanted ? length - done : sizeof wanted;
        pattern_answer(pattern, expect, offset + done, wanted, part);
        if (memcmp(got + done, wanted, part) != 0) {
            while (got[done] == wanted[done % CHECK_CHUNK])
                done++;
            return done;
        }
        done += part;
    }
    return length;
}

const char *expect_name(enum expectation expect)
{
    return expect == EXPECT_UPPER ? "upper" : "echo";
}
