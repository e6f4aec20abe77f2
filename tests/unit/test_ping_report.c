#include "client/ping/report.h"

#include "base/clock.h"
#include "common.h"

static char text[4096];
static FILE *out;
static struct terminal terminal;

static void open_text(void)
{
    terminal = (struct terminal){.fd = -1};
    out = fmemopen(text, sizeof text, "w");
    ck_assert_ptr_nonnull(out);
}

static void expect_text_is(const char *wanted)
{
    fclose(out);
    ck_assert_str_eq(text, wanted);
}

static void print_summary(const struct ping_stream *stream, const struct ping_times *times, uint64_t pending,
                          uint64_t dropped, uint64_t usec)
{
    const struct ping_summary summary = {.host = "host",
                                         .stream = stream,
                                         .times = times,
                                         .pending = pending,
                                         .dropped = dropped,
                                         .usec = usec};
    ping_print_summary(out, &summary);
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

TEST(events)
{
    const struct ping_event reply = {.kind = PING_REPLY, .number = 7};
    const struct ping_event again = {.kind = PING_DUPLICATE, .number = 7};
    const struct ping_event old = {.kind = PING_TOO_LATE, .number = 7};
    open_text();
    ping_print_event(out, &terminal, &reply, "[::1]:7", 64, 66);
    ping_print_event(out, &terminal, &again, "[::1]:7", 64, 1250);
    ping_print_event(out, &terminal, &old, "[::1]:7", 64, 0);
    expect_text_is("64 bytes from [::1]:7: seq=7 time=0.066 ms\n"
                   "64 bytes from [::1]:7: seq=7 time=1.25 ms (DUP!)\n"
                   "64 bytes from [::1]:7: seq=7 too late to tell the time\n");
}

TEST(corruption)
{
    const struct ping_event event = {.kind = PING_CORRUPT,
                                     .number = 2,
                                     .fault = {.kind = FAULT_CHANGED, .offset = 64, .length = 1, .got = 1}};

    open_text();
    ping_print_event(out, &terminal, &event, "peer", 64, 0);
    expect_text_is("from peer: seq=2 CORRUPT: byte 64: 1 byte changed (0x01 instead of 0x00)\n");
    open_text();
    terminal.is_rich = true;
    ping_print_event(out, &terminal, &event, "peer", 64, 0);
    expect_text_is(
        "\033[31mfrom peer: seq=2 CORRUPT: byte 64: 1 byte changed (0x01 instead of 0x00)\033[0m\n");
}

/* As ping(8) reckons: mdev is the root of the mean of the squares less the square of the mean. */
TEST(summary)
{
    const struct ping_stream stream = {.sent = 4, .answered = 3};
    struct ping_times times = {0};
    ping_times_add(&times, 2000);
    ping_times_add(&times, 1000);
    ping_times_add(&times, 3000);
    open_text();
    print_summary(&stream, &times, 0, 0, 3 * USEC_PER_SEC);
    expect_text_is("\n--- host ping statistics ---\n"
                   "4 messages transmitted, 3 received, 1 lost (25%), time 3000 ms\n"
                   "rtt min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms\n");
}

TEST(summary_of_trouble)
{
    const struct ping_stream stream = {
        .sent = 10, .answered = 6, .spoilt = 1, .duplicates = 2, .corrupted = 3};
    struct ping_times times = {0};

    open_text();
    print_summary(&stream, &times, 1, 4, 0);
    expect_text_is(
        "\n--- host ping statistics ---\n"
        "10 messages transmitted, 6 received, +2 duplicates, +3 corrupted, +4 not sent, 1 under way, 6 lost "
        "(46.15%), time 0 ms\n");
}

TEST(summary_of_nothing)
{
    const struct ping_stream stream = {.sent = 1};
    const struct ping_times times = {0};
    open_text();
    print_summary(&stream, &times, 1, 0, 1000);
    expect_text_is("\n--- host ping statistics ---\n"
                   "1 message transmitted, 0 received, 1 under way, 0 lost (0%), time 1 ms\n");
}
