#include "client/report/histogram.h"

#include <inttypes.h>

/* From few to many steps a decade; the first division that gives enough rows is taken. */
static const struct division {
    unsigned steps;
    unsigned mantissas[9]; /* tenths */
} divisions[] = {
    {3, {10, 20, 50}},
    {5, {10, 15, 25, 40, 65}},
    {9, {10, 13, 16, 20, 25, 32, 40, 50, 80}},
};
#define DIVISIONS (sizeof divisions / sizeof divisions[0])
#define ENOUGH_ROWS 8U

/* 18 decades of nine steps, one before and one after them. */
#define MAX_EDGES (18 * 9 + 2)

/* "from" and "to" right-aligned, the percentage, and what stands between. */
#define LABELS_WIDTH 36U
#define LEAST_BAR 10U
#define MOST_BAR 60U

struct edges {
    size_t count;
    uint64_t values[MAX_EDGES];
};

const char *latency_format(uint64_t nsec, char out[static LATENCY_TEXT_SIZE])
{
    static const struct {
        double nsec;
        const char *unit;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double value = (double)nsec / units[i].nsec;
        /* What would be rounded up to 1000 of the smaller unit belongs here, too. */
        if (value < 0.9995)
            continue;
        snprintf(out, LATENCY_TEXT_SIZE, "%.*f %s",
                 value < 9.995   ? 2
                 : value < 99.95 ? 1
                                 : 0,
                 value, units[i].unit);
        return out;
    }
    snprintf(out, LATENCY_TEXT_SIZE, "%" PRIu64 " ns", nsec);
    return out;
}

const char *latency_format_down(uint64_t nsec, char out[static LATENCY_TEXT_SIZE])
{
    uint64_t unit = 1;
    while (nsec / unit >= 1000) /* three digits are shown */
        unit *= 10;
    return latency_format(nsec / unit * unit, out);
}

/* 18 decades of nanoseconds, and then the rest. */
static uint64_t edge_at(uint64_t decade, unsigned mantissa)
{
    return decade <= UINT64_C(1000000000000000000) ? decade / 10 * mantissa : UINT64_MAX;
}

/* The steps from the last one not above `low` to the first one above `high`. */
static void find_edges(const struct division *division, uint64_t low, uint64_t high, struct edges *out)
{
    out->count = 1;
    out->values[0] = 0;
    for (uint64_t decade = 100;; decade *= 10) {
        for (unsigned i = 0; i < division->steps; i++) {
            uint64_t edge = edge_at(decade, division->mantissas[i]);
            if (edge <= low)
                out->count = 0;
            out->values[out->count++] = edge;
            if (edge > high || edge == UINT64_MAX)
                return;
        }
    }
}

static void draw_bar(uint64_t count, uint64_t most, unsigned width, FILE *out)
{
    unsigned length = (unsigned)((double)count / (double)most * width + 0.5);
    for (unsigned i = 0; i < length; i++)
        fputc('#', out);
    /* Few among many are still some, and the ones that matter. */
    if (length == 0 && count > 0)
        fputc('.', out);
}

static void draw_row(uint64_t low, uint64_t high, uint64_t count, uint64_t total, FILE *out)
{
    char from[LATENCY_TEXT_SIZE], to[LATENCY_TEXT_SIZE], share[16];
    double percent = 100.0 * (double)count / (double)total;
    /* 0 % and 100 % are for none and all. */
    if (count == 0 || count == total)
        snprintf(share, sizeof share, "%.0f", percent);
    else if (percent < 0.001)
        snprintf(share, sizeof share, "<0.001");
    else if (percent > 99.9)
        snprintf(share, sizeof share, ">99.9");
    else
        snprintf(share, sizeof share, "%.*f", percent >= 10 ? 1 : 3, percent);
    fprintf(out, "  %8s - %8s %7s %% |", latency_format(low, from), latency_format(high, to), share);
}

void histogram_draw(const struct histogram *histogram, unsigned width, FILE *out)
{
    struct edges edges;
    uint64_t most = 0;
    if (histogram->count == 0)
        return;
    for (size_t i = 0; i < DIVISIONS; i++) {
        find_edges(&divisions[i], histogram->min, histogram->max, &edges);
        if (edges.count > ENOUGH_ROWS)
            break;
    }
    for (size_t i = 0; i + 1 < edges.count; i++) {
        uint64_t count = histogram_count_between(histogram, edges.values[i], edges.values[i + 1]);
        most = count > most ? count : most;
    }
    unsigned bar = width > LABELS_WIDTH + LEAST_BAR ? width - LABELS_WIDTH : LEAST_BAR;
    bar = bar > MOST_BAR ? MOST_BAR : bar;
    for (size_t i = 0; i + 1 < edges.count; i++) {
        uint64_t count = histogram_count_between(histogram, edges.values[i], edges.values[i + 1]);
        draw_row(edges.values[i], edges.values[i + 1], count, histogram->count, out);
        draw_bar(count, most, bar, out);
        fputc('\n', out);
    }
}
