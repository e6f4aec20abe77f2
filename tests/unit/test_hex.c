#include "client/talk/hex.h"

#include "common.h"

/* As hexdump -C has it. */
TEST(lines)
{
    char out[4 * HEX_LINE_SIZE];
    size_t length = hex_format(0, (const uint8_t *)"0123456789abcdef\x7f\n~", 19, out);
    out[length] = '\0';
    ck_assert_str_eq(out, "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n"
                          "00000010  7f 0a 7e                                          |..~|\n");
    ck_assert_uint_eq(hex_format(0, (const uint8_t *)"", 0, out), 0);
}

TEST(far_away)
{
    char out[HEX_LINE_SIZE];
    uint8_t bytes[16] = {0};
    ck_assert_uint_le(hex_format(UINT64_MAX - 15, bytes, sizeof bytes, out), HEX_LINE_SIZE);
    ck_assert_int_eq(memcmp(out, "fffffffffffffff0  00 ", 21), 0);
}
