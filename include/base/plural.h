/* "1 byte", "2 bytes": a word's ending in a message. */
#pragma once

#include <stdint.h>

static inline const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}
