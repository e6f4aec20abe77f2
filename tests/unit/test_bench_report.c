#include "client/bench/report.h"

#include "base/clock.h"
#include "capture.h"
#include "faults.h"

static struct load_plan plan;
static struct load_result result;
static struct bench_summary summary;
static char *text;

static void set_up(void)
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
    summary = (struct bench_summary){.plan = &plan,
                                     .result = &result,
                                     .peer = "127.0.0.1:7007",
                                     .tried = "",
                                     .elapsed_nsec = 2 * NSEC_PER_SEC};
    text = NULL;
}

static void tear_down(void)
{
    free(text);
}

FIXTURE(set_up, tear_down)

/* What `print` writes into a file, as text. */
static const char *printed(void (*print)(FILE *out))
{
    size_t length;
    free(text);
    FILE *out = open_memstream(&text, &length);
    ck_assert_ptr_nonnull(out);
    print(out);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

static void expect_not_in(const char *whole, const char *part)
{
    ck_assert_msg(strstr(whole, part) == NULL, "'%s' is in:\n%s", part, whole);
}

static const struct terminal no_terminal = {.fd = -1};

static void for_people(FILE *out)
{
    bench_print(&summary, &no_terminal, out);
}

/* Of a terminal of the usual width. */
static const char *report_of(void)
{
    const char *report = printed(for_people);
    for (const char *line = report; *line; line += strcspn(line, "\n") + 1)
        ck_assert_msg(strcspn(line, "\n") <= 80, "too wide: %s", line);
    return report;
}

TEST(figures)
{
    const char *report = report_of();
    expect_in(report, "127.0.0.1:7007: 2.00 s\nplan         10 connections, messages of 64 bytes\n");
    expect_in(report, "messages     1000 answered, 500/s\n");
    expect_in(report, "bytes        64000 came back right, 31.25 KiB/s\n");
    expect_in(report, "     p50      p90      p99    p99.9      max\n");
    expect_in(report, "42.0 us  1.04 ms  42.1 us  42.1 us  42.1 us  42.1 us   1.00 s\n");
    expect_in(report, "connections  10\n             connect time p50 100 us, max 100 us\n");
    expect_in(report, "client CPU   5.00 us a message; busiest of 1 thread: busy 25 % of the time\n");
    expect_in(report, "99.9 % |####");
    expect_not_in(report, "client-limited");
    expect_not_in(report, "schedule");
    expect_not_in(report, "waiting for a CPU");
    expect_not_in(report, "\x1b");
}

TEST(width)
{
    plan.connections = result.connected = result.unconnected = result.broken = result.wrong = 1000000;
    result.unended = result.unanswered = 10000000;
    result.messages = UINT32_MAX;
    result.bytes = UINT64_MAX;
    plan.rate = 100000000;
    plan.size = (UINT64_C(1) << 30) - 1;
    plan.threads = 1024;
    histogram_add(&result.lag, 100000 * NSEC_PER_SEC);
    histogram_add(&result.latency, UINT64_MAX / 2);
    result.queued_nsec = result.cpu_nsec = 100000 * NSEC_PER_SEC;
    result.unsent = UINT32_MAX;
    summary.peer = "[fe80::cccc:dddd:eeee:ffff%an-interface-15]:65535";
    summary.tried = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535: Cannot assign requested address, "
                    "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe]:65535: no answer in 250 ms";
    summary.interrupted = true;
    report_of();
}

TEST(nothing_answered)
{
    result = (struct load_result){.connected = 10, .wrong = 10};
    summary.elapsed_nsec = 0;
    summary.interrupted = true;
    const char *report = report_of();
    expect_in(report, "0.00 s, interrupted\n");
    expect_in(report, "messages     0 answered, 0/s\n");
    expect_in(report, "10, 10 with wrong bytes\n");
    expect_not_in(report, "latency");
    expect_in(report, "client CPU   busiest of 1 thread: busy 0 % of the time\n");
    expect_not_in(report, "|");
}

/* No word of latencies that there are not. */
TEST(nothing_answered_on_a_schedule)
{
    result = (struct load_result){
        .connected = 10, .unanswered = 1000, .wall_nsec = NSEC_PER_SEC, .queued_nsec = NSEC_PER_SEC / 2};
    plan.rate = 500;
    histogram_add(&result.lag, 5000000);
    const char *report = report_of();
    expect_in(report, "client CPU   busiest of 1 thread: busy 0 % of the time\n"
                      "             of which 0.50 s were spent waiting for a CPU that others used\n"
                      "schedule     sent late by p99 5.00 ms, max 5.00 ms\n");
    expect_in(report, "client-limited: tcpecho was late for its own schedule.\nUse more");
    expect_not_in(report, "latenc");
    result.unsent = 3;
    report = report_of();
    expect_in(report, "\n             3 not sent in time\n");
    expect_in(report, "client-limited: tcpecho could not send all that was due.\nUse");
    expect_not_in(report, "latenc");
    expect_not_in(report, "percentiles");
}

TEST(what_went_wrong)
{
    result.unanswered = 3;
    result.unconnected = 4;
    result.broken = 5;
    result.unended = 6;
    const char *report = report_of();
    expect_in(report, "1000 answered, 500/s, 3 not answered\n");
    expect_in(report, "10, 4 failed, 5 broken\n             6 not closed by the server\n");
}

TEST(schedule)
{
    plan.rate = 500;
    histogram_add(&result.lag, 20000);
    const char *report = report_of();
    expect_in(report, "messages of 64 bytes\n             500 a second on a schedule\n");
    expect_in(report, "schedule     sent late by p99 20.0 us, max 20.0 us; the latencies include it\n");
}

TEST(clean)
{
    uint64_t *counts[] = {&result.unconnected, &result.broken, &result.wrong, &result.unanswered};
    ck_assert(bench_is_clean(&result));
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        *counts[i] = 1;
        ck_assert(!bench_is_clean(&result));
        *counts[i] = 0;
    }
    result.unended = 1; /* the server may keep its side open */
    ck_assert(bench_is_clean(&result));
    result.messages = 0;
    ck_assert(!bench_is_clean(&result));
}

/* Nobody shall mistake the client's limit for the server's. */
TEST(limited_by_the_client)
{
    ck_assert(!bench_is_client_limited(&result));
    result.busy = 0.95;
    ck_assert(bench_is_client_limited(&result));
    expect_in(report_of(), "client-limited: tcpecho was busy nearly all the time");
    result.queued_nsec = NSEC_PER_SEC;
    expect_in(report_of(), "client-limited: tcpecho waited for a CPU most of the time");
    expect_in(text, "of which 1.00 s were spent waiting for a CPU that others used\n");
    result.wall_nsec = NSEC_PER_SEC / 20; /* too short to tell */
    ck_assert(!bench_is_client_limited(&result));
}

TEST(late_for_its_own_schedule)
{
    plan.rate = 500;
    for (unsigned i = 0; i < 100; i++)
        histogram_add(&result.lag, 5000000);
    ck_assert(bench_is_client_limited(&result));
    expect_in(report_of(), "client-limited: tcpecho was late for its own schedule");
    /* A server that takes seconds is not excused by 5 ms. */
    for (unsigned i = 0; i < 100; i++)
        histogram_add(&result.latency, 1000000000);
    ck_assert(!bench_is_client_limited(&result));
}

/* Never to have come to a message is worse than to be late, however short the run. */
TEST(not_sent_in_time)
{
    plan.rate = 500;
    histogram_add(&result.lag, 1000);
    result.wall_nsec = 1;
    ck_assert(!bench_is_client_limited(&result));
    result.unsent = 3;
    ck_assert(bench_is_client_limited(&result));
    ck_assert(bench_is_clean(&result)); /* it is not the server's fault */
    expect_in(report_of(), "\n             3 not sent in time, and not in the percentiles\n");
    expect_in(text, "client-limited: tcpecho could not send all that was due");
}

static const char *errors(void)
{
    capture(LOG_LEVEL_DEBUG);
    bench_print_errors(&summary);
    return written();
}

TEST(errors_one_line_each)
{
    ck_assert_str_eq(errors(), "");
    result.unconnected = 2;
    result.connect_error = EADDRNOTAVAIL;
    result.broken = 1;
    result.break_error = ECONNRESET;
    result.unanswered = 1;
    result.fault_count = 1;
    result.faults[0] = (struct load_fault){
        7, {.kind = FAULT_MISSING, .offset = 52428800, .length = 3, .got = 0x41, .wanted = 0x61}};
    const char *lines = errors();
    expect_in(
        lines,
        "tcpecho: 2 of 10 connections could not be made (the first: Cannot assign requested address; every "
        "local port is taken: -I ADDRESS,... or net.ipv4.ip_local_port_range gives more)\n");
    expect_in(lines, "tcpecho: 1 connection broke (the first: Connection reset by peer)\n");
    expect_in(lines, "tcpecho: connection 7, byte 52428800: 3 bytes missing (0x41, not 0x61)\n");
    expect_in(lines, "tcpecho: 1 message had no answer");
    expect_not_in(lines, "not one message");
}

/* Of every kind, on a terminal of the usual width. */
TEST(wrong_bytes_are_told_in_one_row)
{
    for (enum fault_kind kind = FAULT_CHANGED; kind <= FAULT_SURPLUS; kind++) {
        result.fault_count = 1;
        result.faults[0] = (struct load_fault){
            9, {.kind = kind, .offset = 99999, .length = 4096, .got = 0x41, .wanted = 0x61}};
        const char *line = errors();
        ck_assert_msg(strlen(line) <= 81, "too wide: %s", line);
    }
}

TEST(error_of_nothing)
{
    result.messages = 0;
    ck_assert_str_eq(errors(), "tcpecho: not one message was answered\n");
    result.broken = 2;
    expect_in(errors(), "2 connections broke (the first: closed by the server)\n");
}

/* ---- for programs ---- */

static void for_programs(FILE *out)
{
    bench_print_json(&summary, out);
}

static void expect_figures(const char *const *parts, size_t count)
{
    const char *document = printed(for_programs);
    for (size_t i = 0; i < count; i++)
        expect_in(document, parts[i]);
    expect_not_in(document, " nan");
    expect_not_in(document, " inf");
}
#define EXPECT_FIGURES(...)                                                                                  \
    expect_figures((const char *const[]){__VA_ARGS__}, COUNT_OF(((const char *const[]){__VA_ARGS__})))

TEST(json)
{
    EXPECT_FIGURES("{\n  \"tcpecho\": \"", "\n  \"mode\": \"bench\",\n  \"server\": \"127.0.0.1:7007\",\n",
                   "\"message_bytes\": 64", "\"elapsed_s\": 2,", "\"messages_per_second\": 500,",
                   "\"bytes_per_second\": 32000,", "\"latency_p99_9_ns\": 42",
                   "\"latency_max_ns\": 1000000000,", "\"clean\": true",
                   "\"client_cpu_per_message_ns\": 5000,", "\"faults\": [],\n");
    expect_not_in(text, "\"late_");
    expect_not_in(text, "\"duration_s\"");
    expect_not_in(text, "_error");
}

/* Every message is in the histogram, and in the bucket of its time. */
TEST(json_histogram)
{
    static const unsigned long wanted[][2] = {{42000, 999}, {1000000000, 1}};
    const char *rows = strstr(printed(for_programs), "\"latency_histogram_ns\": [");
    unsigned long from, below, count;
    ck_assert_ptr_nonnull(rows);
    rows = strchr(rows, '[') + 1;
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        ck_assert_int_eq(sscanf(rows, " [%lu, %lu, %lu]", &from, &below, &count), 3);
        ck_assert(from <= wanted[i][0] && wanted[i][0] < below && count == wanted[i][1]);
        rows = strchr(rows, ']') + 2;
    }
}

TEST(json_of_a_schedule)
{
    plan.rate = 500;
    plan.count = 1000;
    plan.duration_usec = 2500 * USEC_PER_MSEC;
    plan.expect = EXPECT_UPPER;
    histogram_add(&result.lag, 7);
    EXPECT_FIGURES("\"expect\": \"upper\"", "    \"messages\": 1000,\n    \"messages_per_second\": 500,\n",
                   "    \"duration_s\": 2.5\n", "  \"late_count\": 1,\n");
}

TEST(json_of_mistakes)
{
    result.unconnected = 1;
    result.connect_error = ECONNREFUSED;
    result.broken = 2;
    result.wrong = 1;
    result.fault_count = 1;
    result.faults[0] = (struct load_fault){3, {.kind = FAULT_CUT, .offset = 640, .length = 64}};
    EXPECT_FIGURES("\"clean\": false", "\"connect_error\": \"Connection refused\"",
                   "\"break_error\": \"closed by the server\"", "\"kind\": \"cut\"", "\"offset_bytes\": 640");
}

/* No division by nothing, which JSON has no word for. */
TEST(json_of_nothing)
{
    memset(&result, 0, sizeof result);
    summary.elapsed_nsec = 0;
    EXPECT_FIGURES("\"messages_per_second\": 0,", "\"latency_p50_ns\": null,");
    expect_not_in(text, "client_cpu_per_message");
}
