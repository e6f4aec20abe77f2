/* How many descriptors the process may have: the soft limit of RLIMIT_NOFILE (getrlimit(2)). */
#pragma once

#include <stdint.h>

/* Raises it to the hard limit. Returns 0, or a negative errno when that is not allowed; *limit is what is in
 * force in either case, or 0 when the kernel does not say. */
int descriptor_limit_raise(uint64_t *limit);

/* What a limit leaves after the process's own. */
static inline uint64_t descriptor_limit_room(uint64_t limit, uint64_t own)
{
    return limit > own ? limit - own : 0;
}
