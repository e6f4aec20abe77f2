/* Times by the million in constant memory: a log-linear histogram, after HdrHistogram (Tene).
 *
 * Each power of two is cut into 128 buckets of equal width, so a value read back is off by less than 1/128 of
 * itself (under 0.8 %), from 1 ns to the end of 64 bits, and nothing is ever clipped. Values under 128, the
 * smallest, the largest and the sum are exact. One thread a histogram; merge those of several afterwards. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_PRECISION 7 /* bits: 128 buckets */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_PRECISION + 1) << HISTOGRAM_PRECISION)

struct histogram {
    uint64_t count;
    uint64_t min, max; /* 0 and 0 when empty */
    double sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* A histogram of zeros is empty. */
void histogram_add(struct histogram *histogram, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);

#define P50 500000U
#define P90 900000U
#define P99 990000U
#define P99_9 999000U

/* The value that `per_million` of a million values do not exceed (nearest rank): 500000 is the median, 999000
 * p99.9, 1000000 the largest. 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_million);
double histogram_mean(const struct histogram *histogram); /* 0 when empty */

/* How many values lie in [low, high), as they are read back: a bucket counts where its middle lies. */
uint64_t histogram_count_between(const struct histogram *histogram, uint64_t low, uint64_t high);

/* The lowest value of a bucket; the next one's is after its highest. */
uint64_t histogram_bucket_low(size_t bucket);

/* Draws counts of nanoseconds as rows of `width` columns at most: plain ASCII, a bar for each range of time,
 * 1-2-5 steps or finer ones. Draws nothing when empty. Write errors stay in the stream. */
void histogram_draw(const struct histogram *histogram, unsigned width, FILE *out);

/* "870 ns", "12.3 us", "4.56 ms", "3.01 s". Returns `out`. */
#define LATENCY_TEXT_SIZE 32
const char *latency_format(uint64_t nsec, char out[static LATENCY_TEXT_SIZE]);

/* The same, never more than it is: what is a part of a time must not be told as longer than that. */
const char *latency_format_down(uint64_t nsec, char out[static LATENCY_TEXT_SIZE]);
