/* What only a person at a terminal sees: colour, and a line of progress that is gone when it is done.
 *
 * Neither is ever written where `fd` is no terminal, $NO_COLOR (no-color.org) is set or $TERM is "dumb": then
 * all of this does nothing. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct terminal {
    int fd;
    bool is_terminal;
    bool is_rich; /* colour and control codes are welcome */
    bool progress_shown;
};

enum colour {
    COLOUR_OFF,
    COLOUR_BAD,
    COLOUR_GOOD,
    COLOUR_DIM,
};

void terminal_init(struct terminal *terminal, int fd);

/* Its columns now; 80 where nobody knows. */
unsigned terminal_width(const struct terminal *terminal);

/* The control code, or "". */
const char *terminal_colour(const struct terminal *terminal, enum colour colour);

/* Puts one line in the place of the one before, cut to the width. Text without control characters. */
void terminal_progress(struct terminal *terminal, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Before anything else is written there. */
void terminal_progress_erase(struct terminal *terminal);

/* Words, from column `column` on, where the cursor is. A blank becomes the end of a line where the next word
 * would go beyond `width`; NO_BREAK is a blank that does not. Without a newline at the end. */
#define NO_BREAK "\x1f"
void print_wrapped(FILE *out, unsigned width, unsigned column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A line on the other addresses that were tried; none when there were none. */
void print_tried(FILE *out, const char *tried);

/* "BEFORE 3 KIND", or nothing when there are none. */
void print_count(FILE *out, const char *before, uint64_t count, const char *kind);

/* "tcpecho: TEXT" and a newline on stderr, in one write, so that lines of two processes do not mix. Nobody is
 * told when even that fails. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The text of the latest error of this thread, without control characters. */
const char *print_error_latest(void);

/* From here on no error is printed, and the text of the latest is in `out`: for what has a line of its own to
 * say it on. */
#define HELD_ERROR_SIZE 1024
void print_error_hold(char out[static HELD_ERROR_SIZE]);
