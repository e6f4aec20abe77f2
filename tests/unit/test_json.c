#include "base/json.h"

#include "common.h"

static char *text;
static size_t length;
static struct json json;

static void set_up(void)
{
    json = (struct json){.out = open_memstream(&text, &length)};
    ck_assert_ptr_nonnull(json.out);
}

static void tear_down(void)
{
    free(text);
}

FIXTURE(set_up, tear_down)

static void expect(const char *wanted)
{
    ck_assert_int_eq(fclose(json.out), 0);
    ck_assert_str_eq(text, wanted);
}

TEST(document)
{
    json_open(&json, NULL, '{');
    json_text(&json, "name", "x");
    json_bool(&json, "yes", true);
    json_open(&json, "inner", '{');
    json_count(&json, "n_ns", UINT64_MAX);
    json_close(&json, '}');
    json_open(&json, "list", '[');
    json_row(&json, (const uint64_t[]){1, 2, 3}, 3);
    json_row(&json, NULL, 0);
    json_close(&json, ']');
    json_close(&json, '}');
    expect("{\n"
           "  \"name\": \"x\",\n"
           "  \"yes\": true,\n"
           "  \"inner\": {\n"
           "    \"n_ns\": 18446744073709551615\n"
           "  },\n"
           "  \"list\": [\n"
           "    [1, 2, 3],\n"
           "    []\n"
           "  ]\n"
           "}\n");
}

TEST(empty_ones)
{
    json_open(&json, NULL, '{');
    json_open(&json, "a", '{');
    json_close(&json, '}');
    json_open(&json, "b", '[');
    json_close(&json, ']');
    json_close(&json, '}');
    expect("{\n  \"a\": {},\n  \"b\": []\n}\n");
}

TEST(text_of_strangers)
{
    json_text(&json, NULL, "\"\\\n\x1b\x7f \xc3\xa9 \xc3 \xff \xe2\x82");
    expect("\"\\\"\\\\\\u000a\\u001b\\u007f \xc3\xa9 \\ufffd \\ufffd \\ufffd\\ufffd\"");
}

TEST(numbers)
{
    json_number(&json, NULL, 0.1);
    json_text(&json, NULL, "");
    json_number(&json, NULL, 1e12);
    expect("0.1\"\"1e+12");
}

TEST(bytes_of_strangers)
{
    /* No look beyond the end, where the rest of a character stands. */
    json_bytes(&json, NULL, (struct span){(const uint8_t *)"a\0\xe2\x82\xac\xe2\x82\xac", 7});
    json_bytes(&json, NULL, (struct span){NULL, 0});
    expect("\"a\\u0000\xe2\x82\xac\\ufffd\\ufffd\"\"\"");
}

static const struct {
    struct span text;
    bool is_exact;
} exact[] = {
    {{NULL, 0}, true},
    {{(const uint8_t *)"\"\\\n\0\x7f \xc3\xa9 \xf0\x9f\x98\x80", 13}, true},
    {{(const uint8_t *)"a\xff", 2}, false},
    {{(const uint8_t *)"\xe2\x82\xac", 2}, false}, /* no look beyond the end */
    {{(const uint8_t *)"\xc2\x9b", 2}, false},     /* a C1 control character */
};

TEST_EACH(exact_is_what_has_no_replacement, exact)
{
    ck_assert(json_is_exact(c->text) == c->is_exact);
    json_bytes(&json, NULL, c->text);
    ck_assert_int_eq(fclose(json.out), 0);
    ck_assert(!strstr(text, "\\ufffd") == c->is_exact);
}

TEST(one_line)
{
    json.one_line = true;
    json_open(&json, NULL, '{');
    json_text(&json, "name", "x");
    json_open(&json, "list", '[');
    json_null(&json, NULL);
    json_bool(&json, NULL, false);
    json_close(&json, ']');
    json_open(&json, "none", '{');
    json_close(&json, '}');
    json_close(&json, '}');
    expect("{\"name\": \"x\", \"list\": [null, false], \"none\": {}}");
}
