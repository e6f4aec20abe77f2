#include "client/talk/hex.h"

#include <inttypes.h>
#include <stdio.h>

#define PER_LINE 16

static size_t format_line(uint64_t offset, const uint8_t *bytes, size_t length, char *out)
{
    size_t at = (size_t)sprintf(out, "%08" PRIx64 " ", offset);
    for (size_t i = 0; i < PER_LINE; i++) {
        if (i % (PER_LINE / 2) == 0)
            out[at++] = ' ';
        at += (size_t)(i < length ? sprintf(out + at, "%02x ", bytes[i]) : sprintf(out + at, "   "));
    }
    out[at++] = ' ';
    out[at++] = '|';
    for (size_t i = 0; i < length; i++)
        out[at++] = (char)(bytes[i] >= ' ' && bytes[i] < 0x7f ? bytes[i] : '.');
    out[at++] = '|';
    out[at++] = '\n';
    return at;
}

size_t hex_format(uint64_t offset, const uint8_t *bytes, size_t length, char *out)
{
    size_t written = 0;
    for (size_t done = 0; done < length; done += PER_LINE) {
        size_t part = length - done < PER_LINE ? length - done : PER_LINE;
        written += format_line(offset + done, bytes + done, part, out + written);
    }
    return written;
}
