/* A pass over the comments, texts and numbers of a settings file, ahead of libconfig, for what libconfig
 * would read as something else without a word: NUL bytes, at which it stops; @include, which opens other
 * files; a comment that is never closed, which swallows the rest; integers that wrap or are octal to some of
 * its versions; escapes that are none. And for what would keep it busy for minutes. It knows no grammar. Main
 * thread only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct problems;

/* A NUL follows the `length` bytes. Adds what is found to `problems`. Sets misread[LINE] for each line with a
 * number that libconfig misreads. Returns whether libconfig may read the text. */
bool pitfalls_report(const char *text, size_t length, const char *file, struct problems *problems,
                     bool *misread);
