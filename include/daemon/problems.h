/* What is wrong with the settings: all of it, in the order of the lines, before anything else happens. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct problem {
    int line;      /* 0: the file as a whole, or the command line */
    size_t order;  /* the how manieth it was to be added */
    char *message; /* "FILE:LINE: message" or "FILE: message" or "tcpechod: message", without a newline */
};

struct problems {
    struct problem *items;
    size_t count;
};

/* `file` NULL: the command line. `line` 0: no line. Out of memory is remembered as a problem of its own, so
 * that a count of 0 always means that there was none. */
void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void problems_vadd(struct problems *problems, const char *file, int line, const char *format,
                   va_list arguments) __attribute__((format(printf, 4, 0)));

/* By line; equal lines keep their order. */
void problems_sort(struct problems *problems);

void problems_clear(struct problems *problems); /* also for CLEANUP() */
