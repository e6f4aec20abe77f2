/* What is wrong with a command line, in our own words: getopt's begin with whatever argv[0] is. */
#pragma once

#define USAGE_PROBLEM_SIZE 128

/* `kind` is the '?' or ':' that getopt_long(3) has just returned, with opterr = 0 and ':' first of its
 * letters. Writes what is wrong with which option, and returns `out`. Main thread, like getopt. */
const char *usage_problem(char *argv[], int kind, char out[static USAGE_PROBLEM_SIZE]);
