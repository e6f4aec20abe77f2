/* What a worker has done: each counter is written by its worker alone and read by anyone at any time. */
#pragma once

#include "serve/reason.h"

#include <stdatomic.h>
#include <stdint.h>

struct counters {
    _Atomic uint64_t closed; /* connections; sequentially consistent: see serve/capacity_signal.h */
    _Atomic uint64_t closed_by[REASON_COUNT];
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
};

/* The sums of many. */
struct totals {
    uint64_t closed_by[REASON_COUNT];
    uint64_t bytes_in, bytes_out;
};

/* The owner only: with a single writer a load and a store are enough, and cheaper than a locked addition. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

/* A moment's value. Any thread. */
static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}
