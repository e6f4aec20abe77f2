/* A JSON document (RFC 8259) as it is written: objects and lists in one another, figures.
 * Write errors stay in the stream. */
#pragma once

#include "client/report/histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    unsigned depth;
    bool is_first; /* of the object or list that is open */
};

/* `key` is NULL in a list and for the document itself. */
void json_open(struct json *json, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);                 /* '}' or ']' */

/* The document: who wrote it, in which mode, against which server. Closed like any other. */
void json_open_report(struct json *json, const char *mode, const char *server);

/* The last of the document is followed by a newline. Bytes that are not UTF-8 become U+FFFD. */
void json_text(struct json *json, const char *key, const char *text);
void json_bool(struct json *json, const char *key, bool value);

/* A number, its unit in the key: "elapsed_s", "size_bytes". */
void json_count(struct json *json, const char *key, uint64_t value);
void json_number(struct json *json, const char *key, double value);

/* What a histogram of nanoseconds says: NAME_count, NAME_min_ns, _mean_ns, _p50_ns, _p90_ns, _p99_ns,
 * _p99_9_ns and _max_ns; null where there are none. */
void json_times(struct json *json, const char *name, const struct histogram *times);

/* [1, 2, 3] on one line. */
void json_row(struct json *json, const uint64_t *values, unsigned count);
