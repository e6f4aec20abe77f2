#include "client/report/json.h"

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

/* No dot in a key, and null for what there is not. */
TEST(times)
{
    static struct histogram histogram;
    json_open(&json, NULL, '{');
    json_times(&json, "a", &histogram);
    for (unsigned i = 0; i < 4; i++)
        histogram_add(&histogram, 10 * (i + 1));
    json_times(&json, "b", &histogram);
    json_close(&json, '}');
    expect("{\n"
           "  \"a_count\": 0,\n"
           "  \"a_min_ns\": null,\n  \"a_mean_ns\": null,\n  \"a_p50_ns\": null,\n  \"a_p90_ns\": null,\n"
           "  \"a_p99_ns\": null,\n  \"a_p99_9_ns\": null,\n  \"a_max_ns\": null,\n"
           "  \"b_count\": 4,\n"
           "  \"b_min_ns\": 10,\n  \"b_mean_ns\": 25,\n  \"b_p50_ns\": 20,\n  \"b_p90_ns\": 40,\n"
           "  \"b_p99_ns\": 40,\n  \"b_p99_9_ns\": 40,\n  \"b_max_ns\": 40\n"
           "}\n");
}
