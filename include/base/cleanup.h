/* Ownership written into declarations (GCC's cleanup attribute; clang has it too).
 *
 *     CLEANUP(fd_close) int fd = socket(...);
 *     ...
 *     return TAKE_FD(fd);        the caller owns it now
 *
 * What is not taken is released on every way out of the scope, so an error path is one `return`. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

/* Hands the value out and leaves the variable with nothing to release. */
#define TAKE_FD(fd)                                                                                          \
    __extension__({                                                                                          \
        int taken_ = (fd);                                                                                   \
        (fd) = -1;                                                                                           \
        taken_;                                                                                              \
    })
#define TAKE_PTR(pointer)                                                                                    \
    __extension__({                                                                                          \
        __typeof__(pointer) taken_ = (pointer);                                                              \
        (pointer) = NULL;                                                                                    \
        taken_;                                                                                              \
    })

/* close(2) on Linux always frees the descriptor, also when it reports an error: never repeat it. */
static inline void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline void free_pointer(void *pointer)
{
    free(*(void **)pointer);
}

static inline void close_stream(FILE **stream)
{
    if (*stream)
        fclose(*stream);
}
