/* What tcpecho --bench has found out, for people and for programs. */
#pragma once

#include "client/bench/load_plan.h"
#include "client/bench/load_result.h"
#include "client/options.h"
#include "client/report/json_document.h"
#include "client/report/terminal.h"

struct bench_summary {
    const struct load_plan *plan;
    const struct load_result *result;
    const char *peer;
    const char *tried;     /* other addresses; "": none */
    uint64_t elapsed_nsec; /* from the first message to the stop, or the end of the last connection before
                              that, or the last answer, whichever was later */
    bool interrupted;
};

/* Whether every connection was made and held, and every message answered and right. */
bool bench_is_clean(const struct load_result *result);

/* Whether the figures are those of tcpecho rather than of the server: it was busy nearly all the time, or
 * came late to its own schedule, or never to a part of it. */
bool bench_is_client_limited(const struct load_result *result);

/* Write errors stay in the stream. */
void bench_print(const struct bench_summary *summary, const struct terminal *terminal, FILE *out);
void bench_print_json(const struct bench_summary *summary, FILE *out);

/* For --json a run that ends without a report prints a document as well: with which exit status, and the
 * latest error. Returns the status. Main thread. */
int bench_fail(const struct client_options *options, int status);

/* Parts of a report, also of one way: how many connections there were and what became of them, and a warning
 * when bench_is_client_limited. */
void bench_print_connections(const struct load_result *result, FILE *out);
void bench_print_client_limit(const struct load_result *result, const struct terminal *terminal, FILE *out);

/* What was to be done, for programs. */
void bench_write_plan(struct json *json, const struct load_plan *plan);

/* What went wrong with connections, and where bytes were wrong: for programs; and one line on stderr for
 * each.
 */
void bench_write_trouble(struct json *json, const struct load_result *result);
void bench_print_trouble(const struct load_result *result, uint64_t connections);

/* The same, and for messages without an answer. */
void bench_print_errors(const struct bench_summary *summary);
