/* What goes to stderr, as text: the log of the test's own thread. */
#pragma once

#include "base/log.h"
#include "common.h"

#include <sys/mman.h>

static int saved_stderr;
static int captured;

static inline void capture(enum log_level level)
{
    const struct log_settings settings = {.level = level, .target = LOG_TARGET_STDERR};
    captured = memfd_create("stderr", MFD_CLOEXEC);
    ck_assert_int_ge(captured, 0);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    ck_assert_int_ge(saved_stderr, 0);
    ck_assert_int_eq(dup2(captured, STDERR_FILENO), STDERR_FILENO);
    log_configure(&settings);
}

/* Puts stderr back; returns what was written meanwhile. */
static inline const char *written(void)
{
    static char text[8192];
    ck_assert_int_eq(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
    ssize_t length = pread(captured, text, sizeof text - 1, 0);
    close(captured);
    ck_assert_int_ge(length, 0);
    text[length] = '\0';
    return text;
}

static inline void expect_in(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "'%s' is not in '%s'", part, text);
}
