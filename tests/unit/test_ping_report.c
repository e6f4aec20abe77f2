#include "client/ping/report.h"

#include "base/clock.h"
#include "common.h"

#include <errno.h>

static char text[16384];
static struct ping_report report;

static void open_text(void)
{
    report = (struct ping_report){.terminal.fd = -1, .size = 64};
    report.out = fmemopen(text, sizeof text, "w");
    ck_assert_ptr_nonnull(report.out);
}

static void expect_text_is(const char *wanted)
{
    fclose(report.out);
    ck_assert_str_eq(text, wanted);
}

static void print_line(enum ping_line_kind kind, uint64_t usec, int error)
{
    const struct ping_line line = {
        .kind = kind, .peer = "[::1]:7", .number = 7, .usec = usec, .error = error};
    ping_print_line(&report, &line);
}

TEST(times_as_text)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {{0, "0.000"},   {66, "0.066"},   {999, "0.999"},  {1000, "1.00"},
                 {1250, "1.25"}, {10400, "10.4"}, {104000, "104"}, {2500000, "2500"}};
    char time[PING_TIME_TEXT_SIZE];

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        ck_assert_str_eq(ping_format_time(cases[i].usec, time), cases[i].text);
}

TEST(lines)
{
    open_text();
    print_line(PING_LINE_REPLY, 66, 0);
    print_line(PING_LINE_DUPLICATE, 1250, 0);
    print_line(PING_LINE_TOO_LATE, 0, 0);
    print_line(PING_LINE_SILENT, 0, 0);
    print_line(PING_LINE_BROKEN, 0, 0);
    print_line(PING_LINE_BROKEN, 0, ECONNRESET);
    print_line(PING_LINE_RECONNECTED, 183, 0);
    print_line(PING_LINE_UNCONNECTED, 0, ECONNREFUSED);
    print_line(PING_LINE_MADE, 66, 0);
    print_line(PING_LINE_REFUSED, 66, ECONNREFUSED);
    print_line(PING_LINE_UNREACHABLE, 0, EHOSTUNREACH);
    expect_text_is("64 bytes from [::1]:7: seq=7 time=0.066 ms\n"
                   "64 bytes from [::1]:7: seq=7 time=1.25 ms (DUP!)\n"
                   "64 bytes from [::1]:7: seq=7 too late to tell the time\n"
                   "no answer from [::1]:7: seq=7\n"
                   "connection to [::1]:7 broken: closed by the server\n"
                   "connection to [::1]:7 broken: Connection reset by peer\n"
                   "connected again to [::1]:7 in 0.183 ms\n"
                   "cannot connect to [::1]:7: Connection refused\n"
                   "connected to [::1]:7: seq=7 time=0.066 ms\n"
                   "refused by [::1]:7: seq=7 time=0.066 ms\n"
                   "cannot reach [::1]:7: seq=7 No route to host\n");
}

/* With the longest address, the longest label of a name, and figures of a long watch. */
TEST(eighty_columns)
{
    static const char host[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example.org";
    static const char peer[] = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    const struct fault fault = {
        .kind = FAULT_CHANGED, .offset = 1234567890, .length = 12, .got = 1, .wanted = 2};
    struct ping_counts counts = {.sent = 4000000000,
                                 .received = 4000000000,
                                 .lost = 2000000000,
                                 .duplicates = 1000000,
                                 .corrupted = 1000000,
                                 .too_late = 1000000,
                                 .not_sent = 1000000,
                                 .late = 1000000,
                                 .broken = 1000000,
                                 .reconnected = 10000,
                                 .unconnected = 10000,
                                 .usec = 4000000 * USEC_PER_SEC};
    ping_times_add(&counts.times, 3600 * USEC_PER_SEC);
    open_text();
    report.size = 1 << 20;
    for (enum ping_line_kind kind = PING_LINE_REPLY; kind <= PING_LINE_UNREACHABLE; kind++) {
        const struct ping_line line = {.kind = kind,
                                       .host = host,
                                       .peer = peer,
                                       .number = 4000000000,
                                       .usec = 123456,
                                       .fault = &fault,
                                       .error = EHOSTUNREACH};
        ping_print_line(&report, &line);
        report.timestamps = !report.timestamps;
        ping_print_line(&report, &line);
    }
    ping_print_summary(&report, host, &counts);
    report.connect = true;
    ping_print_summary(&report, host, &counts);
    ping_print_interim(report.out, 80, host, &counts);
    fflush(report.out);
    ck_assert_uint_lt(strlen(text), sizeof text - 1);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        ck_assert_msg(strcspn(line, "\n") <= 80, "too wide: %.*s", (int)strcspn(line, "\n"), line);
    fclose(report.out);
}

TEST(quiet)
{
    open_text();
    report.quiet = true;
    print_line(PING_LINE_REPLY, 66, 0);
    ping_print_sent(&report);
    expect_text_is("");
}

/* On a terminal each dot is taken back by its answer; elsewhere there is one for each that is missing. */
TEST_TIMES(flood, 2)
{
    open_text();
    report.flood = true;
    report.terminal.is_rich = variant == 1;
    ping_print_sent(&report);
    print_line(PING_LINE_REPLY, 66, 0);
    ping_print_sent(&report);
    print_line(PING_LINE_SILENT, 0, 0);
    print_line(PING_LINE_BROKEN, 0, 0);
    expect_text_is(variant == 1 ? ".\b \b.E" : ".E");
}

TEST(corruption)
{
    const struct fault fault = {.kind = FAULT_CHANGED, .offset = 64, .length = 1, .got = 1};
    const struct ping_line line = {.kind = PING_LINE_CORRUPT, .peer = "peer", .number = 2, .fault = &fault};
    open_text();
    ping_print_line(&report, &line);
    expect_text_is("from peer: seq=2 CORRUPT: byte 64: 1 byte changed (0x01, not 0x00)\n");
    open_text();
    report.terminal.is_rich = true;
    ping_print_line(&report, &line);
    expect_text_is("\033[31mfrom peer: seq=2 CORRUPT: byte 64: 1 byte changed (0x01, not 0x00)\033[0m\n");
}

/* As ping(8) reckons: mdev is the root of the mean of the squares less the square of the mean. */
TEST(summary)
{
    struct ping_counts counts = {.sent = 4, .received = 3, .lost = 1, .usec = 3 * USEC_PER_SEC};
    ping_times_add(&counts.times, 2000);
    ping_times_add(&counts.times, 1000);
    ping_times_add(&counts.times, 3000);
    open_text();
    ping_print_summary(&report, "host", &counts);
    expect_text_is("\n--- host ping statistics ---\n"
                   "4 messages transmitted, 3 received, 1 lost (25%), time 3000 ms\n"
                   "rtt min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms\n");
    ck_assert(!ping_is_clean(&counts));
}

TEST(summary_of_trouble)
{
    const struct ping_counts counts = {.sent = 10,
                                       .received = 6,
                                       .lost = 7,
                                       .duplicates = 2,
                                       .corrupted = 3,
                                       .not_sent = 4,
                                       .late = 5,
                                       .pending = 1,
                                       .broken = 2,
                                       .reconnected = 1,
                                       .unconnected = 3};
    open_text();
    ping_print_summary(&report, "host", &counts);
    expect_text_is("\n--- host ping statistics ---\n"
                   "10 messages transmitted, 4 not sent, 6 received, 7 lost (53.85%), time 0 ms\n"
                   "2 duplicates, 3 corrupted, 5 not sent in time, 1 under way\n"
                   "connection broken 2 times, reconnected 1 time, 3 attempts failed\n");
}

TEST(summary_of_nothing)
{
    const struct ping_counts counts = {.sent = 1, .pending = 1, .usec = 1000};
    open_text();
    ping_print_summary(&report, "host", &counts);
    expect_text_is("\n--- host ping statistics ---\n"
                   "1 message transmitted, 0 received, 0 lost (0%), time 1 ms\n"
                   "1 under way\n");
    ck_assert(!ping_is_clean(&counts));
}

TEST(summary_of_handshakes)
{
    struct ping_counts counts = {
        .sent = 4, .received = 1, .lost = 3, .refused = 1, .silent = 1, .unreachable = 1};
    ping_times_add(&counts.times, 2000);
    ping_times_add(&counts.refusals, 1000);
    open_text();
    report.connect = true;
    ping_print_summary(&report, "host", &counts);
    expect_text_is("\n--- host ping statistics ---\n"
                   "4 connections tried, 1 made, 3 failed (75%), time 0 ms\n"
                   "1 refused, 1 silent, 1 unreachable\n"
                   "rtt min/avg/max/mdev = 2.000/2.000/2.000/0.000 ms\n"
                   "refused min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms\n");
}

TEST(interim)
{
    struct ping_counts counts = {.sent = 4, .received = 2, .lost = 1, .pending = 1};
    ping_times_add(&counts.times, 8000);
    ping_times_add(&counts.times, 16000);
    open_text();
    ping_print_interim(report.out, 80, "host", &counts);
    expect_text_is("host: 2/4 answered, 33.33% lost, min/avg/ewma/max = 8.000/12.000/9.000/16.000 ms\n");
}
