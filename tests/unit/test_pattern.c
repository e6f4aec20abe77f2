#include "client/check/pattern.h"

#include "common.h"

#include <ctype.h>

#define STREAM 70000

static const struct {
    size_t message;
    enum expectation expect;
} kinds[] = {
    {0, EXPECT_ECHO}, {64, EXPECT_ECHO}, {1000, EXPECT_UPPER}, {7, EXPECT_UPPER}, {65536, EXPECT_ECHO}};

TEST_EACH(the_same_however_it_is_cut, kinds)
{
    static uint8_t whole[STREAM], part[STREAM];
    struct pattern pattern = pattern_make(1, 2, c->message);
    uint64_t random = 77, base = UINT64_C(0x1234567890);
    pattern_fill(&pattern, base, whole, sizeof whole);
    for (unsigned i = 0; i < 2000; i++) {
        size_t from = next_random(&random) % STREAM, length = next_random(&random) % (STREAM - from);
        pattern_fill(&pattern, base + from, part, length);
        ck_assert_mem_eq(part, whole + from, length);
        expect_apply(c->expect, part, length);
        ck_assert_uint_eq(pattern_check(&pattern, c->expect, base + from, part, length), length);
    }
}

TEST(has_every_byte_but_lf)
{
    static uint8_t bytes[STREAM];
    unsigned counts[256] = {0};
    struct pattern pattern = pattern_make(1, 2, 7); /* too short for a line */

    pattern_fill(&pattern, 0, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        counts[bytes[i]]++;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte == '\n')
            ck_assert_uint_eq(counts[byte], 0);
        else
            ck_assert_uint_gt(counts[byte], STREAM / 256 / 2);
    }
}

TEST(lf_ends_each_message)
{
    static uint8_t bytes[STREAM];
    struct pattern pattern = pattern_make(9, 9, 100);
    pattern_fill(&pattern, 50, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        ck_assert_int_eq(bytes[i] == '\n', (50 + i) % 100 == 99);
}

TEST(no_two_streams_are_alike)
{
    struct pattern patterns[] = {pattern_make(1, 2, 64), pattern_make(1, 3, 64), pattern_make(2, 2, 64)};
    uint8_t bytes[COUNT_OF(patterns)][64];
    for (size_t i = 0; i < COUNT_OF(patterns); i++)
        pattern_fill(&patterns[i], 0, bytes[i], 64);
    ck_assert_mem_ne(bytes[0], bytes[1], 8);
    ck_assert_mem_ne(bytes[0], bytes[2], 8);
    ck_assert_mem_ne(bytes[1], bytes[2], 8);
}

TEST_EACH(finds_the_wrong_byte_at_every_place, kinds)
{
    static uint8_t bytes[STREAM];
    struct pattern pattern = pattern_make(5, 6, c->message);
    pattern_answer(&pattern, c->expect, 13, bytes, sizeof bytes);
    /* Each of those at both ends and where 16 bits end, and some between. */
    for (size_t place = 0; place < sizeof bytes; place++) {
        if (place > 20 && place < sizeof bytes - 20 && (place < 65500 || place > 65600) && place % 997 != 0)
            continue;
        bytes[place] ^= 0x80;
        ck_assert_uint_eq(pattern_check(&pattern, c->expect, 13, bytes, sizeof bytes), place);
        bytes[place] ^= 0x80;
    }
    ck_assert_uint_eq(pattern_check(&pattern, c->expect, 13, bytes, 0), 0);
}

TEST(capitals_are_those_of_ascii)
{
    for (int byte = 0; byte < 256; byte++) {
        uint8_t echo = (uint8_t)byte, upper = (uint8_t)byte;
        expect_apply(EXPECT_ECHO, &echo, 1);
        expect_apply(EXPECT_UPPER, &upper, 1);
        ck_assert_int_eq(echo, byte);
        ck_assert_int_eq(upper, byte < 128 ? toupper(byte) : byte);
    }
    ck_assert_str_eq(expect_name(EXPECT_ECHO), "echo");
    ck_assert_str_eq(expect_name(EXPECT_UPPER), "upper");
}
