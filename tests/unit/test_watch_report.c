#include "client/watch/programs.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"

static const struct terminal no_terminal = {.fd = -1};
static struct watch_side steady, newcomers;
static struct watch_summary summary;
static struct chart chart;
static char *text;

static void set_up(void)
{
    memset(&steady, 0, sizeof steady);
    memset(&newcomers, 0, sizeof newcomers);
    steady.name = "steady client";
    newcomers.name = "new connections";
    steady.begun = steady.answered = 100;
    newcomers.begun = newcomers.answered = 99;
    histogram_add(&steady.latency, 1000);
    histogram_add(&newcomers.latency, 2000);
    summary = (struct watch_summary){
        .peer = "[::1]:7007",
        .tried = "",
        .interval_usec = 20 * USEC_PER_MSEC,
        .allowed_usec = USEC_PER_SEC,
        .start_nsec = clock_monotonic_nsec() - 2 * NSEC_PER_SEC,
        .elapsed_nsec = 2 * NSEC_PER_SEC,
        .steady = &steady,
        .newcomers = &newcomers,
        .chart = &chart,
    };
    chart_init(&chart, summary.start_nsec);
    chart_mark(&chart, summary.start_nsec, CELL_GOOD);
    chart_mark(&chart, summary.start_nsec + NSEC_PER_SEC, CELL_GAP);
    text = NULL;
}

static void tear_down(void)
{
    free(text);
}

FIXTURE(set_up, tear_down)

static void print(bool as_json)
{
    size_t length;
    free(text);
    FILE *out = open_memstream(&text, &length);
    ck_assert_ptr_nonnull(out);
    if (as_json)
        watch_print_json(&summary, watch_is_clean(&summary) ? 0 : 1, out);
    else
        watch_print(&summary, &no_terminal, out);
    ck_assert_int_eq(fclose(out), 0);
}

static void expect(const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "'%s' is not in:\n%s", part, text);
}

TEST(no_outage)
{
    ck_assert(watch_is_clean(&summary));
    print(false);
    expect("[::1]:7007: watched for 2.00 s\na message and a new connection every 20 ms\n");
    expect("\nlongest gap                   0 ns\nslowest single client         0 ns\n");
    expect("\ngaps over 1 s                 0\n");
    expect("\nconnections refused           0\n");
    expect("steady client: 100 messages, 100 answered\n  latency p50 1.00 us, p99 1.00 us, max 1.00 us\n");
    expect("new connections: 99 begun, 99 answered\n");
    expect(
        "\nthe whole of the watch, a cell a second: . served, - slow, # gap, x failure\n|.#|\n\nno outage\n");
    ck_assert_ptr_null(strchr(text, '\x1b'));
}

/* Each by itself is an outage. */
TEST(outages)
{
    struct watch_side *sides[] = {&steady, &newcomers};
    for (size_t i = 0; i < COUNT_OF(sides); i++) {
        for (enum connection_end end = CONNECTION_UNCONNECTED; end < CONNECTION_GIVEN_UP; end++) {
            sides[i]->ends[end] = 1;
            ck_assert(!watch_is_clean(&summary));
            sides[i]->ends[end] = 0;
        }
        sides[i]->gap.over = 1;
        ck_assert(!watch_is_clean(&summary));
        sides[i]->gap.over = 0;
    }
    newcomers.ends[CONNECTION_SERVED] = 99;
    ck_assert(watch_is_clean(&summary));
    steady.answered = 0;
    ck_assert(!watch_is_clean(&summary));
    summary.reader_gone = true; /* perhaps before there could be an answer */
    ck_assert(watch_is_clean(&summary));
    newcomers.ends[CONNECTION_BROKEN] = 1;
    ck_assert(!watch_is_clean(&summary));
}

/* What the client is short of is no outage, but it could not see one. */
TEST(could_not_look)
{
    newcomers.not_begun[NOT_BEGUN_LATE] = newcomers.not_begun[NOT_BEGUN_FULL] = 1;
    ck_assert(watch_is_clean(&summary));
    newcomers.not_begun[NOT_BEGUN_SHORT] = 1;
    newcomers.short_error = EMFILE;
    ck_assert(!watch_has_outage(&summary));
    ck_assert(!watch_is_clean(&summary));
    print(false);
    expect("  1 not begun: Too many open files\n");
    expect("\nno outage seen, but tcpecho could not begin all that was due\n");
}

static void have_an_outage(void)
{
    steady.gap = (struct gap){
        .longest_nsec = NSEC_PER_SEC / 10, .longest_at_nsec = summary.start_nsec + NSEC_PER_SEC, .over = 0};
    newcomers.gap = (struct gap){.longest_nsec = 3 * NSEC_PER_SEC / 2,
                                 .longest_at_nsec = summary.start_nsec + NSEC_PER_SEC / 4,
                                 .over = 1};
    steady.ends[CONNECTION_BROKEN] = 1;
    steady.break_error = ECONNRESET;
    newcomers.ends[CONNECTION_UNCONNECTED] = 7;
    newcomers.connect_error = ECONNREFUSED;
    newcomers.ends[CONNECTION_WRONG] = 2;
    newcomers.wrong_bytes = 5;
    newcomers.not_begun[NOT_BEGUN_FULL] = 4;
    steady.not_begun[NOT_BEGUN_LATE] = 8;
    newcomers.not_begun[NOT_BEGUN_SHORT] = 9;
    newcomers.short_error = EADDRNOTAVAIL;
    summary.late_nsec = 3000000;
}

TEST(what_a_load_balancer_engineer_wants_to_know)
{
    have_an_outage();
    print(false);
    expect("\nlongest gap                   1.50 s (new connections)\n  at ");
    expect(", 0.25 s into the watch\n");
    expect("\ngaps over 1 s                 1\n");
    expect("\nconnections broken            1\n");
    expect("\nconnections refused           7\n");
    expect("\nconnections with wrong bytes  2\n");
    expect("\nbytes wrong                   5\n");
    expect("\ntcpecho itself late by        3.00 ms at most\n");
    expect("  longest gap 100 ms, at ");
    expect("  last refusal: Connection refused\n");
    expect("  last break: Connection reset by peer\n");
    expect("  8 not begun: tcpecho itself was late\n");
    expect("  4 not begun: too many were under way\n");
    expect("  9 not begun: Cannot assign requested address; every local port is taken\n");
    expect("\noutage\n");
}

/* Nothing is told as longer than the watch, whatever is rounded. */
TEST(never_longer_than_the_watch)
{
    summary.elapsed_nsec = 10084 * NSEC_PER_SEC / 1000;
    steady.gap = (struct gap){.longest_nsec = 10083 * NSEC_PER_SEC / 1000,
                              .longest_at_nsec = summary.start_nsec + NSEC_PER_SEC / 1000};
    newcomers.slowest_nsec = 9999 * NSEC_PER_SEC / 1000;
    newcomers.slowest_at_nsec = summary.start_nsec + 9 * NSEC_PER_SEC / 1000;
    print(false);
    expect("watched for 10.09 s\n");
    expect("longest gap                   10.0 s (steady client)\n");
    expect(", 0.00 s into the watch\n");
    expect("slowest single client         9.99 s (new connections)\n");
}

/* Of a terminal of 80 columns, with the longest of addresses and large numbers. */
TEST(width)
{
    have_an_outage();
    summary.peer = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535";
    summary.start_nsec = 1;
    summary.elapsed_nsec = 9999999 * NSEC_PER_SEC;
    steady.begun = steady.answered = newcomers.begun = newcomers.answered = UINT32_MAX;
    steady.slowest_nsec = NSEC_PER_SEC;
    steady.slowest_at_nsec = newcomers.gap.longest_at_nsec = 9999999 * NSEC_PER_SEC;
    for (size_t i = 0; i < CONNECTION_ENDS; i++)
        newcomers.ends[i] = 9999999;
    for (unsigned i = 0; i < 100; i++)
        chart_mark(&chart, summary.start_nsec + i * NSEC_PER_SEC, CELL_GOOD);
    print(false);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        ck_assert_msg(strcspn(line, "\n") <= 80, "too wide: %.*s", (int)strcspn(line, "\n"), line);
}

TEST(for_programs)
{
    have_an_outage();
    print(true);
    expect("  \"mode\": \"watch\",\n  \"server\": \"[::1]:7007\",\n");
    expect("  \"clean\": false,\n  \"exit_status\": 1,\n  \"longest_gap_s\": 1.5,\n  "
           "\"longest_gap_into_watch_s\": 0.25,\n");
    expect("  \"refused\": 7,\n");
    expect("  \"wrong_bytes\": 5,\n  \"late_s\": 0.003,\n");
    expect(
        "  \"steady_client\": {\n    \"begun\": 100,\n    \"answered\": 100,\n    \"not_begun_late\": 8,\n");
    expect("    \"not_begun_full\": 4,\n    \"not_begun_short\": 9,\n"
           "    \"short_error\": \"Cannot assign requested address\",\n");
    expect("\"break_error\": \"Connection reset by peer\",\n");
    expect("\"connect_error\": \"Connection refused\",\n");
    expect("    \"latency_p99_9_ns\": 2000,\n    \"latency_max_ns\": 2000\n  }\n}\n");
}

TEST(time_of_day)
{
    char at[CLOCK_TEXT_SIZE];
    unsigned year, month, day, hour, minute, second, msec;
    char end;
    ck_assert_ptr_eq(clock_format(clock_monotonic_nsec(), at), at);
    ck_assert_int_eq(sscanf(at, "%4u-%2u-%2u %2u:%2u:%2u.%3u%c", &year, &month, &day, &hour, &minute, &second,
                            &msec, &end),
                     7);
    ck_assert_uint_ge(year, 2020);
    ck_assert_uint_le(hour, 23);
    ck_assert_uint_le(minute, 59);
    ck_assert_uint_le(second, 60);
    fault_arm("localtime_r", EOVERFLOW, 0);
    clock_format(clock_monotonic_nsec(), at);
    fault_disarm();
    ck_assert_mem_eq(at, "1900-01-00 00:00:00.", 20);
}
