#include "base/usage.h"

#include "base/escape.h"
#include "base/nearest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 64
#define LINE_SIZE 768

int usage_fail(const char *program, const char *format, ...)
{
    char text[LINE_SIZE], shown[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    escape_controls(text, shown, sizeof shown);
    fprintf(stderr, "%s: %s; see %s --help\n", program, shown, program);
    return -EINVAL;
}

/* Of a long option as it was written: what stands before its "=". */
static const char *name_of(const char *argument, char out[static NAME_SIZE])
{
    argument += strspn(argument, "-");
    snprintf(out, NAME_SIZE, "%.*s", (int)strcspn(argument, "="), argument);
    return out;
}

/* Two options that an ambiguous abbreviation may stand for. Returns how many there were. */
static unsigned find_abbreviated(const char *name, const struct option *options, const char *found[static 2])
{
    unsigned count = 0;
    for (; options->name && name[0] != '\0'; options++)
        if (strncmp(options->name, name, strlen(name)) == 0) {
            if (count < 2)
                found[count] = options->name;
            count++;
        }
    return count;
}

static const char *nearest_option(const char *name, const struct option *options)
{
    struct nearest nearest = nearest_to(name);
    for (; options->name; options++)
        nearest_offer(&nearest, options->name);
    return nearest_name(&nearest);
}

static void describe_unknown(const char *argument, const struct option *options,
                             char out[static USAGE_PROBLEM_SIZE])
{
    char name[NAME_SIZE];
    const char *found[2];
    const char *nearest = nearest_option(name_of(argument, name), options);
    if (find_abbreviated(name, options, found) > 1)
        snprintf(out, USAGE_PROBLEM_SIZE, "%.64s: ambiguous option, as --%s or --%s", argument, found[0],
                 found[1]);
    else if (nearest)
        snprintf(out, USAGE_PROBLEM_SIZE, "%.64s: unknown option; did you mean --%s?", argument, nearest);
    else
        snprintf(out, USAGE_PROBLEM_SIZE, "%.64s: unknown option", argument);
}

const char *usage_problem(char *argv[], int kind, const struct option *options,
                          char out[static USAGE_PROBLEM_SIZE])
{
    const char *argument = optind > 0 ? argv[optind - 1] : "";
    /* A cluster of short options has not been left while there is more of it to come. */
    if (optopt != 0 && strncmp(argument, "--", 2) != 0)
        snprintf(out, USAGE_PROBLEM_SIZE, "-%c%s", optopt,
                 kind == ':' ? " needs an argument" : ": unknown option");
    else if (kind != ':' && optopt == 0)
        describe_unknown(argument, options, out);
    else
        snprintf(out, USAGE_PROBLEM_SIZE, "%.64s%s", argument,
                 kind == ':' ? " needs an argument" : " takes no argument");
    return out;
}
