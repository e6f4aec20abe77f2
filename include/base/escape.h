/* Bytes of strangers as text that is safe in a terminal, a log and a settings file. Pure; any thread. */
#pragma once

#include <stddef.h>

/* Writes at most `limit` of the bytes, escaped as in C (\n \r \t \\ \" \xNN; printable ASCII as it is), and
 * "..." after them when some were left out. `out` holds at least 4 * limit + 4 bytes. Returns `out`. */
const char *escape_excerpt(const void *bytes, size_t length, size_t limit, char *out);

/* A whole string between quotes as libconfig 1.5 and later read it back, byte for byte. UTF-8 stays as it is;
 * control characters (C0, DEL, C1) and bytes that are not UTF-8 become \xNN, so that a terminal can show it.
 * Returns it, owned by the caller (free(3)), or NULL when memory is short. */
char *escape_quoted(const char *text);

/* Writes text as a terminal can show it to `out` of `size` bytes, at least one: like escape_quoted, but
 * without quotes, and with \ and " as they are. What does not fit is left out. Returns the length. */
size_t escape_controls(const char *text, char *out, size_t size);

/* The length of the printable non-ASCII character of UTF-8 (RFC 3629) that a string begins with; 0: it begins
 * with none, or with a C1 control character, which a terminal obeys. The NUL at the end of the string stops
 * every look ahead, since it is no continuation byte. */
size_t utf8_length(const void *bytes);

/* Puts "..." in place of the end of a text of `length` bytes, at least 3, that was cut off there, and leaves
 * no half of a UTF-8 character before it. Returns the length that it has then. */
size_t escape_cut_short(char *text, size_t length);
