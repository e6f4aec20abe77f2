#include "client/watch/watch.h"

#include "base/clock.h"
#include "base/plural.h"
#include "client/interrupt.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define PROGRESS_USEC (250 * USEC_PER_MSEC)

/* A server that goes up and down all the time does not fill a disk. */
#define LINES_PER_SECOND 20

static void tell(struct watch *watch, enum colour colour, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void tell(struct watch *watch, enum colour colour, const char *format, ...)
{
    uint64_t now = clock_monotonic_nsec();
    FILE *out = watch->output.stream;
    char at[CLOCK_TEXT_SIZE];
    va_list arguments;

    if (watch->options->json)
        return;
    if (now / NSEC_PER_SEC != watch->line_second) {
        watch->line_second = now / NSEC_PER_SEC;
        watch->lines = 0;
    }
    if (watch->lines++ >= LINES_PER_SECOND) {
        watch->lines_left_out++;
        return;
    }
    terminal_progress_erase(&watch->progress);
    (void)fprintf(out, "%s  %s", clock_format(now, at), terminal_colour(&watch->out, colour));
    va_start(arguments, format);
    (void)vfprintf(out, format, arguments);
    va_end(arguments);
    (void)fprintf(out, "%s", terminal_colour(&watch->out, COLOUR_OFF));
    if (watch->lines_left_out > 0)
        (void)fprintf(out, "  (%" PRIu64 " line%s left out before)", watch->lines_left_out,
                      plural(watch->lines_left_out));
    watch->lines_left_out = 0;
    (void)fputc('\n', out);
    if (output_finish(&watch->output) == -EINTR) /* any other error stays in the stream */
        interrupt_die(interrupt_number());
}

static void tell_failure(struct watch *watch, struct watch_side *side, const struct probe *probe,
                         enum probe_end end, int error)
{
    char text[FAULT_TEXT_SIZE];
    const char *name = side->name;

    if (end == PROBE_UNCONNECTED)
        tell(watch, COLOUR_BAD, "%s: cannot connect: %s", name, strerror(error));
    else if (end == PROBE_TIMED_OUT)
        tell(watch, COLOUR_BAD, "%s: timed out %s", name,
             probe->is_connected ? "without an answer" : "before it was connected");
    else if (end == PROBE_BROKEN)
        tell(watch, COLOUR_BAD, "%s: broken: %s", name, error ? strerror(error) : "closed by the server");
    else
        tell(watch, COLOUR_BAD, "%s: wrong answer, %s", name, fault_format(&probe->fault, text));
}

/* Returns whether it is told. A connection may fail long after it was due, and others have been served by
 * then: what has been told to be over does not begin again with it. */
static bool count_down(struct watch_side *side, uint64_t due_nsec)
{
    if (!side->is_down && due_nsec < side->over_nsec)
        return false;
    if (!side->is_down || due_nsec < side->down_nsec)
        side->down_nsec = due_nsec;
    side->down_count = side->is_down ? side->down_count + 1 : 1;
    side->is_down = true;
    return side->down_count == 1; /* the first of a row is told, and then that it is over */
}

void watch_ended(struct watch *watch, struct watch_side *side, const struct probe *probe, uint64_t due_nsec,
                 enum probe_end end, int error)
{
    side->ends[end]++;
    if (end == PROBE_SERVED)
        return;
    if (end == PROBE_SHORT) {
        side->short_error = error;
        if (side->not_begun[NOT_BEGUN_SHORT]++ == 0)
            tell(watch, COLOUR_BAD, "%s: cannot begin: %s", side->name, strerror(error));
        return;
    }
    if (end == PROBE_UNCONNECTED)
        side->connect_error = error;
    if (end == PROBE_BROKEN)
        side->break_error = error;
    if (end == PROBE_WRONG)
        side->wrong_bytes += probe->wrong_bytes;
    if (count_down(side, due_nsec))
        tell_failure(watch, side, probe, end, error);
}

/* Returns when to look again, in nanoseconds, or UINT64_MAX. */
static uint64_t look_at_gap(struct watch *watch, struct watch_side *side)
{
    uint64_t end = side->gap.since + watch->options->gap_usec * NSEC_PER_USEC;
    char at[CLOCK_TEXT_SIZE];

    if (side->gap.since == 0 || side->is_gap_told)
        return UINT64_MAX;
    if (clock_monotonic_nsec() <= end)
        return end;
    side->is_gap_told = true;
    tell(watch, COLOUR_BAD, "%s: no answer since %s", side->name, clock_format(side->gap.since, at));
    return UINT64_MAX;
}

void watch_look_for_gaps(struct timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, gap_timer);
    uint64_t steady = look_at_gap(watch, &watch->steady_side);
    uint64_t comers = look_at_gap(watch, &watch->comer_side);
    uint64_t next = steady < comers ? steady : comers;

    if (next != UINT64_MAX)
        event_loop_arm(&watch->loop, timer, next / NSEC_PER_USEC + 1);
}

void watch_owe(struct watch *watch, struct watch_side *side, uint64_t due_nsec)
{
    gap_owe(&side->gap, due_nsec);
    if (!timer_is_armed(&watch->gap_timer))
        watch_look_for_gaps(&watch->gap_timer);
}

static void end_gap(struct watch *watch, struct watch_side *side, uint64_t at_nsec, bool more,
                    const char *until)
{
    uint64_t allowed = watch->options->gap_usec * NSEC_PER_USEC;
    uint64_t gap = gap_served(&side->gap, at_nsec, more, allowed);
    char text[LATENCY_TEXT_SIZE];

    if (gap > allowed)
        tell(watch, COLOUR_BAD, "%s: no answer for %s, until %s", side->name, latency_format(gap, text),
             until);
    side->is_gap_told = false;
}

void watch_close_gap(struct watch *watch, struct watch_side *side)
{
    end_gap(watch, side, watch->end_nsec, false, "the end");
}

void watch_served(struct watch *watch, struct watch_side *side, uint64_t due_nsec, bool more)
{
    uint64_t now = clock_monotonic_nsec();
    char text[LATENCY_TEXT_SIZE];

    side->served++;
    histogram_add(&side->latency, now - due_nsec);
    end_gap(watch, side, now, more, "now");
    /* What was due before it went wrong says nothing. */
    if (!side->is_down || due_nsec < side->down_nsec)
        return;
    tell(watch, COLOUR_GOOD, "%s: works again after %s; %" PRIu64 " failed", side->name,
         latency_format(now - side->down_nsec, text), side->down_count);
    side->is_down = false;
    side->over_nsec = due_nsec;
}

/* How long somebody has waited by now. */
static uint64_t open_gap(const struct watch *watch, uint64_t now)
{
    uint64_t steady = watch->steady_side.gap.since, comers = watch->comer_side.gap.since;
    uint64_t since = steady == 0 || (comers != 0 && comers < steady) ? comers : steady;
    return since != 0 && since < now ? now - since : 0;
}

void watch_show_progress(struct timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, progress_timer);
    const struct watch_side *steady = &watch->steady_side, *comers = &watch->comer_side;
    uint64_t longest = steady->gap.longest_nsec > comers->gap.longest_nsec ? steady->gap.longest_nsec
                                                                           : comers->gap.longest_nsec;
    uint64_t now = clock_monotonic_nsec(), open = open_gap(watch, now);
    char text[LATENCY_TEXT_SIZE], waiting[LATENCY_TEXT_SIZE + 32] = "";

    if (open > PROGRESS_USEC * NSEC_PER_USEC)
        (void)snprintf(waiting, sizeof waiting, "no answer for %s  ", latency_format(open, text));
    if (open > longest)
        longest = open;
    terminal_progress(&watch->progress,
                      "%6.1f s  %slongest gap %s  broken %" PRIu64 "  refused %" PRIu64 "  wrong %" PRIu64,
                      (double)(now - watch->start_nsec) / (double)NSEC_PER_SEC, waiting,
                      latency_format(longest, text), steady->ends[PROBE_BROKEN] + comers->ends[PROBE_BROKEN],
                      steady->ends[PROBE_UNCONNECTED] + comers->ends[PROBE_UNCONNECTED],
                      steady->ends[PROBE_WRONG] + comers->ends[PROBE_WRONG]);
    event_loop_arm(&watch->loop, timer, clock_monotonic_usec() + PROGRESS_USEC);
}
