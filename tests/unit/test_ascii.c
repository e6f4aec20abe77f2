#include "base/ascii.h"

#include "common.h"

TEST(every_byte_at_every_place)
{
    /* Longer than what is made at a time, and not a multiple of it. */
    for (size_t before = 0; before < 40; before++) {
        uint8_t bytes[40 + 256 + 3], expected[sizeof bytes];
        for (size_t i = 0; i < sizeof bytes; i++) {
            uint8_t byte = (uint8_t)(i - before);
            bytes[i] = byte;
            expected[i] = byte >= 'a' && byte <= 'z' ? (uint8_t)(byte - 'a' + 'A') : byte;
        }
        ascii_to_upper(bytes, sizeof bytes);
        ck_assert_mem_eq(bytes, expected, sizeof bytes);
    }
}

TEST(only_so_many_bytes)
{
    char text[] = "abcd";
    ascii_to_upper(text, 0);
    ck_assert_str_eq(text, "abcd");
    ascii_to_upper(text, 2);
    ck_assert_str_eq(text, "ABcd");
}
