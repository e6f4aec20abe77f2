/* A file of metrics for Prometheus, as node_exporter's textfile collector reads it: replaced whole, never
 * seen half written. Main thread. */
#pragma once

#include <stdio.h>

/* Whether the path may be written: it is a regular file, or nothing yet. Returns 0, or EXIT_FILE after one
 * line on stderr. */
int prometheus_check(const char *path);

/* Writes what `fill` writes, readable as far as the umask lets. Returns what whole_file_write does. */
int prometheus_write(const char *path, void (*fill)(FILE *out, const void *what), const void *what);

/* What a result of it says. Valid until the next call. */
const char *prometheus_error(int r);

/* "# HELP" and "# TYPE" of a metric, before its samples. `type` is "counter", "gauge" or "summary". */
void prometheus_head(FILE *out, const char *name, const char *type, const char *help);

/* One sample; `labels` is "" or what stands between the braces, made with prometheus_label. */
void prometheus_sample(FILE *out, const char *name, const char *labels, double value);

/* NAME="VALUE", escaped, cut to what fits. Returns `out`. */
#define PROMETHEUS_LABEL_SIZE 640
const char *prometheus_label(const char *name, const char *value, char out[static PROMETHEUS_LABEL_SIZE]);
