#include "client/options.h"

#include "base/streams.h"

static void print_option(const struct option_row *row, FILE *out)
{
    char letter[8] = "    ";
    char left[64];

    if (row->letter)
        (void)snprintf(letter, sizeof letter, "-%c, ", row->letter);
    (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->argument ? " " : "",
                   row->argument ? row->argument : "");
    (void)fprintf(out, "  %-26s %s\n", left, row->help);
}

static void print_mode(enum client_mode mode, FILE *out)
{
    (void)fprintf(out, "\n%s\n", mode_table[mode].help);
    for (const struct option_row *row = option_table; row->name; row++)
        if ((row->modes & MODE_BIT(mode)) != 0 && row->modes != EVERY_MODE)
            print_option(row, out);
}

int client_options_print_help(const struct client_options *options, FILE *out)
{
    unsigned modes = options->mode_given ? MODE_BIT(options->mode) : EVERY_MODE;
    const char *head = "Usage:";

    for (size_t i = 0; i < MODE_COUNT; i++)
        if ((modes & MODE_BIT(i)) != 0) {
            (void)fprintf(out, "%-6s %s\n", head, mode_table[i].synopsis);
            head = "";
        }
    for (size_t i = 0; i < MODE_COUNT; i++)
        if ((modes & MODE_BIT(i)) != 0)
            print_mode((enum client_mode)i, out);
    (void)fputs("\nAlways:\n", out);
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->modes == EVERY_MODE)
            print_option(row, out);
    (void)fputs(
        "\n"
        "HOST is a name, an IPv4 or IPv6 address, or the path of a Unix socket; PORT a number or the name "
        "of\n"
        "a service, " DEFAULT_PORT " unless given.\n"
        "Exit status: 0 success, 1 wrong answer, 64 usage, 68 unknown name, 69 refused, 70 unreachable,\n"
        "71 system error, 74 stdin or stdout, 75 timed out, 76 closed early, 77 no permission.\n"
        "See tcpecho(1).\n",
        out);
    return print_finish(out);
}

int client_options_print_version(FILE *out)
{
    (void)fputs("tcpecho " PACKAGE_VERSION "\n", out);
    return print_finish(out);
}
