/* A JSON document (RFC 8259) as it is written: objects and lists in one another, texts, numbers. The caller
 * sees to it that each opening is closed. Write errors stay in the stream. */
#pragma once

#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool one_line; /* no line ends and no indentation; otherwise the last of the document is a newline */
    unsigned depth;
    bool is_first; /* of the object or list that is open */
};

/* `key` is NULL in a list and for the document itself. */
void json_open(struct json *json, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *json, char bracket);                 /* '}' or ']' */

/* Control characters of ASCII are escaped. Each byte of what is not UTF-8, or of a C1 control character,
 * becomes U+FFFD. */
void json_text(struct json *json, const char *key, const char *text);
void json_bytes(struct json *json, const char *key, struct span text); /* a NUL among them is escaped too */

/* Whether json_bytes writes all of it as it is, with no U+FFFD in its place. */
bool json_is_exact(struct span text);

void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

/* A number, its unit in the key: "elapsed_s", "size_bytes". */
void json_count(struct json *json, const char *key, uint64_t value);
void json_number(struct json *json, const char *key, double value);

/* [1, 2, 3] on one line. */
void json_row(struct json *json, const uint64_t *values, unsigned count);
