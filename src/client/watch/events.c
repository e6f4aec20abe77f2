#include "client/watch/events.h"

#include "base/clock.h"
#include "base/plural.h"
#include "client/net/dial.h"
#include "client/process/interrupt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_USEC (250 * USEC_PER_MSEC)

/* A server that goes up and down all the time does not fill a disk. */
#define LINES_PER_SECOND 20

/* Where no line of progress can be seen, a log shows that it still watches. */
#define LIFE_NSEC (60 * NSEC_PER_SEC)

/* A gap of more than a tenth of what is allowed is marked in the chart. */
#define SLOW_PART 10

/* Seconds that the line of progress shows at least. */
#define CHART_LEAST 12U

static void __attribute__((format(printf, 3, 4))) print_event(struct watch_events *events, enum colour colour,
                                                              const char *format, ...)
{
    uint64_t now = clock_monotonic_nsec();
    FILE *out = events->output->stream;
    char at[CLOCK_TEXT_SIZE], text[1024], left_out[64] = "";
    va_list arguments;
    if (events->options->json || events->options->nagios)
        return;
    if (now / NSEC_PER_SEC != events->line_second) {
        events->line_second = now / NSEC_PER_SEC;
        events->lines = 0;
    }
    if (events->lines++ >= LINES_PER_SECOND) {
        events->lines_left_out++;
        return;
    }
    terminal_progress_erase(&events->progress);
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (events->lines_left_out > 0)
        snprintf(left_out, sizeof left_out, " (%" PRIu64 " line%s left out before)", events->lines_left_out,
                 plural(events->lines_left_out));
    events->lines_left_out = 0;
    unsigned column = (unsigned)fprintf(out, "%s  ", clock_format(now, at));
    fputs(terminal_colour(&events->out, colour), out);
    print_wrapped(out, terminal_width(&events->out), column, "%s%s", text, left_out);
    fprintf(out, "%s\n", terminal_colour(&events->out, COLOUR_OFF));
    if (output_finish(events->output) == -EINTR) /* any other error stays in the stream */
        interrupt_die();
}

static void print_failure(struct watch_events *events, struct watch_side *side,
                          const struct connection *connection, enum connection_end end, int error)
{
    char text[FAULT_TEXT_SIZE];
    const char *name = side->name;
    if (end == CONNECTION_UNCONNECTED)
        print_event(events, COLOUR_BAD, "%s: cannot connect: %s", name, strerror(error));
    else if (end == CONNECTION_TIMED_OUT)
        print_event(events, COLOUR_BAD, "%s: timed out %s", name,
                    !connection->was_connected           ? "before it was connected"
                    : connection_is_answered(connection) ? "(answered, not closed)"
                                                         : "without an answer");
    else if (end == CONNECTION_BROKEN)
        print_event(events, COLOUR_BAD, "%s: broken: %s", name, connection_break_reason(error));
    else
        print_event(events, COLOUR_BAD, "%s: wrong answer, %s", name, fault_format(&connection->fault, text));
}

/* Returns whether it is told. A connection may fail long after it was due, and others have been served by
 * then: what has been told to be over does not begin again with it. */
static bool count_failure(struct watch_side *side, uint64_t due_nsec)
{
    if (!side->is_failing && due_nsec < side->recovered_nsec)
        return false;
    if (!side->is_failing || due_nsec < side->failing_nsec)
        side->failing_nsec = due_nsec;
    side->failures = side->is_failing ? side->failures + 1 : 1;
    side->is_failing = true;
    return side->failures == 1; /* the first of a row is told, and then that it is over */
}

void watch_waited(struct watch_side *side, uint64_t due_nsec)
{
    uint64_t now = clock_monotonic_nsec();
    uint64_t took = now > due_nsec ? now - due_nsec : 0;
    if (took <= side->slowest_nsec)
        return;
    side->slowest_nsec = took;
    side->slowest_at_nsec = due_nsec;
}

static enum chart_cell cell_of(const struct watch_events *events, uint64_t gap_nsec)
{
    uint64_t allowed = events->options->gap_usec * NSEC_PER_USEC;
    return gap_nsec > allowed ? CELL_GAP : gap_nsec > allowed / SLOW_PART ? CELL_SLOW : CELL_GOOD;
}

void watch_ended(struct watch_events *events, struct watch_side *side, const struct connection *connection,
                 uint64_t due_nsec, enum connection_end end, int error)
{
    side->ends[end]++;
    if (end == CONNECTION_SERVED)
        return;
    chart_mark(&events->chart, clock_monotonic_nsec(), CELL_FAILED);
    if (end == CONNECTION_UNCONNECTED)
        side->connect_error = error;
    if (end == CONNECTION_BROKEN)
        side->break_error = error;
    if (end == CONNECTION_WRONG)
        side->wrong_bytes += connection->wrong_bytes;
    if (count_failure(side, due_nsec))
        print_failure(events, side, connection, end, error);
}

bool watch_is_short(struct watch_events *events, struct watch_side *side, int error)
{
    if (!dial_is_short(error))
        return false;
    side->short_error = error;
    if (side->not_begun[NOT_BEGUN_SHORT]++ == 0)
        print_event(events, COLOUR_BAD, "%s: cannot begin: %s", side->name, strerror(error));
    return true;
}

/* Returns when to look again, in nanoseconds, or UINT64_MAX. */
static uint64_t look_at_gap(struct watch_events *events, struct watch_side *side)
{
    uint64_t end = side->gap.since + events->options->gap_usec * NSEC_PER_USEC;
    char at[CLOCK_TEXT_SIZE];
    if (side->gap.since == 0 || side->is_gap_told)
        return UINT64_MAX;
    if (clock_monotonic_nsec() <= end)
        return end;
    side->is_gap_told = true;
    print_event(events, COLOUR_BAD, "%s: %s since %s", side->name, side->unserved,
                clock_format_since(side->gap.since, at));
    return UINT64_MAX;
}

/* Tells once of each gap that is open and longer than allowed. */
static void look_at_gaps(struct timer *timer)
{
    struct watch_events *events = CONTAINER_OF(timer, struct watch_events, gap_timer);
    uint64_t steady = look_at_gap(events, &events->steady);
    uint64_t newcomers = look_at_gap(events, &events->newcomers);
    uint64_t next = steady < newcomers ? steady : newcomers;
    if (next != UINT64_MAX)
        event_loop_arm(events->loop, timer, next / NSEC_PER_USEC + 1);
}

void watch_expect_answer(struct watch_events *events, struct watch_side *side, uint64_t due_nsec)
{
    gap_expect_answer(&side->gap, due_nsec);
    if (!timer_is_armed(&events->gap_timer))
        look_at_gaps(&events->gap_timer);
}

/* Returns how long it was. */
static uint64_t end_gap(struct watch_events *events, struct watch_side *side, uint64_t at_nsec, bool more,
                        const char *until)
{
    uint64_t allowed = events->options->gap_usec * NSEC_PER_USEC;
    uint64_t gap = gap_answered(&side->gap, at_nsec, more, allowed);
    char text[LATENCY_TEXT_SIZE];
    chart_mark(&events->chart, at_nsec, cell_of(events, gap));
    if (gap > allowed)
        print_event(events, COLOUR_BAD, "%s: %s for %s, until %s", side->name, side->unserved,
                    latency_format_down(gap, text), until);
    side->is_gap_told = false;
    return gap;
}

void watch_answered(struct watch_events *events, struct watch_side *side, uint64_t due_nsec, bool more)
{
    uint64_t now = clock_monotonic_nsec();
    char text[LATENCY_TEXT_SIZE];
    side->answered++;
    histogram_add(&side->latency, now - due_nsec);
    watch_waited(side, due_nsec);
    end_gap(events, side, now, more, "now");
    /* What was due before it went wrong says nothing. */
    if (!side->is_failing || due_nsec < side->failing_nsec)
        return;
    print_event(events, COLOUR_GOOD, "%s: works again after %s; %" PRIu64 " failed", side->name,
                latency_format(now - side->failing_nsec, text), side->failures);
    side->is_failing = false;
    side->recovered_nsec = due_nsec;
}

/* How long somebody has waited by now. */
static uint64_t open_gap(const struct watch_events *events, uint64_t now)
{
    uint64_t steady = events->steady.gap.since, newcomers = events->newcomers.gap.since;
    uint64_t since = steady == 0 || (newcomers != 0 && newcomers < steady) ? newcomers : steady;
    return since != 0 && since < now ? now - since : 0;
}

static uint64_t count_ends(const struct watch_events *events, enum connection_end end)
{
    return events->steady.ends[end] + events->newcomers.ends[end];
}

static uint64_t count_failures(const struct watch_events *events)
{
    uint64_t count = 0;
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        count += count_ends(events, watch_failures[i].end);
    return count;
}

static uint64_t longest_gap(const struct watch_events *events, uint64_t open)
{
    uint64_t steady = events->steady.gap.longest_nsec, newcomers = events->newcomers.gap.longest_nsec;
    uint64_t longest = steady > newcomers ? steady : newcomers;
    return open > longest ? open : longest;
}

/* The chart has what room there is after it; where that is little, the failures are one figure. */
static void show_progress(struct timer *timer)
{
    struct watch_events *events = CONTAINER_OF(timer, struct watch_events, progress_timer);
    uint64_t now = clock_monotonic_nsec(), open = open_gap(events, now);
    char text[LATENCY_TEXT_SIZE], waiting[LATENCY_TEXT_SIZE + 32] = "", line[256], row[CHART_CELLS + 1] = "";

    if (open > PROGRESS_USEC * NSEC_PER_USEC)
        snprintf(waiting, sizeof waiting, "waiting for %s  ", latency_format_down(open, text));
    int head = snprintf(line, sizeof line, "%6.1f s  %slongest gap %s",
                        watch_seconds_up(now - events->start_nsec, 10), waiting,
                        latency_format_down(longest_gap(events, open), text));
    int length =
        head + snprintf(line + head, sizeof line - (size_t)head,
                        "  broken %" PRIu64 "  refused %" PRIu64 "  wrong %" PRIu64,
                        count_ends(events, CONNECTION_BROKEN), count_ends(events, CONNECTION_UNCONNECTED),
                        count_ends(events, CONNECTION_WRONG));
    unsigned width = terminal_width(&events->progress);
    if ((unsigned)length + CHART_LEAST + 3 > width)
        length = head + snprintf(line + head, sizeof line - (size_t)head, "  failed %" PRIu64,
                                 count_failures(events));
    if ((unsigned)length + 3 < width)
        chart_format(&events->chart, width - (unsigned)length - 3, row);
    terminal_progress(&events->progress, "%s  %s", line, row);
    event_loop_arm(events->loop, timer, clock_monotonic_usec() + PROGRESS_USEC);
}

static void show_life(struct watch_events *events, uint64_t now)
{
    char gap[LATENCY_TEXT_SIZE];
    events->life_nsec = now;
    print_event(events, COLOUR_OFF, "still watching: %" PRIu64 " answered, %" PRIu64 " failed, gap %s",
                events->steady.answered + events->newcomers.answered, count_failures(events),
                latency_format_down(longest_gap(events, open_gap(events, now)), gap));
}

/* No error, which --nagios would hold back for its line. */
void watch_print_interim(struct watch_events *events)
{
    uint64_t now = clock_monotonic_nsec(), open = open_gap(events, now);
    char gap[LATENCY_TEXT_SIZE], waiting[LATENCY_TEXT_SIZE];
    terminal_progress_erase(&events->progress);
    fprintf(stderr, "tcpecho: %.1f s, %" PRIu64 " answered, %" PRIu64 " failed, gap %s, waiting for %s\n",
            watch_seconds_up(now - events->start_nsec, 10),
            events->steady.answered + events->newcomers.answered, count_failures(events),
            latency_format_down(longest_gap(events, open), gap), latency_format_down(open, waiting));
}

/* Four times in each, so that none is left out. */
static void on_second(struct timer *timer)
{
    struct watch_events *events = CONTAINER_OF(timer, struct watch_events, second_timer);
    uint64_t now = clock_monotonic_nsec();
    chart_mark(&events->chart, now, cell_of(events, open_gap(events, now)));
    if (!events->out.is_terminal && now >= events->life_nsec + LIFE_NSEC)
        show_life(events, now);
    event_loop_arm(events->loop, timer, clock_monotonic_usec() + PROGRESS_USEC);
}

void watch_events_init(struct watch_events *events, struct event_loop *loop, struct output *output,
                       const struct client_options *options)
{
    *events = (struct watch_events){
        .loop = loop,
        .output = output,
        .options = options,
        .steady = {.name = "steady client", .unserved = "no answer"},
        .newcomers = {.name = "new connections", .unserved = "none served"}, /* answered and closed */
        .start_nsec = clock_monotonic_nsec(),
    };
    timer_init(&events->gap_timer, look_at_gaps);
    timer_init(&events->progress_timer, show_progress);
    timer_init(&events->second_timer, on_second);
    chart_init(&events->chart, events->start_nsec);
    events->life_nsec = events->start_nsec;
    terminal_init(&events->out, STDOUT_FILENO);
    terminal_init(&events->progress, STDERR_FILENO);
}

void watch_events_start(struct watch_events *events)
{
    on_second(&events->second_timer);
    if (events->progress.is_rich)
        show_progress(&events->progress_timer);
}

void watch_events_stop(struct watch_events *events)
{
    uint64_t now = clock_monotonic_nsec();
    terminal_progress_erase(&events->progress);
    events->steady.last_gap_nsec = end_gap(events, &events->steady, now, false, "the end");
    events->newcomers.last_gap_nsec = end_gap(events, &events->newcomers, now, false, "the end");
    timer_disarm(&events->gap_timer);
    timer_disarm(&events->progress_timer);
    timer_disarm(&events->second_timer);
}
