#include "base/ascii.h"

#include <stdint.h>

/* Without a branch, and each byte for itself, so that compilers make it 16 or 32 bytes at a time. */
void ascii_to_upper(void *bytes, size_t length)
{
    uint8_t *text = bytes;
    for (size_t i = 0; i < length; i++) {
        uint8_t case_bit = (uint8_t)(text[i] - 'a') < 26 ? 'a' ^ 'A' : 0;
        text[i] ^= case_bit;
    }
}
