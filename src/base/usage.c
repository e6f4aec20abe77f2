#include "base/usage.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

const char *usage_problem(char *argv[], int kind, char out[static USAGE_PROBLEM_SIZE])
{
    const char *argument = optind > 0 ? argv[optind - 1] : "";

    /* A cluster of short options has not been left while there is more of it to come. */
    if (optopt != 0 && strncmp(argument, "--", 2) != 0)
        (void)snprintf(out, USAGE_PROBLEM_SIZE, "-%c%s", optopt,
                       kind == ':' ? " needs an argument" : ": unknown option");
    else
        (void)snprintf(out, USAGE_PROBLEM_SIZE, "%.64s%s", argument,
                       kind == ':'   ? " needs an argument"
                       : optopt != 0 ? " takes no argument"
                                     : ": unknown or ambiguous option");
    return out;
}
