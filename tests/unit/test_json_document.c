#include "client/report/json_document.h"

#include "common.h"

/* No dot in a key, and null for what there is not. */
TEST(times)
{
    static struct histogram histogram;
    char *text;
    size_t length;
    struct json json = {.out = open_memstream(&text, &length)};
    ck_assert_ptr_nonnull(json.out);
    json_open(&json, NULL, '{');
    json_times(&json, "a", &histogram);
    for (unsigned i = 0; i < 4; i++)
        histogram_add(&histogram, 10 * (i + 1));
    json_times(&json, "b", &histogram);
    json_close(&json, '}');
    ck_assert_int_eq(fclose(json.out), 0);
    ck_assert_str_eq(
        text, "{\n"
              "  \"a_count\": 0,\n"
              "  \"a_min_ns\": null,\n  \"a_mean_ns\": null,\n  \"a_p50_ns\": null,\n  \"a_p90_ns\": null,\n"
              "  \"a_p99_ns\": null,\n  \"a_p99_9_ns\": null,\n  \"a_max_ns\": null,\n"
              "  \"b_count\": 4,\n"
              "  \"b_min_ns\": 10,\n  \"b_mean_ns\": 25,\n  \"b_p50_ns\": 20,\n  \"b_p90_ns\": 40,\n"
              "  \"b_p99_ns\": 40,\n  \"b_p99_9_ns\": 40,\n  \"b_max_ns\": 40\n"
              "}\n");
    free(text);
}
