/* The tokens of libconfig's language, cut exactly as libconfig 1.5's own scanner cuts them (its scanner.l),
 * so that what is found wrong with a token is wrong with what libconfig would read. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum token {
    TOKEN_END,
    TOKEN_BLANK,
    TOKEN_COMMENT,
    TOKEN_INCLUDE, /* from the start of its line to behind the closing quote, or to the end of the text */
    TOKEN_NAME,
    TOKEN_BOOLEAN,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_STRING,
    TOKEN_EQUALS,
    TOKEN_OPEN,  /* one of ( [ { */
    TOKEN_CLOSE, /* one of ) ] } */
    TOKEN_COMMA,
    TOKEN_SEMICOLON,
    TOKEN_GARBAGE,
    TOKEN_UNCLOSED_COMMENT,
    TOKEN_UNCLOSED_STRING,
};

/* The token that starts at `at`, and where it ends. The text ends in a newline and a NUL and holds no other
 * NUL. */
enum token lex_next(const char *text, size_t at, size_t *end);

/* Why this INTEGER or FLOAT must not reach libconfig, which would wrap, truncate or misread it; NULL: it may.
 */
const char *lex_number_fault(const char *text, size_t length, enum token token);

/* Where in a STRING an escaped NUL stands (libconfig drops it silently); NULL: nowhere. */
const char *lex_escaped_nul(const char *text, size_t length);
