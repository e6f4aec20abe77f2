#include "bench_summary.h"

static void for_programs(FILE *out)
{
    bench_print_json(&summary, out);
}

START_TEST(figures_with_units)
{
    const char *document = printed(for_programs);
    expect_in(document, "{\n  \"tcpecho\": \"");
    expect_in(document, "\n  \"mode\": \"bench\",\n  \"server\": \"127.0.0.1:7007\",\n");
    expect_in(document, "\"size\": {\"value\": 64, \"unit\": \"bytes\"}");
    expect_in(document, "\"elapsed\": {\"value\": 2, \"unit\": \"s\"}");
    expect_in(document, "\"messages_per_second\": {\"value\": 500, \"unit\": \"messages/s\"}");
    expect_in(document, "\"bytes_per_second\": {\"value\": 32000, \"unit\": \"bytes/s\"}");
    expect_in(document, "\"p99.9\": {\"value\": 42");
    expect_in(document, "\"max\": {\"value\": 1000000000, \"unit\": \"ns\"}");
    expect_in(document, "\"clean\": true");
    expect_in(document, "\"cpu_per_message\": {\"value\": 5000, \"unit\": \"ns\"}");
    expect_in(document, "\"faults\": [],\n");
    expect_not_in(document, "\"late\"");
    expect_not_in(document, "\"rate\"");
    expect_not_in(document, "\"duration\"");
    expect_not_in(document, "_error");
}
END_TEST

/* Every message is in the histogram, and in the bucket of its time. */
START_TEST(histogram)
{
    const char *rows = strstr(printed(for_programs), "\"rows\": [\n");
    unsigned long from, below, count;

    ck_assert_ptr_nonnull(rows);
    ck_assert_int_eq(sscanf(rows, "\"rows\": [ [%lu, %lu, %lu],", &from, &below, &count), 3);
    ck_assert_uint_le(from, 42000);
    ck_assert_uint_gt(below, 42000);
    ck_assert_uint_eq(count, 999);
    rows = strchr(rows, ']') + 2;
    ck_assert_int_eq(sscanf(rows, " [%lu, %lu, %lu]", &from, &below, &count), 3);
    ck_assert_uint_le(from, 1000000000);
    ck_assert_uint_gt(below, 1000000000);
    ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(plan_of_a_schedule)
{
    plan.rate = 500;
    plan.count = 1000;
    plan.duration_usec = 2500 * USEC_PER_MSEC;
    plan.expect = EXPECT_UPPER;
    histogram_add(&result.lag, 7);
    const char *document = printed(for_programs);
    expect_in(document, "\"expect\": \"upper\"");
    expect_in(document, "\"rate\": {\"value\": 500, \"unit\": \"messages/s\"}");
    expect_in(document, "\"count\": {\"value\": 1000, \"unit\": \"messages\"}");
    expect_in(document, "\"duration\": {\"value\": 2.5, \"unit\": \"s\"}");
    expect_in(document, "\"late\": {\n    \"count\": {\"value\": 1, \"unit\": \"1\"}");
}
END_TEST

START_TEST(mistakes)
{
    result.unconnected = 1;
    result.connect_error = ECONNREFUSED;
    result.broken = 2;
    result.wrong = 1;
    result.fault_count = 1;
    result.faults[0] = (struct load_fault){3, {.kind = FAULT_CUT, .offset = 640, .length = 64}};
    const char *document = printed(for_programs);
    expect_in(document, "\"clean\": false");
    expect_in(document, "\"connect_error\": \"Connection refused\"");
    expect_in(document, "\"break_error\": \"closed by the server\"");
    expect_in(document, "\"kind\": \"cut\"");
    expect_in(document, "\"offset\": {\"value\": 640, \"unit\": \"bytes\"}");
}
END_TEST

/* No division by nothing, which JSON has no word for. */
START_TEST(nothing)
{
    memset(&result, 0, sizeof result);
    summary.elapsed_nsec = 0;
    const char *document = printed(for_programs);
    expect_in(document, "\"messages_per_second\": {\"value\": 0,");
    expect_not_in(document, "cpu_per_message");
    expect_not_in(document, " nan");
    expect_not_in(document, " inf");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("bench_json");
    tcase_add_checked_fixture(tests, summary_set_up, summary_tear_down);
    tcase_add_test(tests, figures_with_units);
    tcase_add_test(tests, histogram);
    tcase_add_test(tests, plan_of_a_schedule);
    tcase_add_test(tests, mistakes);
    tcase_add_test(tests, nothing);
    return run_case(tests);
}
