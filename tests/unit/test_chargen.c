#include "client/check/chargen.h"

#include "common.h"

#define PERIOD ((size_t)7030)

static void start(void)
{
    chargen_init();
}

TEST(lines)
{
    start();
    ck_assert_int_eq(memcmp(chargen_bytes(), " !\"#$%&'()*+,-./0123456789:;<=>?@", 33), 0);
    ck_assert_int_eq(memcmp(chargen_bytes() + 72, "\r\n!\"#", 5), 0);
    ck_assert_int_eq(memcmp(chargen_bytes(), chargen_bytes() + PERIOD, PERIOD), 0);
}

TEST(right)
{
    size_t phase = 0;
    start();
    for (size_t done = 0, part = 1; done + part < 200000; done += part, part = part * 3 % 5000 + 1)
        ck_assert_uint_eq(chargen_check(&phase, chargen_bytes() + done, part), part);
}

/* Some begin a line later. */
TEST(phase)
{
    start();
    size_t phase = chargen_phase('!');
    ck_assert_uint_eq(phase, 74);
    ck_assert_uint_eq(chargen_check(&phase, chargen_bytes() + 74, 10000), 10000);
    ck_assert_uint_eq(chargen_phase(' '), 0);
    ck_assert_uint_eq(chargen_phase('\n'), 0);
    ck_assert_uint_eq(chargen_phase(0xff), 0);
}

TEST(wrong)
{
    static uint8_t bytes[20000];
    size_t phase = 0;
    start();
    memcpy(bytes, chargen_bytes(), sizeof bytes);
    bytes[15000] ^= 1;
    ck_assert_uint_eq(chargen_check(&phase, bytes, sizeof bytes), 15000);
    ck_assert_uint_eq(phase, 15000 % PERIOD);
    struct fault fault = chargen_diagnose(phase, 15000, (struct span){bytes + 15000, sizeof bytes - 15000});
    ck_assert_int_eq(fault.kind, FAULT_CHANGED);
    ck_assert_uint_eq(fault.offset, 15000);
    ck_assert_uint_eq(fault.length, 1);
}

TEST(missing)
{
    size_t phase = 0;
    start();
    ck_assert_uint_eq(chargen_check(&phase, chargen_bytes(), 100), 100);
    ck_assert_uint_eq(chargen_check(&phase, chargen_bytes() + 110, 5000), 0);
    struct fault fault = chargen_diagnose(phase, 100, (struct span){chargen_bytes() + 110, 5000});
    ck_assert_int_eq(fault.kind, FAULT_MISSING);
    ck_assert_uint_eq(fault.length, 10);
}
