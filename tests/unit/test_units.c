#include "base/units.h"

#include "common.h"

struct value_case {
    const char *text;
    uint64_t value; /* UINT64_MAX: refused */
};

#define REFUSED UINT64_MAX

static void check_cases(int (*parse)(const char *, uint64_t *), const struct value_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = REFUSED;
        int r = parse(cases[i].text, &value);
        ck_assert_msg(r == (cases[i].value == REFUSED ? -EINVAL : 0) && value == cases[i].value,
                      "\"%s\" is %lu (%d), not %lu", cases[i].text, value, r, cases[i].value);
    }
}

TEST(counts)
{
    static const struct value_case cases[] = {
        {"0", 0},
        {"1", 1},
        {"007", 7},
        {"", REFUSED},
        {"-1", REFUSED},
        {"+1", REFUSED},
        {" 1", REFUSED},
        {"1 ", REFUSED},
        {"1k", REFUSED},
        {"1.0", REFUSED},
        {"x", REFUSED},
        {"18446744073709551614", UINT64_MAX - 1},
        {"1e3", REFUSED},
        {"0x10", REFUSED},
        {"18446744073709551616", REFUSED},
        {"99999999999999999999", REFUSED},
    };
    check_cases(units_parse_count, cases, COUNT_OF(cases));
}

static int parse_up_to_1024(const char *text, uint64_t *out)
{
    return units_parse_number(text, 1024, out);
}

TEST(numbers)
{
    static const struct value_case cases[] = {
        {"0", 0},
        {"9", 9},
        {"1024", 1024},
        {"1025", REFUSED},
        {"18446744073709551616", REFUSED},
        {"00", REFUSED},
        {"07", REFUSED},
        {"", REFUSED},
        {"-1", REFUSED},
        {"1k", REFUSED},
    };
    check_cases(parse_up_to_1024, cases, COUNT_OF(cases));
}

TEST(quantities)
{
    static const struct value_case cases[] = {
        {"0", 0},      {"10000", 10000},   {"10k", 10000},   {"10K", 10000},       {"1.5M", 1500000},
        {".5k", 500},  {"2G", 2000000000}, {"1.5", REFUSED}, {"1.0001k", REFUSED}, {"10ki", REFUSED},
        {"", REFUSED}, {"k", REFUSED},
    };
    check_cases(units_parse_quantity, cases, COUNT_OF(cases));
}

TEST(sizes)
{
    static const struct value_case cases[] = {
        {"64", 64},
        {"64k", 65536},
        {"64K", 65536},
        {"64KiB", 65536},
        {"1M", 1U << 20},
        {"1.5M", 1572864},
        {".5k", 512},
        {"2GiB", 1UL << 31},
        {"0.0001k", REFUSED},
        {"0k", 0},
        {"1 k", REFUSED},
        {"1kB", REFUSED},
        {"1T", REFUSED},
        {"", REFUSED},
        {"k", REFUSED},
        {"1.", REFUSED},
        {".", REFUSED},
        {".k", REFUSED},
        {"-1k", REFUSED},
        {"1..5k", REFUSED},
        {"0.5", REFUSED},
        {"1.0000000001k", REFUSED},
        {"17179869184G", REFUSED},
    };
    check_cases(units_parse_size, cases, COUNT_OF(cases));
}

TEST(durations)
{
    static const struct value_case cases[] = {
        {"10", 10000000},
        {"0.2", 200000},
        {".2", 200000},
        {".25ms", 250},
        {"0.2s", 200000},
        {"250ms", 250000},
        {"100us", 100},
        {"5m", 300000000},
        {"5min", 300000000},
        {"1h", 3600000000},
        {"1.5h", 5400000000},
        {"0.000001", 1},
        {"0.0000001", REFUSED},
        {"0.5us", REFUSED},
        {"0", 0},
        {"1.25ms", 1250},
        {"", REFUSED},
        {"s", REFUSED},
        {"1 s", REFUSED},
        {"1S", REFUSED},
        {"1d", REFUSED},
        {"5124095577h", REFUSED},
        {"1.1234567891", REFUSED},
    };
    check_cases(units_parse_duration, cases, COUNT_OF(cases));
}

TEST(durations_as_text)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {
        {0, "0 us"},        {1, "1 us"},          {1000, "1 ms"},      {1250, "1.25 ms"},
        {250000, "250 ms"}, {1000000, "1 s"},     {1500000, "1.5 s"},  {60000000, "1 min"},
        {90000000, "90 s"}, {300000000, "5 min"}, {3600000000, "1 h"}, {5400000000, "90 min"},
    };
    char text[DURATION_TEXT_SIZE];

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(units_format_duration(cases[i].usec, text), cases[i].text);
}

TEST(sizes_as_text)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 bytes"},
        {1, "1 byte"},
        {1023, "1023 bytes"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {1U << 20, "1 MiB"},
        {UINT64_C(3) << 29, "1.5 GiB"},
        {UINT64_C(1) << 40, "1 TiB"},
        {UINT64_C(1) << 50, "1024 TiB"},
    };
    char text[SIZE_TEXT_SIZE];

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(units_format_size(cases[i].bytes, text), cases[i].text);
}
