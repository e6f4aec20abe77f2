/* A regular file that is replaced whole or not at all: whoever reads it never sees half of it. Any thread. */
#pragma once

#include <stdio.h>
#include <sys/stat.h>

/* Writes what `fill` writes, with exactly this mode, and then takes the place of what `path` names. Returns 0
 * and, unless it is NULL, which file that is in *written; or a negative errno, with the file before
 * untouched: -EEXIST when there is something that is no regular file, which a mistyped name would take away
 * for good (/dev/null, /dev/stdout). */
int whole_file_write(const char *path, mode_t mode, void (*fill)(FILE *out, const void *what),
                     const void *what, struct stat *written);
