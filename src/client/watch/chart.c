#include "client/watch/chart.h"

#include "base/clock.h"

static const char marks[] = " .-#x";

void chart_init(struct chart *chart, uint64_t start_nsec)
{
    *chart = (struct chart){.start_nsec = start_nsec};
}

void chart_mark(struct chart *chart, uint64_t at_nsec, enum chart_cell cell)
{
    uint64_t second = at_nsec > chart->start_nsec ? (at_nsec - chart->start_nsec) / NSEC_PER_SEC : 0;
    while (chart->second < second) {
        chart->second++;
        chart->cells[chart->second % CHART_CELLS] = CELL_NONE;
        if (second - chart->second > CHART_CELLS) /* stopped for so long: none of the row is left */
            chart->second = second - CHART_CELLS;
    }
    uint8_t *mine = &chart->cells[chart->second % CHART_CELLS];
    *mine = (uint8_t)cell > *mine ? (uint8_t)cell : *mine;
}

unsigned chart_format(const struct chart *chart, unsigned width, char out[static CHART_CELLS + 1])
{
    uint64_t count = chart->second + 1;
    count = count < CHART_CELLS ? count : CHART_CELLS;
    count = count < width ? count : width;
    for (uint64_t i = 0; i < count; i++)
        out[i] = marks[chart->cells[(chart->second + 1 - count + i) % CHART_CELLS]];
    out[count] = '\0';
    return (unsigned)count;
}
