/* A load that has run, of which every figure is known. */
#pragma once

#include "client/bench/report.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

static struct load_plan plan;
static struct load_result result;
static struct bench_summary summary;
static char *text;

static inline void summary_set_up(void)
{
    memset(&result, 0, sizeof result);
    plan = (struct load_plan){.size = 64,
                              .connections = 10,
                              .threads = 1,
                              .duration_usec = USEC_NEVER,
                              .wait_usec = 5 * USEC_PER_SEC};
    result.messages = 1000;
    result.bytes = 64000;
    result.connected = 10;
    result.wall_nsec = 2 * NSEC_PER_SEC;
    result.cpu_nsec = 5000000;
    result.busy = 0.25;
    for (unsigned i = 0; i < 1000; i++)
        histogram_add(&result.latency, i == 999 ? 1000000000 : 42000);
    histogram_add(&result.connect, 100000);
    summary = (struct bench_summary){
        .plan = &plan, .result = &result, .peer = "127.0.0.1:7007", .elapsed_nsec = 2 * NSEC_PER_SEC};
    text = NULL;
}

static inline void summary_tear_down(void)
{
    free(text);
}

/* What `print` writes into a file, as text. */
static inline const char *printed(void (*print)(FILE *out))
{
    size_t length;
    free(text);
    FILE *out = open_memstream(&text, &length);
    ck_assert_ptr_nonnull(out);
    print(out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

static inline void expect_in(const char *whole, const char *part)
{
    ck_assert_msg(strstr(whole, part) != NULL, "'%s' is not in:\n%s", part, whole);
}

static inline void expect_not_in(const char *whole, const char *part)
{
    ck_assert_msg(strstr(whole, part) == NULL, "'%s' is in:\n%s", part, whole);
}
