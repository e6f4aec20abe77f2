#include "client/watch/chart.h"

#include "base/clock.h"
#include "common.h"

static struct chart chart;
static char row[CHART_CELLS + 1];

static void mark(double seconds, enum chart_cell cell)
{
    chart_mark(&chart, 1000 + (uint64_t)(seconds * (double)NSEC_PER_SEC), cell);
}

static void expect_row(unsigned width, const char *wanted)
{
    ck_assert_uint_eq(chart_format(&chart, width, row), strlen(wanted));
    ck_assert_str_eq(row, wanted);
}

TEST(a_second_is_its_worst)
{
    chart_init(&chart, 1000);
    expect_row(80, " ");
    mark(0.1, CELL_GOOD);
    mark(1.0, CELL_GOOD);
    mark(1.5, CELL_SLOW);
    mark(1.9, CELL_GOOD);
    mark(2.5, CELL_GAP);
    mark(3.5, CELL_FAILED);
    mark(3.6, CELL_GAP);
    mark(5.5, CELL_GOOD);
    expect_row(80, ".-#x .");
    expect_row(3, "x .");
    expect_row(0, "");
}

TEST(longer_than_the_row)
{
    chart_init(&chart, 1000);
    for (unsigned i = 0; i < 3 * CHART_CELLS; i++)
        mark(i + 0.5, i + 1 == 3 * CHART_CELLS ? CELL_FAILED : CELL_GOOD);
    ck_assert_uint_eq(chart_format(&chart, UINT32_MAX, row), CHART_CELLS);
    ck_assert_int_eq(row[0], '.');
    ck_assert_int_eq(row[CHART_CELLS - 1], 'x');
    /* It was stopped for a day. */
    mark(86400 + 0.5, CELL_GOOD);
    expect_row(3, "  .");
}
