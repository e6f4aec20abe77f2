#include "client/check/pattern.h"

#include "base/ascii.h"
#include "base/vectors.h"

#include <string.h>

#define WORD sizeof(uint64_t)

/* Bytes that are made at a time for a comparison: they stay in the first-level cache. */
#define CHECK_CHUNK 4096

#define BLOCK 64 /* words */
#define PLACE_STEP UINT64_C(0x9e3779b97f4a7c15)

#define EACH_BYTE(value) ((uint64_t)(value) * UINT64_C(0x0101010101010101))

/* The finaliser of splitmix64 (Steele, Lea & Flood, 2014). */
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
static ALWAYS_INLINE uint64_t without_lf(uint64_t word)
{
    uint64_t zero_if_lf = word ^ EACH_BYTE('\n');
    uint64_t low = (zero_if_lf & EACH_BYTE(0x7f)) + EACH_BYTE(0x7f);
    return word ^ ~(low | zero_if_lf | EACH_BYTE(0x7f));
}

/* A word is mixed out of its block's number, and its place in the block: mixing each would cost a load more
 * than the kernel takes for its bytes. */
static uint64_t block_mix(const struct pattern *pattern, uint64_t block)
{
    return mix(pattern->seed + block * PLACE_STEP);
}

/* Words of one block, from the place on. */
static ALWAYS_INLINE void make_words_any(uint64_t mixed, uint64_t place, uint8_t *out, size_t words)
{
    uint64_t step = place * PLACE_STEP; /* added to, since vectors do not multiply words */
    for (size_t i = 0; i < words; i++, step += PLACE_STEP) {
        uint64_t word = without_lf(mixed ^ step);
        memcpy(out + i * WORD, &word, WORD);
    }
}
WITH_WIDE_VECTORS(make_words, (uint64_t mixed, uint64_t place, uint8_t *out, size_t words),
                  (mixed, place, out, words))

/* Words from `index` on, within one block. */
static void fill_block(const struct pattern *pattern, uint64_t index, uint8_t *out, size_t words)
{
    make_words(block_mix(pattern, index / BLOCK), index % BLOCK, out, words);
}

static uint64_t word_at(const struct pattern *pattern, uint64_t index)
{
    uint64_t word;
    fill_block(pattern, index, (uint8_t *)&word, 1);
    return word;
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
    while (length >= WORD) {
        size_t words = BLOCK - index % BLOCK;
        if (words > length / WORD)
            words = length / WORD;
        fill_block(pattern, index, out, words);
        index += words;
        out += words * WORD;
        length -= words * WORD;
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

void expect_apply(enum expectation expect, void *bytes, size_t length)
{
    if (expect == EXPECT_UPPER)
        ascii_to_upper(bytes, length);
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
