#include "daemon/settings_lex.h"

#include "common.h"

/* The first token of a text, which must be as long as `token`. */
static enum token first(const char *text, size_t *length)
{
    return lex_next(text, 0, length);
}

START_TEST(tokens_are_as_long_as_flex_makes_them)
{
    static const struct {
        const char *text, *token;
        enum token kind;
    } cases[] = {
        {"", "", TOKEN_END},
        {"\n\n", "\n", TOKEN_BLANK},
        {" \t x\n", " \t ", TOKEN_BLANK},
        {"name-1_*=\n", "name-1_*", TOKEN_NAME},
        {"TRUE;\n", "TRUE", TOKEN_BOOLEAN},
        {"trueish\n", "trueish", TOKEN_NAME},
        {"007abc\n", "007", TOKEN_INTEGER},
        {"-5LLL\n", "-5LL", TOKEN_INTEGER},
        {"0x1fL\n", "0x1fL", TOKEN_INTEGER},
        {"0xg\n", "0", TOKEN_INTEGER},
        {"-0x1\n", "-0", TOKEN_INTEGER},
        {"1.5e3x\n", "1.5e3", TOKEN_FLOAT},
        {"1e\n", "1", TOKEN_INTEGER},
        {"1.e-x\n", "1.", TOKEN_FLOAT},
        {".\n", ".", TOKEN_FLOAT},
        {"+\n", "+", TOKEN_GARBAGE},
        {"\"a\\\"b\\\\\"c\n", "\"a\\\"b\\\\\"", TOKEN_STRING},
        {"\"a\n", "\"a\n", TOKEN_UNCLOSED_STRING},
        {"# x /*\ny\n", "# x /*", TOKEN_COMMENT},
        {"// x\n", "// x", TOKEN_COMMENT},
        {"/* x\n*/ y\n", "/* x\n*/", TOKEN_COMMENT},
        {"/*/ x\n", "/*/ x\n", TOKEN_UNCLOSED_COMMENT},
        {"/ x\n", "/", TOKEN_GARBAGE},
        {" @include \"x\" y\n", " @include \"x\"", TOKEN_INCLUDE},
        {"@include \"x\n", "@include \"x\n", TOKEN_INCLUDE},
        {"@include\"x\"\n", "@", TOKEN_GARBAGE},
        {"[\n", "[", TOKEN_OPEN},
        {"}\n", "}", TOKEN_CLOSE},
        {":\n", ":", TOKEN_EQUALS},
        {",\n", ",", TOKEN_COMMA},
        {";\n", ";", TOKEN_SEMICOLON},
        {"\v\n", "\v", TOKEN_GARBAGE},
        {"\xc3\xa4\n", "\xc3", TOKEN_GARBAGE},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t length;

        ck_assert_msg(first(cases[i].text, &length) == cases[i].kind, "%s", cases[i].text);
        ck_assert_msg(length == strlen(cases[i].token), "%s", cases[i].text);
    }
}
END_TEST

START_TEST(an_include_counts_at_the_start_of_a_line_only)
{
    size_t end;

    ck_assert_int_eq(lex_next("x @include \"y\"\n", 1, &end), TOKEN_BLANK);
    ck_assert_int_eq(lex_next("x\n\t@include \"y\"\n", 2, &end), TOKEN_INCLUDE);
}
END_TEST

START_TEST(numbers_that_libconfig_would_not_read_as_written)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "+0",
                                       "2147483647",
                                       "-2147483648",
                                       "5L",
                                       "9223372036854775807L",
                                       "-9223372036854775808LL",
                                       "0x7fffffff",
                                       "0x0010",
                                       "0x7fffffffffffffffL"};
    static const char *const bad[] = {"00",
                                      "-01",
                                      "+08",
                                      "2147483648",
                                      "-2147483649",
                                      "9223372036854775808L",
                                      "-9223372036854775809LL",
                                      "0x80000000",
                                      "0x8000000000000000L",
                                      "99999999999999999999999",
                                      "007L"};
    static const char *const good_floats[] = {"0.5", ".5", "5.", "1e09", "-0.0", "0e0", "10.0"};
    static const char *const bad_floats[] = {".", "-.", ".e5", "00.5", "-01.5"};

    for (size_t i = 0; i < COUNT_OF(good); i++)
        ck_assert_msg(!lex_number_fault(good[i], strlen(good[i]), TOKEN_INTEGER), "%s", good[i]);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        ck_assert_msg(lex_number_fault(bad[i], strlen(bad[i]), TOKEN_INTEGER) != NULL, "%s", bad[i]);
    for (size_t i = 0; i < COUNT_OF(good_floats); i++)
        ck_assert_msg(!lex_number_fault(good_floats[i], strlen(good_floats[i]), TOKEN_FLOAT), "%s",
                      good_floats[i]);
    for (size_t i = 0; i < COUNT_OF(bad_floats); i++)
        ck_assert_msg(lex_number_fault(bad_floats[i], strlen(bad_floats[i]), TOKEN_FLOAT) != NULL, "%s",
                      bad_floats[i]);
}
END_TEST

START_TEST(escaped_nuls)
{
    static const char *const with[] = {"\"\\x00\"", "\"a\\X00b\"", "\"\\\\\\x00\"", "\"\\\"\\x00\""};
    static const char *const without[] = {"\"\"",    "\"\\\\x00\"", "\"\\x01\"",
                                          "\"x00\"", "\"\\x0\"",    "\"\\0\""};

    for (size_t i = 0; i < COUNT_OF(with); i++)
        ck_assert_msg(lex_escaped_nul(with[i], strlen(with[i])) != NULL, "%s", with[i]);
    for (size_t i = 0; i < COUNT_OF(without); i++)
        ck_assert_msg(!lex_escaped_nul(without[i], strlen(without[i])), "%s", without[i]);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("settings_lex");

    tcase_add_test(tests, tokens_are_as_long_as_flex_makes_them);
    tcase_add_test(tests, an_include_counts_at_the_start_of_a_line_only);
    tcase_add_test(tests, numbers_that_libconfig_would_not_read_as_written);
    tcase_add_test(tests, escaped_nuls);
    return run_case(tests);
}
