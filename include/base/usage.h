/* What is wrong with a command line, in our own words: getopt's begin with whatever argv[0] is. */
#pragma once

#include <getopt.h>

/* "PROGRAM: TEXT; see PROGRAM --help" as one line on stderr, with control characters escaped: what a user has
 * typed, or a script, may be anything. Returns -EINVAL. Nobody is told when even that fails. */
int usage_fail(const char *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define USAGE_PROBLEM_SIZE 192

/* `kind` is the '?' or ':' that getopt_long(3) has just returned, with opterr = 0 and ':' first of its
 * letters. Writes what is wrong with which option, and which of the long `options` (those of getopt_long) may
 * have been meant, and returns `out`. Main thread, like getopt. */
const char *usage_problem(char *argv[], int kind, const struct option *options,
                          char out[static USAGE_PROBLEM_SIZE]);
