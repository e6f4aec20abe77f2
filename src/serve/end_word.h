/* Finds a line that is exactly one word, ended by LF or CRLF, in a stream that arrives in pieces of any size.
 *
 * All it keeps between two pieces is one number: how many bytes of "word CR" the line under way has matched,
 * or END_WORD_NO_MATCH when it cannot match any more. A fresh stream starts with 0. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define END_WORD_NO_MATCH UINT16_MAX
#define END_WORD_MAX 255 /* bytes */

/* Returns how many of the bytes come up to and with the LF of the first such line, or 0 when it is not among
 * them. */
size_t end_word_find(const char *word, size_t word_length, uint16_t *line, const uint8_t *bytes,
                     size_t length);
