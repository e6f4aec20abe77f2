#include "client/watch/programs.h"

#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/net/dial.h"
#include "client/process/exit_status.h"
#include "client/report/json_document.h"
#include "client/report/nagios.h"
#include "client/report/prometheus.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- JSON ---- */

static void write_gap(struct json *json, const struct watch_summary *summary, const struct gap *gap)
{
    json_number(json, "longest_gap_s", clock_seconds(gap->longest_nsec));
    json_number(json, "longest_gap_into_watch_s", watch_into_run(summary, gap->longest_at_nsec));
    json_count(json, "longest_gap_at_unix_ms",
               gap->longest_nsec > 0 ? (uint64_t)watch_wall_msec(gap->longest_at_nsec) : 0);
}

static void write_slowest(struct json *json, const struct watch_side *side)
{
    json_number(json, "slowest_client_s", clock_seconds(side->slowest_nsec));
    json_count(json, "slowest_client_at_unix_ms",
               side->slowest_nsec > 0 ? (uint64_t)watch_wall_msec(side->slowest_at_nsec) : 0);
}

static void write_side(struct json *json, const char *key, const struct watch_summary *summary,
                       const struct watch_side *side)
{
    static const char *const not_begun[] = {[NOT_BEGUN_LATE] = "not_begun_late",
                                            [NOT_BEGUN_FULL] = "not_begun_full",
                                            [NOT_BEGUN_SHORT] = "not_begun_short"};

    json_open(json, key, '{');
    json_count(json, "begun", side->begun);
    json_count(json, "answered", side->answered);
    for (size_t i = 0; i < NOT_BEGUN_REASONS; i++)
        json_count(json, not_begun[i], side->not_begun[i]);
    if (side->short_error != 0)
        json_text(json, "short_error", strerror(side->short_error));
    write_gap(json, summary, &side->gap);
    write_slowest(json, side);
    json_count(json, "gaps_over_allowed", side->gap.over);
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        json_count(json, watch_failures[i].key, side->ends[watch_failures[i].end]);
    if (side->connect_error != 0)
        json_text(json, "connect_error", strerror(side->connect_error));
    if (side->ends[CONNECTION_BROKEN] > 0)
        json_text(json, "break_error", connection_break_reason(side->break_error));
    json_count(json, "wrong_bytes", side->wrong_bytes);
    json_times(json, "latency", &side->latency);
    json_close(json, '}');
}

void watch_print_json(const struct watch_summary *summary, int exit_status, FILE *out)
{
    struct json json = {.out = out};
    json_open_report(&json, "watch", summary->peer, summary->tried);
    json_number(&json, "elapsed_s", clock_seconds(summary->elapsed_nsec));
    json_number(&json, "interval_s", (double)summary->interval_usec / (double)USEC_PER_SEC);
    json_number(&json, "allowed_gap_s", (double)summary->allowed_usec / (double)USEC_PER_SEC);
    json_bool(&json, "clean", exit_status == 0);
    json_count(&json, "exit_status", (uint64_t)exit_status);
    if (print_error_latest()[0] != '\0')
        json_text(&json, "message", print_error_latest());
    write_gap(&json, summary, &watch_worse(summary)->gap);
    write_slowest(&json, watch_slower(summary));
    json_count(&json, "gaps_over_allowed", summary->steady->gap.over + summary->newcomers->gap.over);
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        json_count(&json, watch_failures[i].key, watch_total(summary, watch_failures[i].end));
    json_count(&json, "wrong_bytes", summary->steady->wrong_bytes + summary->newcomers->wrong_bytes);
    json_number(&json, "late_s", clock_seconds(summary->late_nsec));
    write_side(&json, "steady_client", summary, summary->steady);
    write_side(&json, "new_connections", summary, summary->newcomers);
    json_close(&json, '}');
}

/* ---- metrics ---- */

struct labelled {
    const struct watch_side *side;
    char labels[2 * PROMETHEUS_LABEL_SIZE];
};

static struct labelled label(const struct watch_summary *summary, const struct watch_side *side,
                             const char *name)
{
    struct labelled labelled = {.side = side};
    char server[PROMETHEUS_LABEL_SIZE];
    snprintf(labelled.labels, sizeof labelled.labels, "%s,client=\"%s\"",
             prometheus_label("server", summary->peer, server), name);
    return labelled;
}

static void write_failures(FILE *out, const struct labelled sides[static 2])
{
    char labels[sizeof sides[0].labels + 32];
    prometheus_head(out, "tcpecho_watch_failed_connections_total", "counter",
                    "Connections that were broken, refused, timed out or had wrong bytes.");
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < WATCH_FAILURES; i++) {
            snprintf(labels, sizeof labels, "%s,reason=\"%s\"", sides[s].labels, watch_failures[i].key);
            prometheus_sample(out, "tcpecho_watch_failed_connections_total", labels,
                              (double)sides[s].side->ends[watch_failures[i].end]);
        }
}

void watch_write_metrics(FILE *out, const void *what)
{
    const struct watch_summary *summary = what;
    const struct labelled sides[2] = {label(summary, summary->steady, "steady"),
                                      label(summary, summary->newcomers, "new")};
    static const struct {
        const char *name, *type, *help;
    } metrics[] = {
        {"tcpecho_watch_up", "gauge",
         "Whether nothing has failed since the latest answer, and nobody waits for longer than allowed."},
        {"tcpecho_watch_begun_total", "counter", "Messages of the steady client, or new connections."},
        {"tcpecho_watch_answered_total", "counter", "Those of them that were served."},
        {"tcpecho_watch_gaps_total", "counter", "Gaps that were longer than allowed."},
        {"tcpecho_watch_longest_gap_seconds", "gauge", "The longest time in which nobody was served."},
        {"tcpecho_watch_gap_seconds", "gauge", "How long nobody has been served by now."},
    };
    uint64_t now = clock_monotonic_nsec();
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        prometheus_head(out, metrics[i].name, metrics[i].type, metrics[i].help);
        for (size_t s = 0; s < 2; s++) {
            const struct watch_side *side = sides[s].side;
            uint64_t since = side->gap.since;
            double open = clock_seconds(since != 0 && since < now ? now - since : side->last_gap_nsec);
            bool is_silent = side->answered == 0 && side->last_gap_nsec > 0; /* to the end */
            bool is_waiting = is_silent || open * (double)USEC_PER_SEC > (double)summary->allowed_usec;
            double longest = clock_seconds(side->gap.longest_nsec);
            const double values[] = {summary->status == 0 && !side->is_failing && !is_waiting,
                                     (double)side->begun,
                                     (double)side->answered,
                                     (double)side->gap.over,
                                     open > longest ? open : longest,
                                     open};
            prometheus_sample(out, metrics[i].name, sides[s].labels, values[i]);
        }
    }
    write_failures(out, sides);
    prometheus_head(out, "tcpecho_watch_time_seconds", "summary",
                    "From when it was due until it was answered.");
    for (size_t s = 0; s < 2; s++) {
        const struct histogram *times = &sides[s].side->latency;
        prometheus_sample(out, "tcpecho_watch_time_seconds_sum", sides[s].labels,
                          times->sum / (double)NSEC_PER_SEC);
        prometheus_sample(out, "tcpecho_watch_time_seconds_count", sides[s].labels, (double)times->count);
    }
}

/* ---- a check ---- */

#define FAILURES_SIZE 512

/* " (2 refused: Connection refused, 1 timed out)"; "" when none failed. */
static void format_failures(const struct watch_summary *summary, char out[static FAILURES_SIZE])
{
    const struct watch_side *sides[] = {summary->steady, summary->newcomers};
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < WATCH_FAILURES; i++) {
        enum connection_end end = watch_failures[i].end;
        uint64_t count = watch_total(summary, end);
        if (count == 0)
            continue;
        const struct watch_side *side = sides[sides[0]->ends[end] > 0 ? 0 : 1];
        const char *reason = end == CONNECTION_UNCONNECTED ? strerror(side->connect_error)
                             : end == CONNECTION_BROKEN    ? connection_break_reason(side->break_error)
                                                           : NULL;
        length += (size_t)snprintf(
            out + length, FAILURES_SIZE - length, "%s%" PRIu64 " %s%s%s", length == 0 ? " (" : ", ", count,
            watch_failures[i].text + strlen("connections "), reason ? ": " : "", reason ? reason : "");
    }
    if (length > 0)
        snprintf(out + length, FAILURES_SIZE - length, ")");
}

/* ", 3 not begun: Too many open files, nothing was answered": what may be wrong beside failures and gaps. */
static void format_lack(const struct watch_summary *summary, char out[static FAILURES_SIZE])
{
    const struct watch_side *sides[] = {summary->steady, summary->newcomers};
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < 2; i++)
        if (sides[i]->not_begun[NOT_BEGUN_SHORT] > 0)
            length += (size_t)snprintf(out + length, FAILURES_SIZE - length, ", %" PRIu64 " not begun: %s",
                                       sides[i]->not_begun[NOT_BEGUN_SHORT], strerror(sides[i]->short_error));
    if (summary->steady->answered == 0)
        snprintf(out + length, FAILURES_SIZE - length, ", the steady client was not answered");
}

int watch_print_check(const struct watch_summary *summary, const struct client_options *options,
                      bool is_file_bad, FILE *out)
{
    /* As it is told: the state agrees with the figure and its thresholds. */
    double gap = (double)(watch_worse(summary)->gap.longest_nsec / NSEC_PER_USEC) / (double)USEC_PER_SEC;
    double warning = (double)options->warning_usec / (double)USEC_PER_SEC;
    double critical = (double)options->critical_usec / (double)USEC_PER_SEC;
    uint64_t failed = 0;
    bool was_short = watch_was_short(summary);
    char text[ENDPOINT_TEXT_SIZE + 2 * FAILURES_SIZE + DIAL_TRIED_SIZE + 256], data[256];
    char failures[FAILURES_SIZE], lack[FAILURES_SIZE], limit[DURATION_TEXT_SIZE],
        over[DURATION_TEXT_SIZE + 8] = "";
    for (size_t i = 0; i < WATCH_FAILURES; i++)
        failed += watch_total(summary, watch_failures[i].end);
    enum nagios_state state = failed > 0 || gap > warning ? NAGIOS_WARNING : NAGIOS_OK;
    if (was_short || is_file_bad)
        state = NAGIOS_UNKNOWN;
    if (gap > critical || (summary->steady->answered == 0 && !was_short) ||
        watch_total(summary, CONNECTION_WRONG) > 0)
        state = NAGIOS_CRITICAL;
    if (state == NAGIOS_UNKNOWN && is_file_bad)
        return EXIT_FILE;
    format_failures(summary, failures);
    if (gap > warning)
        snprintf(
            over, sizeof over, " over %s",
            units_format_duration(gap > critical ? options->critical_usec : options->warning_usec, limit));
    format_lack(summary, lack);
    snprintf(text, sizeof text,
             "%s: longest gap %.3f s%s, %" PRIu64 " connection%s failed%s%s, watched for %.1f s%s%s",
             summary->peer, floor(gap * 1000) / 1000, over, failed, plural(failed), failures, lack,
             watch_seconds_up(summary->elapsed_nsec, 10), summary->tried[0] != '\0' ? ", also tried: " : "",
             summary->tried);
    snprintf(data, sizeof data, "gap=%.6fs;%.6f;%.6f;0 failed=%" PRIu64 ";0;;0", gap, warning, critical,
             failed);
    return nagios_print(out, state, text, data);
}
