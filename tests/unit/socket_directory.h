/* A directory of its own for each test with a path: make_directory and remove_directory as a fixture. */
#pragma once

#include "common.h"

static char directory[64];
static char path[96]; /* of a socket in it */

static inline void make_directory(void)
{
    strcpy(directory, "/tmp/tcpechod-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/echo.sock", directory);
}

static inline void remove_directory(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0); /* nothing else was left in it */
}
