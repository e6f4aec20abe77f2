#include "base/clock.h"
#include "client/bench/report.h"
#include "client/report/json.h"

#include <string.h>

static void write_time(struct json *json, const char *key, const struct histogram *times, uint64_t nsec)
{
    if (times->count > 0)
        json_count(json, key, nsec, "ns");
    else
        json_none(json, key, "ns");
}

static void write_times(struct json *json, const char *key, const struct histogram *times)
{
    static const struct {
        const char *name;
        unsigned per_million;
    } quantiles[] = {{"p50", 500000}, {"p90", 900000}, {"p99", 990000}, {"p99.9", 999000}};

    json_open(json, key, '{');
    json_count(json, "count", times->count, "1");
    write_time(json, "min", times, times->min);
    if (times->count > 0)
        json_number(json, "mean", histogram_mean(times), "ns");
    else
        json_none(json, "mean", "ns");
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++)
        write_time(json, quantiles[i].name, times, histogram_quantile(times, quantiles[i].per_million));
    write_time(json, "max", times, times->max);
    json_close(json, '}');
}

static void write_plan(struct json *json, const struct load_plan *plan)
{
    json_open(json, "plan", '{');
    json_text(json, "expect", expect_name(plan->expect));
    json_count(json, "connections", plan->connections, "1");
    json_count(json, "threads", plan->threads, "1");
    json_count(json, "size", plan->size, "bytes");
    if (plan->count > 0)
        json_count(json, "count", plan->count, "messages");
    if (plan->rate > 0)
        json_count(json, "rate", plan->rate, "messages/s");
    if (plan->duration_usec != USEC_NEVER)
        json_number(json, "duration", (double)plan->duration_usec / (double)USEC_PER_SEC, "s");
    json_close(json, '}');
}

static void write_traffic(struct json *json, const struct bench_summary *summary)
{
    const struct load_result *result = summary->result;
    double elapsed = (double)summary->elapsed_nsec / (double)NSEC_PER_SEC;

    json_number(json, "elapsed", elapsed, "s");
    json_bool(json, "interrupted", summary->interrupted);
    json_count(json, "messages", result->messages, "messages");
    json_number(json, "messages_per_second", elapsed > 0 ? (double)result->messages / elapsed : 0,
                "messages/s");
    json_count(json, "bytes", result->bytes, "bytes");
    json_number(json, "bytes_per_second", elapsed > 0 ? (double)result->bytes / elapsed : 0, "bytes/s");
    write_times(json, "latency", &result->latency);
    write_times(json, "connect", &result->connect);
    if (summary->plan->rate > 0)
        write_times(json, "late", &result->lag);
}

static void write_client(struct json *json, const struct bench_summary *summary)
{
    const struct load_result *result = summary->result;
    json_open(json, "client", '{');
    json_number(json, "cpu", (double)result->cpu_nsec / (double)NSEC_PER_SEC, "s");
    if (result->messages > 0)
        json_number(json, "cpu_per_message", (double)result->cpu_nsec / (double)result->messages, "ns");
    json_number(json, "waited_for_cpu", (double)result->queued_nsec / (double)NSEC_PER_SEC, "s");
    json_number(json, "busiest_thread", 100 * result->busy, "%");
    json_bool(json, "limited", bench_is_client_limited(summary->plan, result));
    json_close(json, '}');
}

static void write_mistakes(struct json *json, const struct load_result *result)
{
    char text[FAULT_TEXT_SIZE];

    json_bool(json, "clean", bench_is_clean(result));
    json_count(json, "connected", result->connected, "connections");
    json_count(json, "not_connected", result->unconnected, "connections");
    if (result->unconnected > 0)
        json_text(json, "connect_error", strerror(result->connect_error));
    json_count(json, "broken", result->broken, "connections");
    if (result->broken > 0)
        json_text(json, "break_error",
                  result->break_error != 0 ? strerror(result->break_error) : "closed by the server");
    json_count(json, "wrong", result->wrong, "connections");
    json_count(json, "not_closed_behind_us", result->unended, "connections");
    json_count(json, "unanswered", result->unanswered, "messages");
    json_count(json, "not_sent", result->unsent, "messages");
    json_open(json, "faults", '[');
    for (unsigned i = 0; i < result->fault_count; i++) {
        json_open(json, NULL, '{');
        json_count(json, "connection", result->faults[i].connection, "1");
        json_text(json, "kind", fault_kind_name(result->faults[i].fault.kind));
        json_count(json, "offset", result->faults[i].fault.offset, "bytes");
        json_count(json, "length", result->faults[i].fault.length, "bytes");
        json_text(json, "what", fault_format(&result->faults[i].fault, text));
        json_close(json, '}');
    }
    json_close(json, ']');
}

/* Rows of [lowest time, first time behind it, messages], for those buckets that are not empty. */
static void write_histogram(struct json *json, const struct histogram *latency)
{
    json_open(json, "latency_histogram", '{');
    json_text(json, "unit", "ns");
    json_open(json, "columns", '[');
    json_text(json, NULL, "from");
    json_text(json, NULL, "below");
    json_text(json, NULL, "messages");
    json_close(json, ']');
    json_open(json, "rows", '[');
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (latency->buckets[i] > 0)
            json_row(
                json,
                (const uint64_t[]){histogram_bucket_low(i), histogram_bucket_low(i + 1), latency->buckets[i]},
                3);
    json_close(json, ']');
    json_close(json, '}');
}

void bench_print_json(const struct bench_summary *summary, FILE *out)
{
    struct json json = {.out = out};

    json_open(&json, NULL, '{');
    json_text(&json, "tcpecho", PACKAGE_VERSION);
    json_text(&json, "mode", "bench");
    json_text(&json, "server", summary->peer);
    write_plan(&json, summary->plan);
    write_traffic(&json, summary);
    write_mistakes(&json, summary->result);
    write_client(&json, summary);
    write_histogram(&json, &summary->result->latency);
    json_close(&json, '}');
}
