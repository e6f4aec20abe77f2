#include "client/report/histogram.h"

#include "common.h"

#include <math.h>

static struct histogram histogram, other;

static void set_up(void)
{
    memset(&histogram, 0, sizeof histogram);
    memset(&other, 0, sizeof other);
}

FIXTURE(set_up, NULL)

TEST(empty)
{
    ck_assert_uint_eq(histogram_quantile(&histogram, 500000), 0);
    ck_assert(histogram_mean(&histogram) == 0);
    histogram_merge(&histogram, &other);
    ck_assert_uint_eq(histogram.count, 0);
}

TEST(buckets_are_narrow)
{
    /* The error bound itself, over every bucket that there is. */
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t low = histogram_bucket_low(i), next = histogram_bucket_low(i + 1);
        ck_assert_uint_lt(low, next);
        if (low >= 128)
            ck_assert((double)(next - low) / (double)low <= 1.0 / 128);
    }
}

TEST(a_value_is_read_back)
{
    uint64_t random = 5;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t value = ((uint64_t)next_random(&random) << 32 | next_random(&random)) >> (i % 64);
        memset(&histogram, 0, sizeof histogram);
        histogram_add(&histogram, 0);
        histogram_add(&histogram, value);
        histogram_add(&histogram, UINT64_MAX);
        uint64_t read = histogram_quantile(&histogram, 500000);
        double error = fabs((double)read - (double)value);
        ck_assert_msg(error <= (double)value * 0.01 && (value >= 128 || read == value), "%lu became %lu",
                      value, read);
        ck_assert_uint_eq(histogram_quantile(&histogram, 0), 0);
        ck_assert_uint_eq(histogram_quantile(&histogram, 1000000), UINT64_MAX);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

TEST(percentiles_are_those_of_a_sorted_list)
{
    static uint64_t values[100003];
    static const unsigned quantiles[] = {1, 1000, 10000, 250000, 500000, 900000, 990000, 999000, 999999};
    uint64_t random = 9;
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        /* Skewed, as latencies are. */
        values[i] = 20000 + next_random(&random) % 50000;
        if (next_random(&random) % 200 == 0)
            values[i] += next_random(&random);
        histogram_add(&histogram, values[i]);
    }
    qsort(values, COUNT_OF(values), sizeof values[0], compare);
    for (size_t i = 0; i < COUNT_OF(quantiles); i++) {
        size_t rank = (COUNT_OF(values) * (uint64_t)quantiles[i] + 999999) / 1000000;
        double right = (double)values[rank - 1], got = (double)histogram_quantile(&histogram, quantiles[i]);
        ck_assert_msg(fabs(got - right) <= 0.01 * right, "%u of a million: %f and not %f", quantiles[i], got,
                      right);
    }
    ck_assert_uint_eq(histogram.min, values[0]);
    ck_assert_uint_eq(histogram.max, values[COUNT_OF(values) - 1]);
}

TEST(one_slow_one_in_a_thousand)
{
    for (unsigned i = 0; i < 999; i++)
        histogram_add(&histogram, 100);
    histogram_add(&histogram, 1000000000);
    ck_assert_uint_eq(histogram_quantile(&histogram, 999000), 100);
    ck_assert_uint_eq(histogram_quantile(&histogram, 999001), 1000000000);
    ck_assert(fabs(histogram_mean(&histogram) - (999 * 100 + 1e9) / 1000) < 1e-6);
}

TEST(merged_is_as_if_one)
{
    static struct histogram both;
    uint64_t random = 3;
    memset(&both, 0, sizeof both);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = next_random(&random);
        histogram_add(i % 3 ? &histogram : &other, value);
        histogram_add(&both, value);
    }
    histogram_merge(&histogram, &other);
    ck_assert_uint_eq(histogram.count, both.count);
    ck_assert_uint_eq(histogram.min, both.min);
    ck_assert_uint_eq(histogram.max, both.max);
    ck_assert_mem_eq(histogram.buckets, both.buckets, sizeof both.buckets);
    ck_assert(fabs(histogram.sum - both.sum) < both.sum * 1e-9);
    memset(&histogram, 0, sizeof histogram);
    histogram_merge(&histogram, &both);
    ck_assert_uint_eq(histogram.min, both.min);
}

TEST(counted_between)
{
    for (uint64_t value = 1; value <= 1000000; value *= 10)
        histogram_add(&histogram, value);
    ck_assert_uint_eq(histogram_count_between(&histogram, 0, UINT64_MAX), 7);
    ck_assert_uint_eq(histogram_count_between(&histogram, 10, 100), 1);
    ck_assert_uint_eq(histogram_count_between(&histogram, 11, 101), 1);
    ck_assert_uint_eq(histogram_count_between(&histogram, 5000, 5001), 0);
}
