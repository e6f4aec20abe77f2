#include "base/escape.h"
#include "common.h"
#include "faults.h"

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void expect_excerpt(const char *bytes, size_t length, size_t limit, const char *expected)
{
    /* Exactly as large as promised, so that a sanitizer sees one byte too many. */
    char *out = malloc(4 * limit + 4);
    ck_assert_ptr_nonnull(out);
    ck_assert_ptr_eq(escape_excerpt(bytes, length, limit, out), out);
    ck_assert_str_eq(out, expected);
    free(out);
}

static void expect_quoted(const char *text, const char *expected)
{
    char *out = escape_quoted(text);
    ck_assert_ptr_nonnull(out);
    ck_assert_str_eq(out, expected);
    free(out);
}

TEST(excerpt_keeps_printable_ascii)
{
    expect_excerpt("Hello, world! ~", 15, 64, "Hello, world! ~");
    expect_excerpt("", 0, 64, "");
    expect_excerpt(NULL, 0, 0, "");
}

TEST(excerpt_escapes_the_rest)
{
    expect_excerpt("a\r\n\t\\\"b", 7, 64, "a\\r\\n\\t\\\\\\\"b");
    expect_excerpt("\0\x1b[2J\x7f", 6, 64, "\\x00\\x1b[2J\\x7f");
    expect_excerpt("\xc3\xa4\xff", 3, 64, "\\xc3\\xa4\\xff");
}

TEST(excerpt_says_when_it_is_one)
{
    expect_excerpt("abcdef", 6, 6, "abcdef");
    expect_excerpt("abcdef", 6, 5, "abcde...");
    expect_excerpt("\xff\xff\xff", 3, 2, "\\xff\\xff...");
    expect_excerpt("abc", 3, 0, "...");
}

TEST(quoted_reads_back)
{
    expect_quoted("", "\"\"");
    expect_quoted("hello\n", "\"hello\\n\"");
    expect_quoted("say \"hi\"\\", "\"say \\\"hi\\\"\\\\\"");
    expect_quoted("\x01\f\v\x1b[0m\x7f", "\"\\x01\\x0c\\x0b\\x1b[0m\\x7f\"");
}

TEST(quoted_keeps_utf8)
{
    expect_quoted("Grüße – 日本 🚀", "\"Grüße – 日本 🚀\"");
    /* The first and the last character of each length, and both sides of the surrogates. */
    expect_quoted("\xc2\xa0\xdf\xbf", "\"\xc2\xa0\xdf\xbf\"");
    expect_quoted("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf",
                  "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"");
    expect_quoted("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"");
}

TEST(quoted_escapes_what_is_not_utf8)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"\x80", "\"\\x80\""},                                     /* a continuation alone */
        {"\xc3", "\"\\xc3\""},                                     /* cut off */
        {"\xc3(", "\"\\xc3(\""},                                   /* what follows survives */
        {"\xe2\x82", "\"\\xe2\\x82\""},                            /* cut off later */
        {"\xe2\x82g", "\"\\xe2\\x82g\""},                          /* */
        {"\xc0\xaf", "\"\\xc0\\xaf\""},                            /* overlong */
        {"\xe0\x80\xaf", "\"\\xe0\\x80\\xaf\""},                   /* overlong */
        {"\xf0\x80\x80\xaf", "\"\\xf0\\x80\\x80\\xaf\""},          /* overlong */
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},                   /* a surrogate */
        {"\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},          /* behind U+10FFFF */
        {"\xf5\x80\x80\x80\xff", "\"\\xf5\\x80\\x80\\x80\\xff\""}, /* never in UTF-8 */
        {"\xc2\x9b", "\"\\xc2\\x9b\""},                            /* CSI, a C1 control */
        {"a\xf0\x9f\x9a", "\"a\\xf0\\x9f\\x9a\""},                 /* cut off at the end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_quoted(cases[i].text, cases[i].expected);
}

TEST(controls)
{
    char out[16];
    ck_assert_uint_eq(escape_controls("a\"\\b", out, sizeof out), 4);
    ck_assert_str_eq(out, "a\"\\b");
    ck_assert_uint_eq(escape_controls("\x1b[1m\nü\xff", out, sizeof out), 15);
    ck_assert_str_eq(out, "\\x1b[1m\\nü\\xff");
    /* Whole characters only. */
    ck_assert_uint_eq(escape_controls("abü", out, 4), 2);
    ck_assert_str_eq(out, "ab");
    ck_assert_uint_eq(escape_controls("a\x1b", out, 5), 1);
    ck_assert_uint_eq(escape_controls("a", out, 1), 0);
    ck_assert_str_eq(out, "");
}

TEST(quoted_without_memory)
{
    fault_arm("malloc", ENOMEM, 1);
    char *out = escape_quoted("text");
    fault_disarm();
    ck_assert_ptr_null(out);
}
