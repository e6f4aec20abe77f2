#include "base/clock.h"
#include "base/streams.h"
#include "client/bench/report.h"
#include "client/check/pattern.h"
#include "client/net/connection.h"
#include "client/report/json_document.h"
#include "client/report/output.h"

#include <string.h>

void bench_write_plan(struct json *json, const struct load_plan *plan)
{
    json_open(json, "plan", '{');
    if (plan->direction)
        json_text(json, "direction", plan->direction);
    else
        json_text(json, "expect", expect_name(plan->expect));
    json_count(json, "connections", plan->connections);
    json_count(json, "threads", plan->threads);
    json_count(json, "message_bytes", plan->size);
    if (!plan->direction)
        json_bool(json, "reconnect", plan->reconnect);
    if (plan->count > 0)
        json_count(json, "messages", plan->count);
    if (plan->rate > 0)
        json_count(json, "messages_per_second", plan->rate);
    if (plan->duration_usec != USEC_NEVER)
        json_number(json, "duration_s", (double)plan->duration_usec / (double)USEC_PER_SEC);
    json_close(json, '}');
}

static void write_traffic(struct json *json, const struct bench_summary *summary)
{
    const struct load_result *result = summary->result;
    double elapsed = clock_seconds(summary->elapsed_nsec);
    json_number(json, "elapsed_s", elapsed);
    json_bool(json, "interrupted", summary->interrupted);
    json_count(json, "messages", result->messages);
    json_number(json, "messages_per_second", elapsed > 0 ? (double)result->messages / elapsed : 0);
    json_count(json, "bytes", result->bytes);
    json_number(json, "bytes_per_second", elapsed > 0 ? (double)result->bytes / elapsed : 0);
    json_times(json, "latency", &result->latency);
    json_times(json, "connect", &result->connect);
    if (summary->plan->rate > 0)
        json_times(json, "late", &result->lag);
}

static void write_mistakes(struct json *json, const struct load_result *result)
{
    json_bool(json, "clean", bench_is_clean(result));
    bench_write_trouble(json, result);
    json_count(json, "unanswered", result->unanswered);
    json_count(json, "not_sent", result->unsent);
}

void bench_write_trouble(struct json *json, const struct load_result *result)
{
    char text[FAULT_TEXT_SIZE];
    json_count(json, "connected", result->connected);
    json_count(json, "not_connected", result->unconnected);
    if (result->unconnected > 0)
        json_text(json, "connect_error", load_connect_reason(result->connect_error));
    json_count(json, "broken", result->broken);
    if (result->broken > 0)
        json_text(json, "break_error", connection_break_reason(result->break_error));
    json_count(json, "wrong", result->wrong);
    json_count(json, "not_closed_by_server", result->unended);
    json_open(json, "faults", '[');
    for (unsigned i = 0; i < result->fault_count; i++) {
        const struct fault *fault = &result->faults[i].fault;
        json_open(json, NULL, '{');
        json_count(json, "connection", result->faults[i].connection);
        json_text(json, "kind", fault_kind_name(fault->kind));
        json_count(json, "offset_bytes", fault->offset);
        json_count(json, "length_bytes", fault->length);
        json_text(json, "text", fault_format(fault, text));
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void write_client(struct json *json, const struct bench_summary *summary)
{
    const struct load_result *result = summary->result;
    json_number(json, "client_cpu_s", clock_seconds(result->cpu_nsec));
    if (result->messages > 0)
        json_number(json, "client_cpu_per_message_ns", (double)result->cpu_nsec / (double)result->messages);
    json_number(json, "client_cpu_wait_s", clock_seconds(result->queued_nsec));
    json_number(json, "client_busiest_thread_percent", 100 * result->busy);
    json_bool(json, "client_limited", bench_is_client_limited(result));
}

/* Rows of [lowest time, first time after it, messages], for those buckets that are not empty. */
static void write_histogram(struct json *json, const struct histogram *latency)
{
    json_open(json, "latency_histogram_ns", '[');
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        const uint64_t row[] = {histogram_bucket_low(i), histogram_bucket_low(i + 1), latency->buckets[i]};
        if (latency->buckets[i] > 0)
            json_row(json, row, 3);
    }
    json_close(json, ']');
}

void bench_print_json(const struct bench_summary *summary, FILE *out)
{
    struct json json = {.out = out};
    json_open_report(&json, "bench", summary->peer, summary->tried);
    bench_write_plan(&json, summary->plan);
    write_traffic(&json, summary);
    write_mistakes(&json, summary->result);
    write_client(&json, summary);
    write_histogram(&json, &summary->result->latency);
    json_close(&json, '}');
}

static void write_failure(const struct client_options *options, int status)
{
    static const char *const none[] = {"elapsed_s", "bytes",    "bytes_per_second",
                                       "connected", "messages", "messages_per_second"};
    const struct load_plan plan = load_plan_of(options);
    struct json json = {.out = stdout};
    size_t count = sizeof none / sizeof none[0] - (plan.direction ? 2 : 0); /* one way has no messages */
    json_open_report(&json, "bench", options->host, "");
    bench_write_plan(&json, &plan);
    json_bool(&json, "interrupted", false);
    for (size_t i = 0; i < count; i++)
        json_count(&json, none[i], 0);
    json_text(&json, "message", print_error_latest());
    json_count(&json, "exit_status", (uint64_t)status);
    json_bool(&json, "clean", false);
    json_close(&json, '}');
}

int bench_fail(const struct client_options *options, int status)
{
    if (!options->json)
        return status;
    write_failure(options, status);
    int r = output_exit_status(print_finish(stdout));
    return r != 0 ? r : status;
}
