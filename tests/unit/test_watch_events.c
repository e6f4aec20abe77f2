#include "client/watch/watch.h"

#include "base/clock.h"
#include "common.h"

static struct watch watch;
static struct client_options options;
static struct probe probe;
static FILE *lines;
static int saved_stdout;

/* stdout is a file from here on. */
static void set_up(void)
{
    memset(&watch, 0, sizeof watch);
    options = (struct client_options){.gap_usec = USEC_PER_SEC};
    probe = (struct probe){0};
    watch.options = &options;
    watch.steady_side.name = "steady client";
    watch.comer_side.name = "new connections";
    watch.out.fd = watch.progress.fd = -1;
    fflush(stdout);
    saved_stdout = dup(STDOUT_FILENO);
    lines = tmpfile();
    ck_assert_ptr_nonnull(lines);
    ck_assert_int_ge(dup2(fileno(lines), STDOUT_FILENO), 0);
    output_open(&watch.output);
    ck_assert_int_eq(output_start_stream(&watch.output, -1), 0);
}

static void tear_down(void)
{
    output_close(&watch.output);
    ck_assert_int_ge(dup2(saved_stdout, STDOUT_FILENO), 0);
    close(saved_stdout);
    fclose(lines);
}

static uint64_t moment(void)
{
    return clock_monotonic_nsec();
}

static unsigned count_lines(void)
{
    unsigned count = 0;
    rewind(lines);
    for (int c; (c = getc(lines)) != EOF;)
        count += c == '\n';
    return count;
}

/* The last line, without its time; it is there at once. */
static const char *last_line(void)
{
    static char line[512];
    rewind(lines);
    line[0] = '\0';
    while (fgets(line, sizeof line, lines))
        ;
    ck_assert_uint_gt(strlen(line), 14);
    line[strcspn(line, "\n")] = '\0';
    return line + 14;
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
    ck_assert_int_eq(sscanf(line, "new connections: no answer for %lf s, until %n", &told, &length), 1);
    ck_assert_double_ge(told, seconds);
    ck_assert_str_eq(line + length, until);
}

START_TEST(served_in_time_is_no_event)
{
    uint64_t now = clock_monotonic_nsec();
    gap_owe(&watch.steady_side.gap, now);
    watch_served(&watch, &watch.steady_side, now, false);
    ck_assert_uint_eq(watch.steady_side.served, 1);
    ck_assert_uint_eq(watch.steady_side.latency.count, 1);
    watch_ended(&watch, &watch.steady_side, &probe, moment(), PROBE_SERVED, 0);
    ck_assert_uint_eq(watch.steady_side.ends[PROBE_SERVED], 1);
    ck_assert_uint_eq(count_lines(), 0);
}
END_TEST

START_TEST(a_gap_is_told_when_it_is_over)
{
    uint64_t due = clock_monotonic_nsec() - 3 * NSEC_PER_SEC;
    gap_owe(&watch.comer_side.gap, due);
    watch_served(&watch, &watch.comer_side, due, false);
    expect_gap(3, "now");
    ck_assert_uint_eq(watch.comer_side.gap.over, 1);
    ck_assert_uint_eq(watch.comer_side.gap.longest_at_nsec, due);
}
END_TEST

/* Once while it lasts, and with its length when it is over. */
START_TEST(an_open_gap_is_told_once)
{
    uint64_t due = clock_monotonic_nsec();

    ck_assert_int_eq(event_loop_init(&watch.loop, NULL), 0);
    timer_init(&watch.gap_timer, watch_look_for_gaps);
    watch_owe(&watch, &watch.comer_side, due); /* in time, as yet */
    ck_assert(timer_is_armed(&watch.gap_timer));
    ck_assert_uint_eq(count_lines(), 0);
    timer_disarm(&watch.gap_timer);
    watch.comer_side.gap.since -= 3 * NSEC_PER_SEC;
    for (unsigned i = 0; i < 2; i++)
        watch_owe(&watch, &watch.comer_side, due);
    ck_assert_uint_eq(count_lines(), 1);
    ck_assert(!timer_is_armed(&watch.gap_timer));
    watch.end_nsec = moment();
    watch_close_gap(&watch, &watch.comer_side);
    expect_gap(3, "the end");
    /* The next one is another. */
    watch_owe(&watch, &watch.comer_side, clock_monotonic_nsec() - 2 * NSEC_PER_SEC);
    ck_assert_uint_eq(count_lines(), 3);
    event_loop_deinit(&watch.loop);
}
END_TEST

/* The first of a row, and the end of it. */
START_TEST(a_row_of_failures)
{
    struct watch_side *side = &watch.comer_side;
    char again[] = "new connections: works again after ";

    for (unsigned i = 0; i < 50; i++)
        watch_ended(&watch, side, &probe, moment(), PROBE_UNCONNECTED, ECONNREFUSED);
    ck_assert_uint_eq(count_lines(), 1);
    expect_line("new connections: cannot connect: Connection refused");
    ck_assert(side->is_down);
    watch_served(&watch, side, clock_monotonic_nsec(), false);
    ck_assert(!side->is_down);
    ck_assert_uint_eq(count_lines(), 2);
    rewind(lines);
    char line[256];
    ck_assert_ptr_nonnull(fgets(line, sizeof line, lines));
    ck_assert_ptr_nonnull(fgets(line, sizeof line, lines));
    ck_assert_mem_eq(line + 14, again, strlen(again));
    ck_assert_ptr_nonnull(strstr(line, "; 50 failed\n"));
    ck_assert_uint_eq(side->ends[PROBE_UNCONNECTED], 50);
    ck_assert_int_eq(side->connect_error, ECONNREFUSED);
}
END_TEST

/* Connections that were due long ago fail all at once, and the next one is served. */
START_TEST(it_has_failed_since_it_was_due)
{
    struct watch_side *side = &watch.comer_side;
    uint64_t begin = moment();
    char line[256];

    watch_ended(&watch, side, &probe, begin - 20 * NSEC_PER_USEC, PROBE_BROKEN, ECONNRESET);
    watch_ended(&watch, side, &probe, begin - 3 * NSEC_PER_SEC, PROBE_TIMED_OUT, 0);
    watch_ended(&watch, side, &probe, begin - 1 * NSEC_PER_SEC, PROBE_TIMED_OUT, 0);
    /* One that was due before all of them says nothing about them. */
    watch_served(&watch, side, begin - 4 * NSEC_PER_SEC, true);
    ck_assert(side->is_down);
    ck_assert_uint_eq(side->down_nsec, begin - 3 * NSEC_PER_SEC);
    watch_served(&watch, side, begin, false);
    ck_assert(!side->is_down);
    ck_assert_uint_eq(side->down_count, 3);
    /* Late ones of the same row do not begin another. */
    for (uint64_t i = 1; i < 10; i++)
        watch_ended(&watch, side, &probe, begin - i * NSEC_PER_SEC / 10, PROBE_TIMED_OUT, 0);
    ck_assert(!side->is_down);
    ck_assert_uint_eq(count_lines(), 2);
    ck_assert_uint_eq(side->ends[PROBE_TIMED_OUT], 11);
    rewind(lines);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_ptr_nonnull(fgets(line, sizeof line, lines));
    double seconds = 0;
    ck_assert_msg(sscanf(line + 14, "new connections: works again after %lf s; 3 failed", &seconds) == 1,
                  "%s", line);
    ck_assert(seconds >= 3);
    watch_ended(&watch, side, &probe, moment(), PROBE_TIMED_OUT, 0);
    ck_assert(side->is_down);
}
END_TEST

START_TEST(each_kind_of_failure)
{
    static const struct {
        enum probe_end end;
        int error;
        bool is_connected;
        const char *line;
    } kinds[] = {
        {PROBE_UNCONNECTED, ETIMEDOUT, false, "steady client: cannot connect: Connection timed out"},
        {PROBE_TIMED_OUT, 0, false, "steady client: timed out before it was connected"},
        {PROBE_TIMED_OUT, 0, true, "steady client: timed out without an answer"},
        {PROBE_BROKEN, 0, true, "steady client: broken: closed by the server"},
        {PROBE_BROKEN, ECONNRESET, true, "steady client: broken: Connection reset by peer"},
        {PROBE_WRONG, 0, true, "steady client: wrong answer, byte 9: 2 bytes changed (0x01 instead of 0x02)"},
    };

    probe.fault = (struct fault){.kind = FAULT_CHANGED, .offset = 9, .length = 2, .got = 1, .wanted = 2};
    probe.wrong_bytes = 2;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        watch.steady_side.is_down = false;
        probe.is_connected = kinds[i].is_connected;
        watch_ended(&watch, &watch.steady_side, &probe, moment(), kinds[i].end, kinds[i].error);
        expect_line(kinds[i].line);
    }
    ck_assert_uint_eq(watch.steady_side.wrong_bytes, 2);
    ck_assert_int_eq(watch.steady_side.break_error, ECONNRESET);
}
END_TEST

/* A server that goes up and down all the time does not fill a disk, and what is left out is said. */
START_TEST(lines_have_a_limit)
{
    for (unsigned i = 0; i < 1000; i++) {
        watch.steady_side.is_down = false;
        watch_ended(&watch, &watch.steady_side, &probe, moment(), PROBE_BROKEN, 0);
    }
    ck_assert_uint_le(count_lines(), 100); /* a second has 20; it may turn while we count */
    ck_assert_uint_gt(watch.lines_left_out, 0);
    watch.line_second = 0;
    watch.lines_left_out = 77;
    watch.steady_side.is_down = false;
    watch_ended(&watch, &watch.steady_side, &probe, moment(), PROBE_BROKEN, 0);
    expect_line("steady client: broken: closed by the server  (77 lines left out before)");
}
END_TEST

START_TEST(json_has_no_lines)
{
    options.json = true;
    watch_ended(&watch, &watch.steady_side, &probe, moment(), PROBE_BROKEN, 0);
    ck_assert_uint_eq(count_lines(), 0);
    ck_assert_uint_eq(watch.steady_side.ends[PROBE_BROKEN], 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("watch_events");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, served_in_time_is_no_event);
    tcase_add_test(tests, a_gap_is_told_when_it_is_over);
    tcase_add_test(tests, an_open_gap_is_told_once);
    tcase_add_test(tests, a_row_of_failures);
    tcase_add_test(tests, it_has_failed_since_it_was_due);
    tcase_add_test(tests, each_kind_of_failure);
    tcase_add_test(tests, lines_have_a_limit);
    tcase_add_test(tests, json_has_no_lines);
    return run_case(tests);
}
