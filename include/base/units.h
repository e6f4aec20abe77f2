/* Numbers with units, as people write them. Pure; any thread. All return 0, or -EINVAL with
 * *out untouched: no sign, no white space, nothing after the unit, nothing that would be rounded to zero. */
#pragma once

#include <stdint.h>

/* "1000": decimal digits alone. */
int units_parse_count(const char *text, uint64_t *out);

/* The same up to `maximum`, without a leading zero, which some read as octal. */
int units_parse_number(const char *text, uint64_t maximum, uint64_t *out);

/* "1000", "10k", "1.5M": a number of things; k is 1000. */
int units_parse_quantity(const char *text, uint64_t *out);

/* "64", "64k", "1M", "2G" (or KiB, MiB, GiB): bytes; a kilobyte is 1024. */
int units_parse_size(const char *text, uint64_t *out);

/* "10", "0.2", ".2", "0.2s", "250ms", "100us", "5m", "1h": microseconds; without a unit, seconds. */
int units_parse_duration(const char *text, uint64_t *out);

/* "0.2 s", "250 ms", "5 min": the way back, for messages. Returns `out`. */
#define DURATION_TEXT_SIZE 32
const char *units_format_duration(uint64_t usec, char out[static DURATION_TEXT_SIZE]);

/* "64 bytes", "1.5 MiB". Returns `out`. */
#define SIZE_TEXT_SIZE 32
const char *units_format_size(uint64_t bytes, char out[static SIZE_TEXT_SIZE]);
