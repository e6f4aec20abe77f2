#include "client/watch/events.h"

#include "base/clock.h"
#include "common.h"

#include <errno.h>

/* "2026-11-28 16:01:04.094  " */
#define TIME_WIDTH 25

static struct watch_events events;
static struct event_loop loop;
static struct output output;
static struct client_options options;
static struct connection connection;
static FILE *lines;
static int saved_stdout;

/* stdout is a file from here on. */
static void set_up(void)
{
    options = (struct client_options){.gap_usec = USEC_PER_SEC};
    connection = (struct connection){0};
    fflush(stdout);
    saved_stdout = dup(STDOUT_FILENO);
    lines = tmpfile();
    ck_assert_ptr_nonnull(lines);
    ck_assert_int_ge(dup2(fileno(lines), STDOUT_FILENO), 0);
    ck_assert_int_eq(output_open(&output, -1), 0);
    ck_assert_int_eq(event_loop_init(&loop, NULL), 0);
    watch_events_init(&events, &loop, &output, &options);
}

static void tear_down(void)
{
    timer_disarm(&events.gap_timer);
    timer_disarm(&events.second_timer);
    event_loop_deinit(&loop);
    output_close(&output);
    ck_assert_int_ge(dup2(saved_stdout, STDOUT_FILENO), 0);
    close(saved_stdout);
    fclose(lines);
}

FIXTURE(set_up, tear_down)

static void fail_at(struct watch_side *side, uint64_t due, enum connection_end end, int error)
{
    watch_ended(&events, side, &connection, due, end, error);
}

static void fail_now(struct watch_side *side, enum connection_end end, int error)
{
    fail_at(side, clock_monotonic_nsec(), end, error);
}

static unsigned count_lines(void)
{
    unsigned count = 0;
    char line[512];
    rewind(lines);
    while (fgets(line, sizeof line, lines)) {
        ck_assert_uint_le(strlen(line), 81);
        count += line[0] != ' ';
    }
    return count;
}

/* The last line, without its time and its breaks; it is there at once. */
static const char *last_line(void)
{
    static char line[512];
    size_t end = 0;
    rewind(lines);
    while (end + 1 < sizeof line && fgets(line + end, (int)(sizeof line - end), lines)) {
        bool goes_on = line[end] == ' ';
        if (goes_on)
            memmove(line + end, line + end + 1, strlen(line + end));
        else
            memmove(line, line + end, strlen(line + end) + 1);
        end = strcspn(line, "\n");
        line[end] = '\0';
    }
    ck_assert_uint_gt(end, TIME_WIDTH);
    return line + TIME_WIDTH;
}

static void expect_line(const char *wanted)
{
    ck_assert_str_eq(last_line(), wanted);
}

/* A gap that was made so many seconds long is told as that long, or longer: the test takes time itself. */
static void expect_gap(double seconds, const char *until)
{
    const char *line = last_line();
    double told = 0;
    int length = 0;
    ck_assert_int_eq(sscanf(line, "new connections: none served for %lf s, until %n", &told, &length), 1);
    ck_assert_double_ge(told, seconds);
    ck_assert_str_eq(line + length, until);
}

/* stdout is no terminal: a line a minute shows that it still watches. */
TEST(sign_of_life)
{
    watch_events_start(&events);
    ck_assert_uint_eq(count_lines(), 0);
    for (unsigned minute = 1; minute <= 3; minute++) {
        clock_move(61 * USEC_PER_SEC);
        events.second_timer.fire(&events.second_timer);
        ck_assert_uint_eq(count_lines(), minute);
        events.second_timer.fire(&events.second_timer);
        ck_assert_uint_eq(count_lines(), minute);
    }
    expect_line("still watching: 0 answered, 0 failed, gap 0 ns");
    watch_events_stop(&events);
    clock_reset();
}

/* One client that nobody served is told, however well others were. */
TEST(the_slowest_client)
{
    uint64_t now = clock_monotonic_nsec();
    watch_expect_answer(&events, &events.newcomers, now - 5 * NSEC_PER_SEC);
    for (unsigned i = 1; i < 5; i++)
        watch_answered(&events, &events.newcomers, now - i, true);
    watch_waited(&events.newcomers, now - 5 * NSEC_PER_SEC);
    ck_assert_uint_ge(events.newcomers.slowest_nsec, 5 * NSEC_PER_SEC);
    ck_assert_uint_eq(events.newcomers.slowest_at_nsec, now - 5 * NSEC_PER_SEC);
    ck_assert_uint_eq(events.steady.slowest_nsec, 0);
}

TEST(served_in_time_is_no_event)
{
    uint64_t now = clock_monotonic_nsec();
    watch_expect_answer(&events, &events.steady, now);
    watch_answered(&events, &events.steady, now, false);
    fail_now(&events.steady, CONNECTION_SERVED, 0);
    ck_assert_uint_eq(events.steady.answered, 1);
    ck_assert_uint_eq(events.steady.latency.count, 1);
    ck_assert_uint_eq(events.steady.ends[CONNECTION_SERVED], 1);
    ck_assert_uint_eq(count_lines(), 0);
}

/* Told once while it lasts, and with its length when it is over: at an answer, or at the end. */
TEST_TIMES(a_gap, 2)
{
    uint64_t due = clock_monotonic_nsec() - 3 * NSEC_PER_SEC;
    for (unsigned i = 0; i < 2; i++)
        watch_expect_answer(&events, &events.newcomers, due + i);
    ck_assert_uint_eq(count_lines(), 1);
    ck_assert_ptr_nonnull(strstr(last_line(), "new connections: none served since "));
    if (variant == 0)
        watch_answered(&events, &events.newcomers, due, false);
    else
        watch_events_stop(&events);
    expect_gap(3, variant == 0 ? "now" : "the end");
    ck_assert_uint_eq(events.newcomers.gap.over, 1);
    ck_assert_uint_eq(events.newcomers.gap.longest_at_nsec, due);
    /* The next one is another. */
    watch_expect_answer(&events, &events.newcomers, clock_monotonic_nsec() - 2 * NSEC_PER_SEC);
    ck_assert_uint_eq(count_lines(), 3);
}

static void on_time(struct timer *timer)
{
    (void)timer;
    event_loop_quit(&loop);
}

/* Nothing has to happen for it to be told. */
TEST(a_gap_that_begins)
{
    struct timer end;
    options.gap_usec = 30 * USEC_PER_MSEC;
    watch_expect_answer(&events, &events.steady, clock_monotonic_nsec());
    ck_assert_uint_eq(count_lines(), 0);
    timer_init(&end, on_time);
    for (unsigned i = 0; i < PATIENCE_MSEC / 10 && count_lines() == 0; i++) {
        event_loop_arm(&loop, &end, clock_monotonic_usec() + 10 * USEC_PER_MSEC);
        ck_assert_int_eq(event_loop_run(&loop), 0);
    }
    timer_disarm(&end);
    ck_assert_ptr_nonnull(strstr(last_line(), "steady client: no answer since "));
}

/* The first of a row is told, and the end of it. */
TEST(a_row_of_failures)
{
    struct watch_side *side = &events.newcomers;
    for (unsigned i = 0; i < 50; i++)
        fail_now(side, CONNECTION_UNCONNECTED, ECONNREFUSED);
    ck_assert_uint_eq(count_lines(), 1);
    expect_line("new connections: cannot connect: Connection refused");
    watch_answered(&events, side, clock_monotonic_nsec(), false);
    ck_assert_uint_eq(count_lines(), 2);
    ck_assert_ptr_nonnull(strstr(last_line(), "new connections: works again after "));
    ck_assert_ptr_nonnull(strstr(last_line(), "; 50 failed"));
    ck_assert_uint_eq(side->ends[CONNECTION_UNCONNECTED], 50);
    ck_assert_int_eq(side->connect_error, ECONNREFUSED);
}

/* Connections that were due long ago fail all at once, and the next one is served. */
TEST(it_has_failed_since_it_was_due)
{
    struct watch_side *side = &events.newcomers;
    uint64_t begin = clock_monotonic_nsec();
    double seconds = 0;
    fail_at(side, begin - 20 * NSEC_PER_USEC, CONNECTION_BROKEN, ECONNRESET);
    fail_at(side, begin - 3 * NSEC_PER_SEC, CONNECTION_TIMED_OUT, ETIMEDOUT);
    fail_at(side, begin - 1 * NSEC_PER_SEC, CONNECTION_TIMED_OUT, ETIMEDOUT);
    /* One that was due before all of them says nothing about them. */
    watch_answered(&events, side, begin - 4 * NSEC_PER_SEC, true);
    ck_assert_uint_eq(count_lines(), 1);
    watch_answered(&events, side, begin, false);
    ck_assert_int_eq(sscanf(last_line(), "new connections: works again after %lf s; 3 failed", &seconds), 1);
    ck_assert(seconds >= 3);
    /* Late ones of the same row do not begin another. */
    for (uint64_t i = 1; i < 10; i++)
        fail_at(side, begin - i * NSEC_PER_SEC / 10, CONNECTION_TIMED_OUT, ETIMEDOUT);
    ck_assert_uint_eq(count_lines(), 2);
    ck_assert_uint_eq(side->ends[CONNECTION_TIMED_OUT], 11);
    fail_now(side, CONNECTION_TIMED_OUT, ETIMEDOUT);
    ck_assert_uint_eq(count_lines(), 3);
}

TEST_TIMES(each_kind_of_failure, 7)
{
    static const struct {
        enum connection_end end;
        int error;
        bool was_connected;
        const char *line;
        uint64_t answered;
    } kinds[] = {
        {CONNECTION_UNCONNECTED, ETIMEDOUT, false, "steady client: cannot connect: Connection timed out"},
        {CONNECTION_TIMED_OUT, 0, false, "steady client: timed out before it was connected"},
        {CONNECTION_TIMED_OUT, 0, true, "steady client: timed out without an answer"},
        {CONNECTION_TIMED_OUT, 0, true, "steady client: timed out (answered, not closed)", 1},
        {CONNECTION_BROKEN, 0, true, "steady client: broken: closed by the server"},
        {CONNECTION_BROKEN, ECONNRESET, true, "steady client: broken: Connection reset by peer"},
        {CONNECTION_WRONG, 0, true, "steady client: wrong answer, byte 9: 2 bytes changed (0x01, not 0x02)"},
    };

    connection.fault = (struct fault){.kind = FAULT_CHANGED, .offset = 9, .length = 2, .got = 1, .wanted = 2};
    connection.wrong_bytes = 2;
    connection.was_connected = kinds[variant].was_connected;
    connection.answered = kinds[variant].answered;
    fail_now(&events.steady, kinds[variant].end, kinds[variant].error);
    expect_line(kinds[variant].line);
    ck_assert_uint_eq(events.steady.wrong_bytes, kinds[variant].end == CONNECTION_WRONG ? 2 : 0);
}

/* What we are short of is told once; any other error is the server's. */
TEST(short_of_something)
{
    ck_assert(!watch_is_short(&events, &events.newcomers, ECONNREFUSED));
    ck_assert(watch_is_short(&events, &events.newcomers, EMFILE));
    ck_assert(watch_is_short(&events, &events.newcomers, EMFILE));
    ck_assert_uint_eq(events.newcomers.not_begun[NOT_BEGUN_SHORT], 2);
    ck_assert_uint_eq(count_lines(), 1);
    expect_line("new connections: cannot begin: Too many open files");
}

static void fail_and_recover(void)
{
    fail_now(&events.steady, CONNECTION_BROKEN, 0);
    watch_answered(&events, &events.steady, clock_monotonic_nsec(), false);
}

/* A server that goes up and down all the time does not fill a disk, and what is left out is said. */
TEST(lines_have_a_limit)
{
    uint64_t began = clock_monotonic_usec();
    for (unsigned i = 0; i < 1000; i++)
        fail_and_recover();
    ck_assert_uint_le(count_lines(), 20 * (2 + (clock_monotonic_usec() - began) / USEC_PER_SEC));
    bool is_said = false;
    for (unsigned i = 0; i < PATIENCE_MSEC && !is_said; i++) {
        nap();
        fail_now(&events.steady, CONNECTION_BROKEN, 0);
        is_said = strstr(last_line(), " lines left out before)") != NULL;
        watch_answered(&events, &events.steady, clock_monotonic_nsec(), false);
    }
    ck_assert(is_said);
}

TEST(json_has_no_lines)
{
    options.json = true;
    fail_now(&events.steady, CONNECTION_BROKEN, 0);
    ck_assert_uint_eq(count_lines(), 0);
    ck_assert_uint_eq(events.steady.ends[CONNECTION_BROKEN], 1);
}
