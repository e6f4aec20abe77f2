/* What the JSON documents of all modes share. */
#pragma once

#include "base/json.h"
#include "client/report/histogram.h"

/* The document: who wrote it, in which mode, against which server, and which other addresses were tried
 * before that ("": none). Closed like any other. */
void json_open_report(struct json *json, const char *mode, const char *server, const char *tried);

/* What a histogram of nanoseconds says: NAME_count, NAME_min_ns, _mean_ns, _p50_ns, _p90_ns, _p99_ns,
 * _p99_9_ns and _max_ns; null where there are none. */
void json_times(struct json *json, const char *name, const struct histogram *times);
