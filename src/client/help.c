#include "client/options.h"

#include "base/streams.h"
#include "client/net/target.h"

static void print_option(const struct option_row *row, FILE *out)
{
    char letter[8] = "    ";
    char left[64];
    if (row->letter)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->argument ? " " : "",
             row->argument ? row->argument : "");
    fprintf(out, "  %-31s %s\n", left, row->help);
}

static bool is_of_one_mode(const struct option_row *row)
{
    return (row->modes & (row->modes - 1)) == 0;
}

static void print_mode(enum client_mode mode, FILE *out)
{
    fprintf(out, "%s\n    %s\n", mode_table[mode].synopsis, mode_table[mode].help);
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->modes == MODE_BIT(mode))
            print_option(row, out);
}

/* "For talk, --listen:" */
static void print_heading(unsigned modes, FILE *out)
{
    const char *separator = "For ";
    if (modes == EVERY_MODE) {
        fputs("Always:\n", out);
        return;
    }
    for (size_t i = 0; i < MODE_COUNT; i++)
        if ((modes & MODE_BIT(i)) != 0) {
            const char *option = mode_table[i].option;
            fprintf(out, "%s%s%s", separator, option ? "--" : "HOST", option ? option : "");
            separator = ", ";
        }
    fputs(":\n", out);
}

/* Options that several modes have, each once. */
static void print_shared(unsigned modes, FILE *out)
{
    unsigned last = 0;
    for (const struct option_row *row = option_table; row->name; row++) {
        if ((row->modes & modes) == 0 || is_of_one_mode(row))
            continue;
        if (row->modes != last)
            print_heading(row->modes, out);
        last = row->modes;
        print_option(row, out);
    }
}

int client_options_print_help(const struct client_options *options, FILE *out)
{
    unsigned modes = options->mode_given ? MODE_BIT(options->mode) : EVERY_MODE;
    fputs("Usage:\n", out);
    for (size_t i = 0; i < MODE_COUNT; i++)
        if ((modes & MODE_BIT(i)) != 0)
            print_mode((enum client_mode)i, out);
    print_shared(modes, out);
    fputs("\n"
          "HOST is a name, an IPv4 or IPv6 address, or the path of a Unix socket; PORT a number or the name "
          "of\n"
          "a service, " DEFAULT_PORT " unless given. TIME is in seconds, or has a unit: 250ms, 10s, 5m.\n"
          "Exit status: 0 success, 1 wrong answer, 64 usage, 68 unknown name, 69 refused, 70 unreachable,\n"
          "71 system error, 74 stdin or stdout failed, 75 timed out, 76 closed early, 77 no permission.\n"
          "See tcpecho(1).\n",
          out);
    return print_finish(out);
}

int client_options_print_version(FILE *out)
{
    fputs("tcpecho " PACKAGE_VERSION "\n", out);
    return print_finish(out);
}
