#include "base/span.h"

#include <string.h>

static size_t shorter(struct span a, struct span b)
{
    return a.length < b.length ? a.length : b.length;
}

size_t span_shared(struct span a, struct span b)
{
    size_t length = shorter(a, b), same = 0;
    while (same < length && a.bytes[same] == b.bytes[same])
        same++;
    return same;
}

size_t span_differing(struct span a, struct span b)
{
    size_t length = shorter(a, b), different = 0;
    for (size_t i = 0; i < length; i++)
        different += a.bytes[i] != b.bytes[i];
    return different;
}

bool span_find_first(struct span haystack, struct span needle, size_t *out)
{
    const uint8_t *found = memmem(haystack.bytes, haystack.length, needle.bytes, needle.length);
    if (!found)
        return false;
    *out = (size_t)(found - haystack.bytes);
    return true;
}

/* Backwards, since to find every place in order to keep the last takes forever where there are many; and by
 * hand, since a sanitizer looks at all that memrchr(3) might read, each time. */
bool span_find_last(struct span haystack, struct span needle, size_t *out)
{
    size_t places = haystack.length >= needle.length ? haystack.length - needle.length + 1 : 0;
    while (places-- > 0) {
        const uint8_t *candidate = haystack.bytes + places;
        if (candidate[0] == needle.bytes[0] && memcmp(candidate, needle.bytes, needle.length) == 0) {
            *out = places;
            return true;
        }
    }
    return false;
}
