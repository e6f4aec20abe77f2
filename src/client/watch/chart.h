/* A watch as one row of characters, a second each. One thread. */
#pragma once

#include <stdint.h>

/* What a second was at its worst, in the order of the marks. */
enum chart_cell {
    CELL_NONE,   /* ' ' not watched */
    CELL_GOOD,   /* '.' served all the time */
    CELL_SLOW,   /* '-' nobody was served for a tenth of what is allowed, or more */
    CELL_GAP,    /* '#' for longer than is allowed */
    CELL_FAILED, /* 'x' a connection failed */
};

/* As many as any terminal has columns. */
#define CHART_CELLS 512

struct chart {
    uint64_t start_nsec;
    uint64_t second; /* the latest, from 0 */
    uint8_t cells[CHART_CELLS];
};

void chart_init(struct chart *chart, uint64_t start_nsec);

/* Something was so at this time, which is not before any that was marked, but for the second it is in. */
void chart_mark(struct chart *chart, uint64_t at_nsec, enum chart_cell cell);

/* The latest seconds, `width` at most; returns how many. Writes them and a NUL. */
unsigned chart_format(const struct chart *chart, unsigned width, char out[static CHART_CELLS + 1]);
