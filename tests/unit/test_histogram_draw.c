#include "client/report/histogram.h"

#include "common.h"

static struct histogram histogram;

static void set_up(void)
{
    memset(&histogram, 0, sizeof histogram);
}

FIXTURE(set_up, NULL)

static char *draw(unsigned width)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    ck_assert_ptr_nonnull(out);
    histogram_draw(&histogram, width, out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

static unsigned lines_of(const char *text, size_t widest)
{
    unsigned lines = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1, lines++)
        ck_assert_uint_le(strcspn(line, "\n"), widest);
    return lines;
}

TEST(drawn)
{
    for (unsigned i = 0; i < 900; i++)
        histogram_add(&histogram, 42000);
    for (unsigned i = 0; i < 450; i++)
        histogram_add(&histogram, 60000);
    histogram_add(&histogram, 1000000000);
    char *text = draw(80);
    ck_assert_ptr_nonnull(
        strstr(text, "20.0 us -  50.0 us    66.6 % |############################################\n"));
    ck_assert_ptr_nonnull(strstr(text, "50.0 us -   100 us    33.3 % |######################\n"));
    ck_assert_ptr_nonnull(strstr(text, "1.00 s -   2.00 s   0.074 % |.\n"));
    ck_assert_uint_eq(lines_of(text, 80), 15);
    free(text);
}

/* 0 %, 100 % and an empty bar are for none and all of them alone. */
TEST(shares_are_honest)
{
    for (unsigned i = 0; i < 200000; i++)
        histogram_add(&histogram, 42000);
    char *text = draw(80);
    ck_assert_ptr_nonnull(strstr(text, " 100 % |####"));
    free(text);
    histogram_add(&histogram, 4200000);
    text = draw(80);
    ck_assert_ptr_nonnull(strstr(text, " >99.9 % |####"));
    ck_assert_ptr_nonnull(strstr(text, " 0 % |\n"));
    ck_assert_ptr_nonnull(strstr(text, " <0.001 % |.\n"));
    free(text);
}

TEST(drawn_at_all_sizes)
{
    char *text = draw(80);
    ck_assert_str_eq(text, "");
    free(text);
    uint64_t random = 8;
    for (unsigned i = 0; i < 64; i++) {
        memset(&histogram, 0, sizeof histogram);
        for (unsigned j = 0; j < 100; j++)
            histogram_add(&histogram, (((uint64_t)next_random(&random) << 32) | next_random(&random)) >> i);
        text = draw(40 + i * 2);
        unsigned lines = lines_of(text, 140);
        ck_assert_uint_ge(lines, 1);
        free(text);
    }
    histogram_add(&histogram, 0);
    histogram_add(&histogram, UINT64_MAX);
    text = draw(0);
    lines_of(text, 100);
    free(text);
}

TEST(narrow_spread_has_fine_steps)
{
    uint64_t random = 8;
    for (unsigned i = 0; i < 1000; i++)
        histogram_add(&histogram, 20000 + next_random(&random) % 50000);
    char *text = draw(80);
    ck_assert_uint_ge(lines_of(text, 80), 5);
    free(text);
}

TEST(durations)
{
    static const struct {
        uint64_t nsec;
        const char *text;
    } cases[] = {
        {0, "0 ns"},
        {999, "999 ns"},
        {1000, "1.00 us"},
        {9994, "9.99 us"},
        {9995, "10.0 us"},
        {99949, "99.9 us"},
        {99951, "100 us"},
        {999499, "999 us"},
        {999500, "1.00 ms"},
        {3012000000, "3.01 s"},
        {123456789, "123 ms"},
        {3600000000000, "3600 s"},
        {UINT64_MAX, "18446744074 s"},
    };
    char text[LATENCY_TEXT_SIZE];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(latency_format(cases[i].nsec, text), cases[i].text);
}
