#include "base/span.h"

#include "common.h"

static struct span text(const char *bytes)
{
    return (struct span){(const uint8_t *)bytes, strlen(bytes)};
}

TEST(parts)
{
    struct span span = text("hello");
    ck_assert_uint_eq(span_first(span, 3).length, 3);
    ck_assert_uint_eq(span_first(span, 5).length, 5);
    ck_assert_uint_eq(span_first(span, SIZE_MAX).length, 5);
    ck_assert_uint_eq(span_from(span, 0).length, 5);
    ck_assert_uint_eq(span_from(span, 3).length, 2);
    ck_assert_uint_eq(span_from(span, 3).bytes[0], 'l');
    ck_assert_uint_eq(span_from(span, 5).length, 0);
    ck_assert_uint_eq(span_from(span, SIZE_MAX).length, 0);
    ck_assert_ptr_eq(span_from(span, SIZE_MAX).bytes, span.bytes + 5);
}

TEST(comparisons)
{
    ck_assert_uint_eq(span_shared(text("hello"), text("help me")), 3);
    ck_assert_uint_eq(span_shared(text("hello"), text("hel")), 3);
    ck_assert_uint_eq(span_shared(text(""), text("hel")), 0);
    ck_assert_uint_eq(span_differing(text("hello"), text("jelly beans")), 2);
    ck_assert_uint_eq(span_differing(text("jelly beans"), text("hell")), 1);
    ck_assert_uint_eq(span_differing(text("hello"), text("")), 0);
}

TEST(places)
{
    static const struct {
        const char *haystack, *needle;
        int first, last; /* negative: there is none */
    } cases[] = {
        {"abcabcab", "abc", 0, 3}, {"abcabcab", "ab", 0, 6},  {"abcabcab", "cab", 2, 5},
        {"aaaaaaaa", "aa", 0, 6},  {"aaaaaaaa", "b", -1, -1}, {"abcabcab", "abcabcab", 0, 0},
        {"abc", "abcd", -1, -1},   {"", "a", -1, -1},         {"xaab", "ab", 2, 2},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t at = 0;
        bool found = span_find_first(text(cases[i].haystack), text(cases[i].needle), &at);
        ck_assert_int_eq(found ? (int)at : -1, cases[i].first);
        found = span_find_last(text(cases[i].haystack), text(cases[i].needle), &at);
        ck_assert_int_eq(found ? (int)at : -1, cases[i].last);
    }
}
