#include "client/bench/report.h"

#include "base/clock.h"
#include "base/plural.h"
#include "base/units.h"
#include "client/net/connection.h"
#include "client/net/dial.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* From here on a thread has no time left that the server could have had. */
#define BUSY_LIMIT 0.9

/* A client that is late by more than this in one of a hundred messages does not keep its schedule, and where
 * it is a good part of what they took, it shows in the latencies. */
#define LAG_LIMIT_NSEC (1000 * NSEC_PER_USEC)
#define LAG_PART 10

/* A shorter run does not say which side was the slower one. */
#define LEAST_WALL_NSEC (NSEC_PER_SEC / 10)

/* Less is not worth a line. */
#define LEAST_QUEUED_NSEC (NSEC_PER_SEC / 100)

bool bench_is_clean(const struct load_result *result)
{
    return result->unconnected == 0 && result->broken == 0 && result->wrong == 0 && result->unanswered == 0 &&
           result->messages > 0;
}

static bool is_late(const struct load_result *result)
{
    uint64_t lag = histogram_quantile(&result->lag, P99);
    return lag > LAG_LIMIT_NSEC && lag > histogram_quantile(&result->latency, P99) / LAG_PART;
}

bool bench_is_client_limited(const struct load_result *result)
{
    if (result->unsent > 0)
        return true;
    if (result->wall_nsec < LEAST_WALL_NSEC)
        return false;
    return result->busy >= BUSY_LIMIT || is_late(result);
}

static double per_second(uint64_t count, const struct bench_summary *summary)
{
    return summary->elapsed_nsec > 0 ? (double)count / clock_seconds(summary->elapsed_nsec) : 0;
}

/* ---- for people ---- */

static void print_times(const char *name, const struct histogram *times, FILE *out)
{
    char text[7][LATENCY_TEXT_SIZE];
    if (times->count == 0)
        return;
    fprintf(out, "%-12s%9s%9s%9s%9s%9s%9s%9s\n", name, "min", "mean", "p50", "p90", "p99", "p99.9", "max");
    fprintf(out, "            %9s%9s%9s%9s%9s%9s%9s\n", latency_format(times->min, text[0]),
            latency_format((uint64_t)histogram_mean(times), text[1]),
            latency_format(histogram_quantile(times, P50), text[2]),
            latency_format(histogram_quantile(times, P90), text[3]),
            latency_format(histogram_quantile(times, P99), text[4]),
            latency_format(histogram_quantile(times, P99_9), text[5]), latency_format(times->max, text[6]));
}

static void print_cost(const struct bench_summary *summary, FILE *out)
{
    const struct load_result *result = summary->result;
    char cpu[LATENCY_TEXT_SIZE], p99[LATENCY_TEXT_SIZE], max[LATENCY_TEXT_SIZE];
    bool is_answered = result->latency.count > 0;
    fputs("client CPU   ", out);
    if (result->messages > 0)
        fprintf(out, "%s a message; ", latency_format(result->cpu_nsec / result->messages, cpu));
    fprintf(out, "busiest of %" PRIu64 " thread%s: busy %.0f %% of the time\n", summary->plan->threads,
            plural(summary->plan->threads), 100 * result->busy);
    if (result->queued_nsec > result->cpu_nsec / 10 && result->queued_nsec > LEAST_QUEUED_NSEC)
        fprintf(out, "             of which %.2f s were spent waiting for a CPU that others used\n",
                clock_seconds(result->queued_nsec));
    if (summary->plan->rate > 0 && result->lag.count > 0)
        fprintf(out, "schedule     sent late by p99 %s, max %s%s\n",
                latency_format(histogram_quantile(&result->lag, P99), p99),
                latency_format(result->lag.max, max), is_answered ? "; the latencies include it" : "");
    if (result->unsent > 0)
        fprintf(out, "             %" PRIu64 " not sent in time%s\n", result->unsent,
                is_answered ? ", and not in the percentiles" : "");
}

void bench_print_connections(const struct load_result *result, FILE *out)
{
    fprintf(out, "connections  %" PRIu64, result->connected);
    print_count(out, ", ", result->unconnected, "failed");
    print_count(out, ", ", result->broken, "broken");
    print_count(out, ", ", result->wrong, "with wrong bytes");
    fputc('\n', out);
    if (result->unended > 0)
        fprintf(out, "             %" PRIu64 " not closed by the server\n", result->unended);
}

static void print_connect_times(const struct histogram *connect, FILE *out)
{
    char p50[LATENCY_TEXT_SIZE], max[LATENCY_TEXT_SIZE];
    if (connect->count > 0)
        fprintf(out, "             connect time p50 %s, max %s\n",
                latency_format(histogram_quantile(connect, P50), p50), latency_format(connect->max, max));
}

void bench_print_client_limit(const struct load_result *result, const struct terminal *terminal, FILE *out)
{
    bool is_answered = result->latency.count > 0;
    if (!bench_is_client_limited(result))
        return;
    fprintf(out, "\n%sclient-limited%s: ", terminal_colour(terminal, COLOUR_BAD),
            terminal_colour(terminal, COLOUR_OFF));
    if (result->unsent > 0)
        fprintf(out,
                "tcpecho could not send all that was due.\n"
                "%sUse a lower --rate, more --threads,\n"
                "where there are CPUs for them, or another machine.\n",
                is_answered ? "The latencies are those of a lower rate. " : "");
    else if (result->busy >= BUSY_LIMIT && result->queued_nsec > result->cpu_nsec)
        fputs("tcpecho waited for a CPU most of the time.\n"
              "These are not the server's limits. Run the client on another machine, or on\n"
              "CPUs of its own (taskset(1)).\n",
              out);
    else if (result->busy >= BUSY_LIMIT)
        fputs("tcpecho was busy nearly all the time.\n"
              "These are not the server's limits. Use more --threads, where there are CPUs for\n"
              "them, or another machine.\n",
              out);
    else
        fprintf(out,
                "tcpecho was late for its own schedule.\n"
                "%sUse more --threads, a lower --rate or a machine\n"
                "that is less busy.\n",
                is_answered ? "That time is in the latencies. " : "");
}

void bench_print(const struct bench_summary *summary, const struct terminal *terminal, FILE *out)
{
    const struct load_plan *plan = summary->plan;
    const struct load_result *result = summary->result;
    char size[SIZE_TEXT_SIZE];
    fprintf(out, "%s: %.2f s%s\n", summary->peer, clock_seconds(summary->elapsed_nsec),
            summary->interrupted ? ", interrupted" : "");
    print_tried(out, summary->tried);
    fprintf(out, "plan         %" PRIu64 " connection%s, messages of %s\n", plan->connections,
            plural(plan->connections), units_format_size(plan->size, size));
    if (plan->rate > 0)
        fprintf(out, "             %" PRIu64 " a second on a schedule\n", plan->rate);
    if (plan->reconnect)
        fputs("             each on a new connection\n", out);
    fprintf(out, "messages     %" PRIu64 " answered, %.0f/s", result->messages,
            per_second(result->messages, summary));
    print_count(out, ", ", result->unanswered, "not answered");
    fprintf(out, "\nbytes        %" PRIu64 " came back right, %s/s\n", result->bytes,
            units_format_size((uint64_t)per_second(result->bytes, summary), size));
    print_times("latency", &result->latency, out);
    if (plan->reconnect)
        print_times("to connect", &result->connect, out);
    bench_print_connections(result, out);
    if (!plan->reconnect)
        print_connect_times(&result->connect, out);
    print_cost(summary, out);
    if (result->latency.count > 0)
        fputc('\n', out);
    histogram_draw(&result->latency, terminal_width(terminal), out);
    bench_print_client_limit(result, terminal, out);
}

/* ---- what went wrong ---- */

void bench_print_trouble(const struct load_result *result, uint64_t connections)
{
    char text[FAULT_TEXT_SIZE];
    if (result->unconnected > 0)
        print_error("%" PRIu64 " of %" PRIu64 " connection%s could not be made (the first: %s%s)",
                    result->unconnected, connections, plural(connections),
                    load_connect_reason(result->connect_error),
                    result->connect_error == EADDRNOTAVAIL ? dial_port_advice() : "");
    if (result->broken > 0)
        print_error("%" PRIu64 " connection%s broke (the first: %s)", result->broken, plural(result->broken),
                    connection_break_reason(result->break_error));
    for (unsigned i = 0; i < result->fault_count; i++)
        print_error("connection %" PRIu64 ", %s", result->faults[i].connection,
                    fault_format(&result->faults[i].fault, text));
}

void bench_print_errors(const struct bench_summary *summary)
{
    const struct load_result *result = summary->result;
    const struct load_plan *plan = summary->plan;
    char wait[DURATION_TEXT_SIZE];
    bench_print_trouble(result,
                        plan->reconnect ? result->connected + result->unconnected : plan->connections);
    if (result->unanswered > 0)
        print_error(
            "%" PRIu64 " message%s had no answer: the connection was gone, or %s had passed since the "
            "end (--wait)",
            result->unanswered, plural(result->unanswered), units_format_duration(plan->wait_usec, wait));
    else if (result->messages == 0)
        print_error("not one message was answered");
}
