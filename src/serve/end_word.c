#include "serve/end_word.h"

#include <stdbool.h>
#include <string.h>

/* Takes one byte that is not LF into account. */
static uint16_t match_byte(const char *word, size_t word_length, uint16_t matched, uint8_t byte)
{
    if (matched < word_length && byte == (uint8_t)word[matched])
        return (uint16_t)(matched + 1);
    if (matched == word_length && byte == '\r')
        return (uint16_t)(matched + 1);
    return END_WORD_NO_MATCH;
}

size_t end_word_find(const char *word, size_t word_length, uint16_t *line, const uint8_t *bytes,
                     size_t length)
{
    size_t i = 0;
    while (i < length) {
        if (*line == END_WORD_NO_MATCH) {
            /* Most of a stream is skipped here, at the speed of memchr. */
            const uint8_t *newline = memchr(bytes + i, '\n', length - i);
            if (!newline)
                return 0;
            i = (size_t)(newline - bytes) + 1;
            *line = 0;
        } else if (bytes[i] == '\n') {
            i++;
            bool whole = *line == word_length || *line == word_length + 1;
            *line = 0;
            if (whole)
                return i;
        } else {
            *line = match_byte(word, word_length, *line, bytes[i]);
            i++;
        }
    }
    return 0;
}
