#include "client/ping/report.h"

#include "base/clock.h"
#include "base/plural.h"
#include "client/net/connection.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define EWMA_WEIGHT (1.0 / 8)

/* What is longer leaves no room for one more on a line of 80 columns. */
#define WRAP_WIDTH 50

void ping_times_add(struct ping_times *times, uint64_t usec)
{
    if (times->count == 0 || usec < times->minimum)
        times->minimum = usec;
    if (usec > times->maximum)
        times->maximum = usec;
    times->ewma = times->count == 0 ? (double)usec : times->ewma + EWMA_WEIGHT * ((double)usec - times->ewma);
    times->count++;
    times->sum += (double)usec;
    times->sum_of_squares += (double)usec * (double)usec;
}

double ping_times_mean(const struct ping_times *times)
{
    return times->count > 0 ? times->sum / (double)times->count : 0;
}

/* As ping(8) reckons: the root of the mean of the squares less the square of the mean. */
double ping_times_mdev(const struct ping_times *times)
{
    double mean = ping_times_mean(times);
    double variance = times->count > 0 ? times->sum_of_squares / (double)times->count - mean * mean : 0;
    return sqrt(variance > 0 ? variance : 0);
}

const char *ping_format_time(uint64_t usec, char out[static PING_TIME_TEXT_SIZE])
{
    int digits = usec < 1000 ? 3 : usec < 10000 ? 2 : usec < 100000 ? 1 : 0;
    snprintf(out, PING_TIME_TEXT_SIZE, "%.*f", digits, (double)usec / USEC_PER_MSEC);
    return out;
}

double ping_lost_percent(const struct ping_counts *counts)
{
    uint64_t judged = counts->received + counts->lost;
    return judged > 0 ? 100.0 * (double)counts->lost / (double)judged : 0.0;
}

bool ping_is_clean(const struct ping_counts *counts)
{
    return counts->received > 0 && counts->lost == 0 && counts->corrupted == 0 && counts->duplicates == 0 &&
           counts->too_late == 0 && counts->broken == 0;
}

/* ---- lines ---- */

const char *ping_line_error(const struct ping_line *line)
{
    switch (line->kind) {
    case PING_LINE_BROKEN:
        return connection_break_reason(line->error);
    case PING_LINE_UNCONNECTED:
        return line->text ? line->text : strerror(line->error);
    case PING_LINE_REFUSED:
    case PING_LINE_UNREACHABLE:
        return strerror(line->error);
    default:
        return NULL;
    }
}

#define TIME "time=%s" NO_BREAK "ms"

/* From column `at` on. */
static void print_text(const struct ping_report *report, const struct ping_line *line, unsigned at)
{
    char time[PING_TIME_TEXT_SIZE], fault[FAULT_TEXT_SIZE];
    unsigned width = terminal_width(&report->terminal);
    FILE *out = report->out;
    const char *peer = line->peer;
    uint64_t number = line->number;
    ping_format_time(line->usec, time);
    switch (line->kind) {
    case PING_LINE_REPLY:
    case PING_LINE_DUPLICATE:
        print_wrapped(out, width, at, "%zu bytes from %s: seq=%" PRIu64 " " TIME "%s", report->size, peer,
                      number, time, line->kind == PING_LINE_DUPLICATE ? " (DUP!)" : "");
        break;
    case PING_LINE_CORRUPT:
        print_wrapped(out, width, at, "from %s: seq=%" PRIu64 " CORRUPT: %s", peer, number,
                      fault_format(line->fault, fault));
        break;
    case PING_LINE_TOO_LATE:
        print_wrapped(out, width, at, "%zu bytes from %s: seq=%" PRIu64 " too late to tell the time",
                      report->size, peer, number);
        break;
    case PING_LINE_SILENT:
        print_wrapped(out, width, at, "no answer from %s: seq=%" PRIu64, peer, number);
        break;
    case PING_LINE_BROKEN:
        print_wrapped(out, width, at, "connection to %s broken: %s", peer, ping_line_error(line));
        break;
    case PING_LINE_RECONNECTED:
        print_wrapped(out, width, at, "connected again to %s in %s" NO_BREAK "ms", peer, time);
        break;
    case PING_LINE_UNCONNECTED:
        print_wrapped(out, width, at, "cannot connect to %s: %s", peer, ping_line_error(line));
        break;
    case PING_LINE_MADE:
        print_wrapped(out, width, at, "connected to %s: seq=%" PRIu64 " " TIME, peer, number, time);
        break;
    case PING_LINE_REFUSED:
        print_wrapped(out, width, at, "refused by %s: seq=%" PRIu64 " " TIME, peer, number, time);
        break;
    case PING_LINE_UNREACHABLE:
        print_wrapped(out, width, at, "cannot reach %s: seq=%" PRIu64 " %s", peer, number,
                      ping_line_error(line));
        break;
    }
}

/* A duplicate and a late answer are no colour's worth: they came, and are right. */
static bool is_bad(enum ping_line_kind kind)
{
    return kind == PING_LINE_CORRUPT || kind == PING_LINE_SILENT || kind == PING_LINE_BROKEN ||
           kind == PING_LINE_UNCONNECTED || kind == PING_LINE_REFUSED || kind == PING_LINE_UNREACHABLE;
}

/* As ping(8) floods a terminal: what is left of the dots is what is missing. Elsewhere a dot is only written
 * for that, since nothing can be taken back. */
static void print_flood(const struct ping_report *report, const struct ping_line *line)
{
    bool is_answer = line->kind == PING_LINE_REPLY || line->kind == PING_LINE_MADE;
    if (report->terminal.is_rich && is_answer)
        fputs("\b \b", report->out);
    else if (!report->terminal.is_rich && line->kind == PING_LINE_SILENT)
        fputc('.', report->out);
    else if (line->kind != PING_LINE_SILENT && is_bad(line->kind))
        fputc('E', report->out);
}

void ping_print_sent(const struct ping_report *report)
{
    if (report->flood && !report->quiet && report->terminal.is_rich)
        fputc('.', report->out);
}

/* Returns its columns. */
static unsigned print_timestamp(FILE *out)
{
    uint64_t now = clock_usec(CLOCK_REALTIME);
    return (unsigned)fprintf(out, "[%" PRIu64 ".%06" PRIu64 "] ", now / USEC_PER_SEC, now % USEC_PER_SEC);
}

void ping_print_line(const struct ping_report *report, const struct ping_line *line)
{
    if (report->quiet)
        return;
    if (report->flood) {
        print_flood(report, line);
        return;
    }
    fputs(is_bad(line->kind) ? terminal_colour(&report->terminal, COLOUR_BAD) : "", report->out);
    print_text(report, line, report->timestamps ? print_timestamp(report->out) : 0);
    fputs(is_bad(line->kind) ? terminal_colour(&report->terminal, COLOUR_OFF) : "", report->out);
    fputc('\n', report->out);
}

/* ---- the summary ---- */

static void print_times(FILE *out, const char *name, const struct ping_times *times)
{
    if (times->count > 0)
        fprintf(out, "%s min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", name,
                (double)times->minimum / USEC_PER_MSEC, ping_times_mean(times) / USEC_PER_MSEC,
                (double)times->maximum / USEC_PER_MSEC, ping_times_mdev(times) / USEC_PER_MSEC);
}

/* "2 duplicates, 1 under way": what there was beside answers. */
static void print_rest(FILE *out, unsigned screen, const struct ping_counts *counts)
{
    const struct {
        uint64_t count;
        const char *one, *many;
    } rest[] = {
        {counts->duplicates, "duplicate", "duplicates"},
        {counts->corrupted, "corrupted", "corrupted"},
        {counts->too_late, "too late", "too late"},
        {counts->refused, "refused", "refused"},
        {counts->silent, "silent", "silent"},
        {counts->unreachable, "unreachable", "unreachable"},
        {counts->late, "not sent in time", "not sent in time"},
        {counts->pending, "under way", "under way"},
    };
    int width = 0;
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
        if (rest[i].count > 0) {
            const char *before = width == 0 ? "" : width < WRAP_WIDTH ? ", " : ",\n";
            width = width < WRAP_WIDTH ? width : 0;
            width += fprintf(out, "%s%" PRIu64 " %s", before, rest[i].count,
                             rest[i].count == 1 ? rest[i].one : rest[i].many);
        }
    if (width > 0)
        fputc('\n', out);
    if (counts->broken + counts->unconnected == 0)
        return;
    print_wrapped(out, screen, 0,
                  "connection broken %" PRIu64 " time%s, reconnected %" PRIu64 " time%s, %" PRIu64
                  " attempt%s failed",
                  counts->broken, plural(counts->broken), counts->reconnected, plural(counts->reconnected),
                  counts->unconnected, plural(counts->unconnected));
    fputc('\n', out);
}

void ping_print_summary(const struct ping_report *report, const char *host, const struct ping_counts *counts)
{
    FILE *out = report->out;
    unsigned width = terminal_width(&report->terminal);
    fputc('\n', out);
    print_wrapped(out, width, 0, "--- %s ping statistics ---", host);
    fputc('\n', out);
    char not_sent[32 + sizeof ", not sent"] = "";
    if (counts->not_sent > 0)
        snprintf(not_sent, sizeof not_sent, ", %" PRIu64 " not sent", counts->not_sent);
    print_wrapped(out, width, 0,
                  report->connect ? "%" PRIu64 " connection%s tried%s, %" PRIu64 " made, %" PRIu64
                                    " failed (%.4g%%), time %" PRIu64 " ms"
                                  : "%" PRIu64 " message%s transmitted%s, %" PRIu64 " received, %" PRIu64
                                    " lost (%.4g%%), time %" PRIu64 " ms",
                  counts->sent, plural(counts->sent), not_sent, counts->received, counts->lost,
                  ping_lost_percent(counts), counts->usec / USEC_PER_MSEC);
    fputc('\n', out);
    print_rest(out, width, counts);
    print_times(out, "rtt", &counts->times);
    print_times(out, "refused", &counts->refusals);
}

void ping_print_interim(FILE *out, unsigned width, const char *host, const struct ping_counts *counts)
{
    const struct ping_times *times = &counts->times;
    char figures[128] = "";
    if (times->count > 0)
        snprintf(figures, sizeof figures, ", min/avg/ewma/max = %.3f/%.3f/%.3f/%.3f" NO_BREAK "ms",
                 (double)times->minimum / USEC_PER_MSEC, ping_times_mean(times) / USEC_PER_MSEC,
                 times->ewma / USEC_PER_MSEC, (double)times->maximum / USEC_PER_MSEC);
    print_wrapped(out, width, 0, "%s: %" PRIu64 "/%" PRIu64 " answered, %.4g%% lost%s", host,
                  counts->received, counts->sent + counts->not_sent, ping_lost_percent(counts), figures);
    fputc('\n', out);
}
