#include "client/report/histogram.h"

#define SUB_BUCKETS (UINT64_C(1) << HISTOGRAM_PRECISION)

/* Below 128 a bucket a value. From there on the 7 bits after the highest one choose the bucket within its
 * power of two. */
static size_t bucket_of(uint64_t value)
{
    if (value < SUB_BUCKETS)
        return (size_t)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_PRECISION;
    return (size_t)(((uint64_t)shift << HISTOGRAM_PRECISION) + (value >> shift));
}

uint64_t histogram_bucket_low(size_t bucket)
{
    if (bucket < SUB_BUCKETS)
        return bucket;
    if (bucket >= HISTOGRAM_BUCKETS)
        return UINT64_MAX;
    unsigned shift = (unsigned)(bucket >> HISTOGRAM_PRECISION) - 1;
    return ((bucket & (SUB_BUCKETS - 1)) + SUB_BUCKETS) << shift;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (histogram->count == 0 || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->count++;
    histogram->sum += (double)value;
    histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* The middle of a bucket, within what was seen. */
static uint64_t bucket_value(const struct histogram *histogram, size_t bucket)
{
    uint64_t low = histogram_bucket_low(bucket);
    uint64_t value = low + (histogram_bucket_low(bucket + 1) - low) / 2;
    if (value > histogram->max)
        return histogram->max;
    return value < histogram->min ? histogram->min : value;
}

uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_million)
{
    if (histogram->count == 0)
        return 0;
    /* count * per_million / 1000000 rounded up, without an overflow. */
    uint64_t whole = histogram->count / 1000000, rest = histogram->count % 1000000;
    uint64_t rank = whole * per_million + (rest * per_million + 999999) / 1000000;
    if (rank <= 1)
        return histogram->min;
    if (rank >= histogram->count)
        return histogram->max;

    uint64_t seen = 0;
    size_t bucket = 0;
    for (;; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen >= rank)
            return bucket_value(histogram, bucket);
    }
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count ? histogram->sum / (double)histogram->count : 0;
}

uint64_t histogram_count_between(const struct histogram *histogram, uint64_t low, uint64_t high)
{
    uint64_t count = 0;
    for (size_t bucket = 0; bucket < HISTOGRAM_BUCKETS && histogram_bucket_low(bucket) < high; bucket++) {
        uint64_t value = bucket_value(histogram, bucket);
        if (histogram->buckets[bucket] > 0 && value >= low && value < high)
            count += histogram->buckets[bucket];
    }
    return count;
}
