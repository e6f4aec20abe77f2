#include "base/crc32c.h"

#include "common.h"

static uint32_t of(const void *bytes, size_t length)
{
    return crc32c(0, (struct span){bytes, length});
}

/* RFC 3720, B.4, and the check value of the CRC catalogues. */
TEST(vectors)
{
    uint8_t bytes[32];
    ck_assert_uint_eq(of("", 0), 0);
    ck_assert_uint_eq(of("123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    ck_assert_uint_eq(of(bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    ck_assert_uint_eq(of(bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    ck_assert_uint_eq(of(bytes, sizeof bytes), 0x46dd794e);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(31 - i);
    ck_assert_uint_eq(of(bytes, sizeof bytes), 0x113fdb5c);
}

/* Every byte counts, as one divides bit by bit. */
TEST(each_byte)
{
    for (unsigned value = 0; value < 256; value++) {
        uint8_t byte = (uint8_t)value;
        uint32_t expected = 0xffffffff ^ value;
        for (unsigned bit = 0; bit < 8; bit++)
            expected = expected & 1 ? expected >> 1 ^ 0x82f63b78 : expected >> 1;
        ck_assert_uint_eq(of(&byte, 1), ~expected);
    }
}

TEST(pieces)
{
    static const char text[] = "123456789";
    for (size_t cut = 0; cut <= 9; cut++) {
        uint32_t crc = of(text, cut);
        ck_assert_uint_eq(crc32c(crc, (struct span){(const uint8_t *)text + cut, 9 - cut}), 0xe3069283);
    }
}
