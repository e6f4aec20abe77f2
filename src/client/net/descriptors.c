#include "client/net/descriptors.h"

#include "base/descriptor_limit.h"

/* Standard streams, signals, the coordinator's loop, what a parent left open. */
#define SUNDRY_DESCRIPTORS 16

/* POSIX promises so many; a kernel that does not tell its limit keeps a stricter one with EMFILE. */
#define LEAST_DESCRIPTORS 20

uint64_t descriptors_raise_limit(void)
{
    uint64_t limit;

    /* What cannot be raised has to do. */
    (void)descriptor_limit_raise(&limit);
    return limit > 0 ? limit : LEAST_DESCRIPTORS;
}

uint64_t descriptors_room(uint64_t limit, uint64_t own)
{
    own += SUNDRY_DESCRIPTORS;
    return limit > own ? limit - own : 0;
}
