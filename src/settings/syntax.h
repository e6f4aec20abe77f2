/* libconfig says "syntax error" and a line: what is most likely wrong with it, by how the line looks. No
 * grammar, and it may be wrong; libconfig alone says whether there is an error. Pure; any thread. */
#pragma once

#include <stdbool.h>

#define SYNTAX_CAUSE_SIZE 320

/* What to add to "syntax error": ": text must stand in quotes: "5m", in: idle_timeout = 5m;", or " in: ..."
 * when nothing is found. Returns whether something is. */
bool syntax_cause(const char *text, int line, char out[static SYNTAX_CAUSE_SIZE]);

/* Where this line starts. */
const char *syntax_line(const char *text, int line);

/* Where the line before this one starts, which is not the first. */
const char *syntax_line_before(const char *text, const char *line);
