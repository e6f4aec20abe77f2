#include "client/watch/report.h"

#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

const struct watch_failure watch_failures[WATCH_FAILURES] = {
    {CONNECTION_BROKEN, "connections broken", "broken"},
    {CONNECTION_UNCONNECTED, "connections refused", "refused"},
    {CONNECTION_TIMED_OUT, "connections timed out", "timed_out"},
    {CONNECTION_WRONG, "connections with wrong bytes", "wrong"},
};

uint64_t watch_total(const struct watch_summary *summary, enum connection_end end)
{
    return summary->steady->ends[end] + summary->newcomers->ends[end];
}

bool watch_has_outage(const struct watch_summary *summary)
{
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        if (watch_total(summary, watch_failures[i].end) > 0)
            return true;
    return summary->steady->gap.over > 0 || summary->newcomers->gap.over > 0 ||
           (summary->steady->answered == 0 && !summary->reader_gone);
}

bool watch_was_short(const struct watch_summary *summary)
{
    return summary->steady->not_begun[NOT_BEGUN_SHORT] + summary->newcomers->not_begun[NOT_BEGUN_SHORT] > 0;
}

bool watch_is_clean(const struct watch_summary *summary)
{
    return !watch_has_outage(summary) && !watch_was_short(summary);
}

double watch_seconds_up(uint64_t nsec, unsigned parts)
{
    return ceil(clock_seconds(nsec) * parts) / parts;
}

/* A moment of CLOCK_MONOTONIC as one of CLOCK_REALTIME. */
int64_t watch_wall_msec(uint64_t monotonic_nsec)
{
    return (int64_t)(clock_usec(CLOCK_REALTIME) / USEC_PER_MSEC) -
           ((int64_t)clock_monotonic_nsec() - (int64_t)monotonic_nsec) / 1000000;
}

const char *clock_format(uint64_t monotonic_nsec, char out[static CLOCK_TEXT_SIZE])
{
    int64_t msec = watch_wall_msec(monotonic_nsec);
    time_t seconds = (time_t)(msec / 1000);
    struct tm local;
    if (!localtime_r(&seconds, &local))
        local = (struct tm){0};
    size_t length = strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &local);
    snprintf(out + length, CLOCK_TEXT_SIZE - length, ".%03d", (int)(msec % 1000));
    return out;
}

#define DATE_LENGTH (sizeof "2026-11-28 " - 1)

const char *clock_format_since(uint64_t monotonic_nsec, char out[static CLOCK_TEXT_SIZE])
{
    char now[CLOCK_TEXT_SIZE];
    clock_format(clock_monotonic_nsec(), now);
    clock_format(monotonic_nsec, out);
    return strncmp(now, out, DATE_LENGTH) == 0 ? out + DATE_LENGTH : out;
}

const struct watch_side *watch_worse(const struct watch_summary *summary)
{
    return summary->steady->gap.longest_nsec >= summary->newcomers->gap.longest_nsec ? summary->steady
                                                                                     : summary->newcomers;
}

const struct watch_side *watch_slower(const struct watch_summary *summary)
{
    return summary->steady->slowest_nsec >= summary->newcomers->slowest_nsec ? summary->steady
                                                                             : summary->newcomers;
}

double watch_into_run(const struct watch_summary *summary, uint64_t at_nsec)
{
    return at_nsec > summary->start_nsec ? clock_seconds(at_nsec - summary->start_nsec) : 0;
}

/* ---- for people ---- */

#define WORST_COLUMN 30

/* A hundredth of a second, never later than it was. */
static double down(double seconds)
{
    return floor(seconds * 100) / 100;
}

static void print_moment(const struct watch_summary *summary, uint64_t at_nsec, FILE *out)
{
    char at[CLOCK_TEXT_SIZE];
    fprintf(out, "at %s, %.2f s into the watch\n", clock_format(at_nsec, at),
            down(watch_into_run(summary, at_nsec)));
}

static void print_side(const struct watch_summary *summary, const struct watch_side *side, const char *things,
                       FILE *out)
{
    char text[LATENCY_TEXT_SIZE], p99[LATENCY_TEXT_SIZE], max[LATENCY_TEXT_SIZE];
    fprintf(out, "\n%s: %" PRIu64 " %s, %" PRIu64 " answered\n", side->name, side->begun, things,
            side->answered);
    if (side->latency.count > 0)
        fprintf(out, "  latency p50 %s, p99 %s, max %s\n",
                latency_format_down(histogram_quantile(&side->latency, P50), text),
                latency_format_down(histogram_quantile(&side->latency, P99), p99),
                latency_format_down(side->latency.max, max));
    if (side->gap.longest_nsec > 0) {
        fprintf(out, "  longest gap %s, ", latency_format_down(side->gap.longest_nsec, text));
        print_moment(summary, side->gap.longest_at_nsec, out);
    }
    fprintf(out,
            "  %" PRIu64 " broken, %" PRIu64 " refused, %" PRIu64 " timed out, %" PRIu64
            " with wrong bytes\n",
            side->ends[CONNECTION_BROKEN], side->ends[CONNECTION_UNCONNECTED],
            side->ends[CONNECTION_TIMED_OUT], side->ends[CONNECTION_WRONG]);
}

static void print_not_begun(const struct watch_side *side, FILE *out)
{
    const char *advice = side->short_error == EADDRNOTAVAIL ? "; every local port is taken" : "";
    const char *reasons[] = {[NOT_BEGUN_LATE] = "tcpecho itself was late",
                             [NOT_BEGUN_FULL] = "too many were under way",
                             [NOT_BEGUN_SHORT] = strerror(side->short_error)};

    for (size_t i = 0; i < NOT_BEGUN_REASONS; i++)
        if (side->not_begun[i] > 0)
            fprintf(out, "  %" PRIu64 " not begun: %s%s\n", side->not_begun[i], reasons[i],
                    i == NOT_BEGUN_SHORT ? advice : "");
}

static void print_errors(const struct watch_side *side, FILE *out)
{
    if (side->connect_error != 0)
        fprintf(out, "  last refusal: %s\n", strerror(side->connect_error));
    if (side->ends[CONNECTION_BROKEN] > 0)
        fprintf(out, "  last break: %s\n", connection_break_reason(side->break_error));
}

static void print_worst(const struct watch_summary *summary, const char *what, const struct watch_side *side,
                        uint64_t nsec, uint64_t at_nsec, FILE *out)
{
    char text[LATENCY_TEXT_SIZE];
    fprintf(out, "%-*s%s", WORST_COLUMN, what, latency_format_down(nsec, text));
    if (nsec == 0) {
        fputc('\n', out);
        return;
    }
    fprintf(out, " (%s)\n  ", side->name);
    print_moment(summary, at_nsec, out);
}

/* One row, of the last seconds that fit. */
static void print_chart(const struct chart *chart, const struct terminal *terminal, FILE *out)
{
    char row[CHART_CELLS + 1];
    unsigned width = terminal_width(terminal);
    unsigned count = chart_format(chart, width > 3 ? width - 3 : 1, row);
    bool is_all = chart->second < count;
    fprintf(out, "\nthe %s of the watch, a cell a second: . served, - slow, # gap, x failure\n|%s|\n",
            is_all ? "whole" : "end", row);
}

void watch_print(const struct watch_summary *summary, const struct terminal *terminal, FILE *out)
{
    char interval[DURATION_TEXT_SIZE], allowed[DURATION_TEXT_SIZE], late[LATENCY_TEXT_SIZE];
    const struct watch_side *gap = watch_worse(summary), *slow = watch_slower(summary);
    bool clean = watch_is_clean(summary);

    print_wrapped(out, terminal_width(terminal), 0, "%s: watched for %.2f s", summary->peer,
                  watch_seconds_up(summary->elapsed_nsec, 100));
    fprintf(out, "\na message and a new connection every %s\n",
            units_format_duration(summary->interval_usec, interval));
    print_tried(out, summary->tried);
    print_worst(summary, "longest gap", gap, gap->gap.longest_nsec, gap->gap.longest_at_nsec, out);
    print_worst(summary, "slowest single client", slow, slow->slowest_nsec, slow->slowest_at_nsec, out);
    fprintf(out, "gaps over %-19s %" PRIu64 "\n", units_format_duration(summary->allowed_usec, allowed),
            summary->steady->gap.over + summary->newcomers->gap.over);
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        fprintf(out, "%-29s %" PRIu64 "\n", watch_failures[i].text,
                watch_total(summary, watch_failures[i].end));
    fprintf(out, "bytes wrong                   %" PRIu64 "\n",
            summary->steady->wrong_bytes + summary->newcomers->wrong_bytes);
    fprintf(out, "tcpecho itself late by        %s at most\n", latency_format_down(summary->late_nsec, late));
    print_side(summary, summary->steady, summary->steady->begun == 1 ? "message" : "messages", out);
    print_not_begun(summary->steady, out);
    print_errors(summary->steady, out);
    print_side(summary, summary->newcomers, "begun", out);
    print_not_begun(summary->newcomers, out);
    print_errors(summary->newcomers, out);
    print_chart(summary->chart, terminal, out);
    fprintf(out, "\n%s%s%s\n", terminal_colour(terminal, clean ? COLOUR_GOOD : COLOUR_BAD),
            clean                       ? "no outage"
            : watch_has_outage(summary) ? "outage"
                                        : "no outage seen, but tcpecho could not begin all that was due",
            terminal_colour(terminal, COLOUR_OFF));
}
