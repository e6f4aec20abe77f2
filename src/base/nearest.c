#include "base/nearest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Names longer than this are no misspelling of any of ours. */
#define NAME_LIMIT 48

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Damerau-Levenshtein, in the "optimal string alignment" form: three rows of the matrix are enough. Case does
 * not count, so that "Workers" is at distance 0 of "workers". */
static unsigned edit_distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    unsigned rows[3][NAME_LIMIT + 1];
    unsigned *before = rows[0], *above = rows[1], *here = rows[2];
    if (a_length > NAME_LIMIT || b_length > NAME_LIMIT)
        return UINT32_MAX;

#define LOWER(c) ((c) >= 'A' && (c) <= 'Z' ? (c) + ('a' - 'A') : (c))
    for (size_t j = 0; j <= b_length; j++)
        before[j] = above[j] = (unsigned)j;
    for (size_t i = 1; i <= a_length; i++) {
        here[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned replaced = above[j - 1] + (LOWER(a[i - 1]) != LOWER(b[j - 1]));
            here[j] = smaller(replaced, smaller(above[j], here[j - 1]) + 1);
            if (i > 1 && j > 1 && LOWER(a[i - 1]) == LOWER(b[j - 2]) && LOWER(a[i - 2]) == LOWER(b[j - 1]))
                here[j] = smaller(here[j], before[j - 2] + 1);
        }
        unsigned *free_row = before;
        before = above;
        above = here;
        here = free_row;
    }
#undef LOWER
    return above[b_length];
}

struct nearest nearest_to(const char *written)
{
    return (struct nearest){.written = written, .distance = UINT32_MAX};
}

void nearest_offer(struct nearest *nearest, const char *name)
{
    unsigned distance = edit_distance(nearest->written, name);
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->name = name;
    }
}

const char *nearest_name(const struct nearest *nearest)
{
    /* One edit for each three letters, so that short names are not taken for one another. */
    bool is_near = nearest->distance <= 3 && nearest->distance <= strlen(nearest->written) / 3;
    return is_near ? nearest->name : NULL;
}
