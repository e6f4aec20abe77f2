/* What a ping tells programs: lines of JSON or of comma-separated values, and metrics. */
#pragma once

#include "client/ping/report.h"

/* An object on a line of its own. */
void ping_write_json_line(FILE *out, const struct ping_line *line, size_t size);

/* What a document tells of a host beside its figures. */
struct ping_summary {
    const char *host, *peer;
    const char *tried;   /* other addresses; "": none */
    const char *message; /* what has been told on stderr; "": nothing */
    int status;          /* the exit status */
    bool connect;
};

void ping_write_json_summary(FILE *out, const struct ping_summary *summary, const struct ping_counts *counts);

/* As RFC 4180 has it, but that a line ends in LF. */
void ping_write_csv_head(FILE *out);
void ping_write_csv_line(FILE *out, const struct ping_line *line);

/* Of all hosts together, since the samples of a metric stand together. */
struct ping_metrics {
    size_t count;
    const struct ping_metrics_of {
        const char *host, *peer;
        struct ping_counts counts;
        bool is_up; /* connected or answered, and nothing has failed since */
    } *hosts;
    bool connect;
};
void ping_write_metrics(FILE *out, const void *metrics); /* for prometheus_write */
