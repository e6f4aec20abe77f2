/* Bytes with their number. Nothing here looks at a byte beyond the end of a span: an offset or a length that
 * is too large leaves less of it, down to nothing, so that code which compares or parses what a
 * stranger sent needs no bounds of its own. A span does not own its bytes. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const uint8_t *bytes;
    size_t length;
};

/* The first `length` bytes, or all when there are fewer. */
static inline struct span span_first(struct span span, size_t length)
{
    return (struct span){span.bytes, length < span.length ? length : span.length};
}

/* All from `offset` on; empty when that lies beyond the end. */
static inline struct span span_from(struct span span, size_t offset)
{
    size_t skipped = offset < span.length ? offset : span.length;
    return (struct span){span.bytes + skipped, span.length - skipped};
}

/* How many bytes are the same, from the first on. */
size_t span_shared(struct span a, struct span b);

/* How many bytes differ from those at the same offset of the other, as far as both go. */
size_t span_differing(struct span a, struct span b);

/* The first or last place where all bytes of `needle` stand, which is not empty. Takes time for
 * haystack.length bytes, times needle.length at the worst. */
bool span_find_first(struct span haystack, struct span needle, size_t *out);
bool span_find_last(struct span haystack, struct span needle, size_t *out);
