/* A settings file as bytes: reading it, and what is wrong with single bytes of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct problems;

/* More is no settings file, but something that was named by mistake. */
#define SETTINGS_FILE_LIMIT 1048576 /* bytes */

/* Reads the whole file. It is never waited for: what is no regular file (a FIFO, a device, a directory) is
 * refused. Returns 0 with *out owned by the caller; -ENOENT when there is no such file, with nothing
 * reported; -EINVAL after what is wrong was added to `problems`. */
int text_read(const char *file, struct problems *problems, char **out, size_t *length);

/* A copy that ends in a newline and a NUL: libconfig 1.5 takes a comment in a last line without a newline for
 * a syntax error. NULL when memory is short. */
char *text_copy(const char *bytes, size_t length);

int text_count_lines(const char *text, size_t length);

/* Reports a byte order mark and blanks it in both copies. */
void text_drop_mark(char *text, char *source, const char *file, struct problems *problems);

/* Reports NULs, once a line, and blanks them in both copies of `length` bytes. */
void text_drop_nuls(char *text, char *source, size_t length, const char *file, struct problems *problems);

/* True when a NUL byte stands in this line: what libconfig says of the line follows from that. */
bool text_has_nul(const char *bytes, size_t length, int line);
