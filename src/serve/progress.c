#include "serve/progress.h"

#include <stdlib.h>
#include <string.h>

struct progress *progress_copy(const struct progress *from)
{
    struct progress *copy = malloc(sizeof *copy + from->unsent_length);
    if (!copy)
        return NULL;
    uint8_t *unsent = (uint8_t *)(copy + 1);
    *copy = *from;
    copy->unsent = unsent;
    if (from->unsent_length > 0)
        memcpy(unsent, from->unsent, from->unsent_length);
    return copy;
}
