/* What is wrong with the settings: all of it, in the order of the lines, as a value that is handed on. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct problem {
    int line;         /* 0: the file as a whole, or the command line */
    size_t order;     /* its place among all that were added */
    char *message;    /* "FILE:LINE: TEXT", "FILE: TEXT" or "tcpechod: TEXT", without a newline */
    const char *text; /* its end, what is wrong alone */
};

/* {0} is none. Whoever adds owns what was added, until problems_clear. */
struct problems {
    struct problem *items;
    size_t count;
};

/* `file` NULL: the command line. `line` 0: no line. Out of memory becomes a problem of its own, so that a
 * count of 0 always means that there was none. */
void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void problems_vadd(struct problems *problems, const char *file, int line, const char *format,
                   va_list arguments) __attribute__((format(printf, 4, 0)));

/* By line; equal lines keep their order. */
void problems_sort(struct problems *problems);

void problems_clear(struct problems *problems); /* also for CLEANUP() */
