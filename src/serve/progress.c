#include "serve/progress.h"

#include <stdlib.h>
#include <string.h>

/* Returns where the next bytes go. */
static uint8_t *copy_bytes(uint8_t *to, const uint8_t **bytes, size_t length)
{
    if (length > 0)
        memcpy(to, *bytes, length);
    *bytes = to;
    return to + length;
}

struct progress *progress_copy(const struct progress *from)
{
    struct progress *copy =
        malloc(sizeof *copy + from->unsent_length + from->held_length + from->again_length);
    if (!copy)
        return NULL;
    *copy = *from;
    uint8_t *to = copy_bytes((uint8_t *)(copy + 1), &copy->unsent, copy->unsent_length);
    to = copy_bytes(to, &copy->held, copy->held_length);
    copy_bytes(to, &copy->again, copy->again_length);
    return copy;
}
