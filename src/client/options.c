#include "client/options.h"

#include "base/units.h"
#include "base/usage.h"
#include "client/check/pattern.h"

#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#define OPTIONS_MAX 64 /* rows, and options on one command line */
#define LONG_ONLY 256  /* getopt's value of an option is its place in the table, added to this */

/* An option as it was given: what it means depends on the mode, which may come after it. */
struct given {
    const struct option_row *row;
    const char *text;
};

struct command_line {
    struct given given[OPTIONS_MAX];
    size_t count;
};

#define usage(...) usage_fail("tcpecho", __VA_ARGS__)

/* The rows of one name are neighbours in meaning: same letter, same need for an argument. */
static const struct option_row *find_row(const char *name, unsigned modes)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (strcmp(row->name, name) == 0 && (row->modes & modes) != 0)
            return row;
    return NULL;
}

static void *field_of(struct client_options *options, const struct option_row *row)
{
    return (char *)options + row->offset;
}

static int set_number(struct client_options *options, const struct option_row *row, const char *text)
{
    char low[SIZE_TEXT_SIZE], high[SIZE_TEXT_SIZE];
    uint64_t number = 0;
    int r;
    if (row->type == OPTION_COUNT)
        r = units_parse_quantity(text, &number);
    else if (row->type == OPTION_SIZE)
        r = units_parse_size(text, &number);
    else
        r = units_parse_duration(text, &number);
    if (r == 0 && number >= row->minimum && number <= row->maximum) {
        memcpy(field_of(options, row), &number, sizeof number);
        return 0;
    }
    if (row->type == OPTION_COUNT)
        return usage("--%s %.64s: must be %" PRIu64 " to %" PRIu64 ", as 100, 10k or 1M", row->name, text,
                     row->minimum, row->maximum);
    if (row->type == OPTION_SIZE)
        return usage("--%s %.64s: must be %s to %s, as 512, 64k or 1M", row->name, text,
                     units_format_size(row->minimum, low), units_format_size(row->maximum, high));
    return usage("--%s %.64s: must be %s to %s, as 0.5, 250ms, 10s or 5m", row->name, text,
                 units_format_duration(row->minimum, low), units_format_duration(row->maximum, high));
}

static int set_expectation(struct client_options *options, const struct option_row *row, const char *text)
{
    for (enum expectation expect = EXPECT_ECHO; expect <= EXPECT_UPPER; expect++)
        if (strcmp(text, expect_name(expect)) == 0) {
            *(enum expectation *)field_of(options, row) = expect;
            return 0;
        }
    return usage("--%s %.64s: must be echo or upper", row->name, text);
}

static int set_value(struct client_options *options, const struct option_row *row, const char *text)
{
    switch (row->type) {
    case OPTION_FLAG:
        *(bool *)field_of(options, row) = true;
        return 0;
    case OPTION_EXPECT:
        return set_expectation(options, row, text);
    case OPTION_MODE:
        if (row->argument)
            *(const char **)field_of(options, row) = text;
        return 0;
    default:
        return set_number(options, row, text);
    }
}

static void set_fallback(struct client_options *options, const struct option_row *row)
{
    if (row->type == OPTION_EXPECT)
        *(enum expectation *)field_of(options, row) = (enum expectation)row->fallback;
    else if (row->type != OPTION_FLAG && row->type != OPTION_MODE)
        memcpy(field_of(options, row), &row->fallback, sizeof row->fallback);
}

/* What getopt_long(3) wants to know. Rows of one name count once. */
static void describe(struct option long_options[static OPTIONS_MAX + 1],
                     char letters[static 2 * OPTIONS_MAX + 2])
{
    size_t count = 0;
    *letters++ = ':'; /* a missing argument is told apart */
    for (const struct option_row *row = option_table; row->name; row++) {
        if (find_row(row->name, EVERY_MODE) != row)
            continue;
        long_options[count++] = (struct option){
            .name = row->name,
            .has_arg = row->argument ? required_argument : no_argument,
            .val = row->letter ? row->letter : LONG_ONLY + (int)(row - option_table),
        };
        if (row->letter)
            *letters++ = row->letter;
        if (row->letter && row->argument)
            *letters++ = ':';
    }
    *letters = '\0';
    long_options[count] = (struct option){0};
}

/* NULL for what getopt_long(3) returns when it finds a mistake. */
static const struct option_row *row_of(int option)
{
    if (option >= LONG_ONLY)
        return &option_table[option - LONG_ONLY];
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->letter == option)
            return row;
    return NULL;
}

static int set_mode(struct client_options *options, const struct option_row *row)
{
    enum client_mode mode = (enum client_mode)__builtin_ctz(row->modes);
    if (options->mode_given && options->mode != mode)
        return usage("--%s and --%s cannot be had at once", mode_table[options->mode].option, row->name);
    options->mode = mode;
    options->mode_given = true;
    return 0;
}

static int take_option(int option, char *argv[], const struct option *long_options,
                       struct client_options *options, struct command_line *line)
{
    const struct option_row *row = row_of(option);
    char problem[USAGE_PROBLEM_SIZE];
    if (!row)
        return usage("%s", usage_problem(argv, option, long_options, problem));
    if (line->count == OPTIONS_MAX)
        return usage("more than %d options", OPTIONS_MAX);
    line->given[line->count++] = (struct given){.row = row, .text = optarg};
    /* Help is what was asked for, whatever the values and the operands are. */
    if (row->type == OPTION_FLAG && row->offset == offsetof(struct client_options, help))
        options->help = true;
    return row->type == OPTION_MODE ? set_mode(options, row) : 0;
}

static int refuse_for_mode(const struct client_options *options, const struct option_row *row)
{
    const char *name = mode_table[options->mode].option;
    if (name)
        return usage("--%s does not go with --%s", row->name, name);
    return usage("--%s does not go without one of the modes that have it", row->name);
}

static int apply(struct client_options *options, const struct command_line *line)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->modes & MODE_BIT(options->mode))
            set_fallback(options, row);
    for (size_t i = 0; i < line->count; i++) {
        const struct option_row *row = find_row(line->given[i].row->name, MODE_BIT(options->mode));
        if (!row)
            return refuse_for_mode(options, line->given[i].row);
        int r = set_value(options, row, line->given[i].text);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_operands(struct client_options *options, int count, char *words[])
{
    if (!mode_table[options->mode].has_host)
        return count == 0 ? 0
                          : usage("%.64s: --%s takes no HOST", words[0], mode_table[options->mode].option);
    if (count == 0)
        return usage("no HOST to connect to");
    if (count > 2)
        return usage("%.64s: one HOST and one PORT are all", words[2]);
    options->host = words[0];
    options->port = count > 1 ? words[1] : NULL;
    return 0;
}

int client_options_parse(int argc, char *argv[], struct client_options *out)
{
    struct client_options options = {0};
    struct command_line line = {0};
    struct option long_options[OPTIONS_MAX + 1];
    char letters[2 * OPTIONS_MAX + 2];
    int option, r = 0;
    describe(long_options, letters);
    opterr = 0;
    optind = 0; /* glibc: start anew, also after another use of getopt */
    while (r == 0 && (option = getopt_long(argc, argv, letters, long_options, NULL)) != -1)
        r = take_option(option, argv, long_options, &options, &line);
    if (r == 0 && !options.help)
        r = apply(&options, &line);
    if (r == 0 && !options.help && !options.version)
        r = take_operands(&options, argc - optind, argv + optind);
    if (r == 0)
        *out = options;
    return r;
}
