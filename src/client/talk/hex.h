/* Bytes in the lines of hexdump -C: 16 a line, with their offset and as text; without its "*" for lines that
 * are repeated and its last line, of an offset alone. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A line is no longer than this for any offset. */
#define HEX_LINE_SIZE 88

/* Writes a line for each 16 bytes, the last of which may be shorter, to `out`, which has room for
 * HEX_LINE_SIZE each. Returns how much was written. */
size_t hex_format(uint64_t offset, const uint8_t *bytes, size_t length, char *out);
