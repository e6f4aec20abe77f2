#include "client/check/chargen.h"

#include <string.h>

#define PRINTABLE 95
#define SHOWN 72
#define LINE (SHOWN + 2) /* CR LF */
#define PERIOD ((size_t)PRINTABLE * LINE)

/* From any place in the first period there is as much in one piece as one comparison takes. */
#define COMPARED CHARGEN_SENT
static uint8_t pattern[PERIOD + COMPARED];

void chargen_init(void)
{
    for (size_t i = 0; i < sizeof pattern; i++) {
        size_t line = i / LINE, column = i % LINE;
        pattern[i] = column < SHOWN    ? (uint8_t)(' ' + (line + column) % PRINTABLE)
                     : column == SHOWN ? '\r'
                                       : '\n';
    }
}

size_t chargen_phase(uint8_t first)
{
    return first >= ' ' && first < ' ' + PRINTABLE ? (size_t)(first - ' ') * LINE : 0;
}

size_t chargen_check(size_t *phase, const void *bytes, size_t length)
{
    const uint8_t *got = bytes;
    for (size_t done = 0; done < length;) {
        size_t part = length - done < COMPARED ? length - done : COMPARED;
        if (memcmp(got + done, pattern + *phase, part) != 0) {
            size_t same = 0;
            while (got[done + same] == pattern[*phase + same])
                same++;
            *phase = (*phase + same) % PERIOD;
            return done + same;
        }
        *phase = (*phase + part) % PERIOD;
        done += part;
    }
    return length;
}

struct fault chargen_diagnose(size_t phase, uint64_t offset, struct span came)
{
    /* Of the part from a period before the wrong byte, as far as the stream goes back. */
    size_t before = offset < PERIOD ? (size_t)offset : PERIOD;
    size_t start = (phase + PERIOD - before) % PERIOD;
    const struct answer_part part = {{pattern + start, sizeof pattern - start}, before};
    return diagnose_part(&part, EXPECT_ECHO, offset, span_first(came, FAULT_EVIDENCE));
}

const uint8_t *chargen_bytes(void)
{
    return pattern;
}
