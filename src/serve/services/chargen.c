/* Character generator (RFC 864): lines of 72 of the 95 printable ASCII characters, each line one character
 * further on, for as long as the client stays. Any line can be computed, so the position is all the state
 * there is. */

#include "serve/service.h"

#include <string.h>

#define PRINTABLE 95
#define SHOWN 72
#define LINE (SHOWN + 2) /* CR LF */

/* Every line is a window of this: the printable characters, and their first again so that no window wraps. */
static const char ring[] = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                           "abcdefghijklmnopqrstuvwxyz{|}~"
                           " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                           "abcdef";
_Static_assert(sizeof ring > PRINTABLE - 1 + SHOWN, "the last window fits");

/* Writes the line in which `position` lies, from there on. */
static size_t put_line(uint64_t position, uint8_t *out, size_t size)
{
    char line[LINE];
    memcpy(line, ring + position / LINE % PRINTABLE, SHOWN);
    memcpy(line + SHOWN, "\r\n", 2);
    size_t column = (size_t)(position % LINE);
    size_t length = LINE - column < size ? LINE - column : size;
    memcpy(out, line + column, length);
    return length;
}

static size_t produce(const struct service_params *params, struct service_state *state, time_t now,
                      uint8_t *out, size_t size)
{
    (void)params;
    (void)now;
    if (state->ending) {
        size_t rest = (size_t)((LINE - state->produced % LINE) % LINE);
        state->done = rest <= size;
        return put_line(state->produced, out, rest < size ? rest : size);
    }
    size_t length = 0;
    while (length < size)
        length += put_line(state->produced + length, out + length, size - length);
    return length;
}

const struct service service_chargen = {
    .name = "chargen",
    .summary = "rotating lines of characters without end (RFC 864)",
    .produce = produce,
};
