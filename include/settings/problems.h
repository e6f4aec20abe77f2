/* What is wrong, all of it, as a value that is handed on: of the settings, a start, a reload. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct problem {
    int line;         /* 0: the file as a whole, or the command line */
    size_t order;     /* its place among all that were added */
    char *message;    /* "FILE:LINE: TEXT", "FILE: TEXT", or TEXT alone, without a newline */
    const char *text; /* its end, what is wrong alone */
};

/* {0} is none. Whoever adds owns what was added, until problems_clear. */
struct problems {
    struct problem *items;
    size_t count;
};

/* `file` NULL: no file. `line` 0: no line. Out of memory becomes a problem of its own, so that a
 * count of 0 always means that there was none. */
void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void problems_vadd(struct problems *problems, const char *file, int line, const char *format,
                   va_list arguments) __attribute__((format(printf, 4, 0)));

/* By line; equal lines keep their order. */
void problems_sort(struct problems *problems);

/* The first message, or "" when there is none. Lives as long as the problems. */
const char *problems_first(const struct problems *problems);

/* A line each; where no file is named, "tcpechod: " comes first, as for any message on stderr. */
void problems_print(const struct problems *problems, FILE *out);

/* As many as there is room for, a line each, into `size` bytes with the NUL; a last line says when there are
 * more. Returns `out`. */
const char *problems_join(const struct problems *problems, char *out, size_t size);

void problems_clear(struct problems *problems); /* also for CLEANUP() */
