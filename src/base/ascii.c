#include "base/ascii.h"

#include "base/vectors.h"

#include <stdint.h>

/* Without a branch, and each byte for itself, so that compilers make as many at a time as a vector holds. */
static ALWAYS_INLINE void to_upper_any(uint8_t *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t case_bit = (uint8_t)(text[i] - 'a') < 26 ? 'a' ^ 'A' : 0;
        text[i] ^= case_bit;
    }
}
WITH_WIDE_VECTORS(to_upper, (uint8_t *text, size_t length), (text, length))

void ascii_to_upper(void *bytes, size_t length)
{
    to_upper(bytes, length);
}
