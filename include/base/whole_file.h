/* A regular file that is replaced whole or not at all: whoever reads it never sees half of it. Any thread. */
#pragma once

#include <stdio.h>
#include <sys/stat.h>

/* Returns 0 when `path` names a regular file or nothing, else -EEXIST: what is there would be taken away for
 * good, as by a mistyped name (/dev/null, /dev/stdout). */
int whole_file_check(const char *path);

/* Writes what `fill` writes, with exactly this mode, and then takes the place of what `path` names. Returns 0
 * and, unless it is NULL, which file that is in *written; or a negative errno, also that of whole_file_check,
 * with the file before untouched. */
int whole_file_write(const char *path, mode_t mode, void (*fill)(FILE *out, const void *what),
                     const void *what, struct stat *written);
