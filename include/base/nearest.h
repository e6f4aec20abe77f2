/* Which of the names that there are somebody most likely meant by a misspelled one. Distances are counted in
 * insertions, deletions, replacements and swaps of neighbours; case does not count. Pure; any thread.
 *
 *     struct nearest nearest = nearest_to(written);
 *     nearest_offer(&nearest, name);    for each name
 *     nearest_name(&nearest)            one of them, or NULL when none is near
 */
#pragma once

struct nearest {
    const char *written, *name; /* the caller's */
    unsigned distance;
};

struct nearest nearest_to(const char *written);
void nearest_offer(struct nearest *nearest, const char *name);
const char *nearest_name(const struct nearest *nearest);
