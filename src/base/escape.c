#include "base/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The longest that one byte becomes: \xNN. */
#define ESCAPED_MAX 4

/* Writes \n, \r, \t, \\, \" or \xNN; libconfig reads exactly these. Returns the end of what was written. */
static char *put_escape(char *out, uint8_t byte)
{
    static const char named[] = "\nn\rr\tt\\\\\"\"";
    static const char digits[] = "0123456789abcdef";
    *out++ = '\\';
    for (size_t i = 0; i + 1 < sizeof named; i += 2) {
        if ((uint8_t)named[i] == byte) {
            *out++ = named[i + 1];
            return out;
        }
    }
    *out++ = 'x';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 0xf];
    return out;
}

static bool is_plain_ascii(uint8_t byte)
{
    return byte >= ' ' && byte <= '~' && byte != '"' && byte != '\\';
}

const char *escape_excerpt(const void *bytes, size_t length, size_t limit, char *out)
{
    const uint8_t *in = bytes;
    size_t shown = length < limit ? length : limit;
    char *end = out;
    for (size_t i = 0; i < shown; i++) {
        if (is_plain_ascii(in[i]))
            *end++ = (char)in[i];
        else
            end = put_escape(end, in[i]);
    }
    strcpy(end, shown < length ? "..." : "");
    return out;
}

size_t utf8_length(const void *bytes)
{
    const uint8_t *in = bytes;
    /* Overlong forms, surrogates, C1 controls and what lies above U+10FFFF all show in the second byte. */
    uint8_t low = 0x80, high = 0xbf;
    size_t length;

    if (in[0] >= 0xc2 && in[0] <= 0xdf)
        length = 2;
    else if ((in[0] & 0xf0) == 0xe0)
        length = 3;
    else if (in[0] >= 0xf0 && in[0] <= 0xf4)
        length = 4;
    else
        return 0;

    if (in[0] == 0xc2 || in[0] == 0xe0)
        low = 0xa0;
    else if (in[0] == 0xf0)
        low = 0x90;
    else if (in[0] == 0xed)
        high = 0x9f;
    else if (in[0] == 0xf4)
        high = 0x8f;

    if (in[1] < low || in[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((in[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

char *escape_quoted(const char *text)
{
    char *out = malloc(strlen(text) * ESCAPED_MAX + sizeof "\"\"");
    if (!out)
        return NULL;

    char *end = out;
    *end++ = '"';
    for (const uint8_t *in = (const uint8_t *)text; *in;) {
        size_t whole = is_plain_ascii(*in) ? 1 : utf8_length(in);
        if (whole == 0) {
            end = put_escape(end, *in++);
            continue;
        }
        memcpy(end, in, whole);
        end += whole;
        in += whole;
    }
    *end++ = '"';
    *end = '\0';
    return out;
}

size_t escape_controls(const char *text, char *out, size_t size)
{
    size_t length = 0;
    for (const uint8_t *in = (const uint8_t *)text; *in;) {
        char escaped[ESCAPED_MAX];
        size_t whole = *in >= ' ' && *in <= '~' ? 1 : utf8_length(in);
        size_t wanted = whole > 0 ? whole : (size_t)(put_escape(escaped, *in) - escaped);
        if (length + wanted >= size)
            break;
        memcpy(out + length, whole > 0 ? (const char *)in : escaped, wanted);
        length += wanted;
        in += whole > 0 ? whole : 1;
    }
    out[length] = '\0';
    return length;
}

size_t escape_cut_short(char *text, size_t length)
{
    size_t end = length - 3;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
        end--;
    strcpy(text + end, "...");
    return end + 3;
}
