#include "client/options.h"

#include "base/streams.h"

#include <string.h>

#define WIDTH 79U /* of a terminal of 80 columns */
#define HELP_COLUMN 30U

/* From column `column` on, where the cursor is, in words. */
static void print_wrapped(const char *text, unsigned column, FILE *out)
{
    unsigned at = column;
    while (*text != '\0') {
        unsigned length = (unsigned)strcspn(text, " ");
        if (at > column && at + 1 + length > WIDTH) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        }
        at += (unsigned)fprintf(out, "%s%.*s", at > column ? " " : "", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_option(const struct option_row *row, FILE *out)
{
    char letter[8] = "    ";
    if (row->letter)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    int length = fprintf(out, "  %s--%s%s%s", letter, row->name, row->argument ? " " : "",
                         row->argument ? row->argument : "");
    if (length + 2 > (int)HELP_COLUMN)
        length = -fprintf(out, "\n") + 1;
    fprintf(out, "%*s", (int)HELP_COLUMN - length, "");
    print_wrapped(row->help, HELP_COLUMN, out);
}

static bool is_of_one_mode(const struct option_row *row)
{
    return (row->modes & (row->modes - 1)) == 0;
}

static void print_mode(enum client_mode mode, FILE *out)
{
    fprintf(out, "%s\n    ", mode_table[mode].synopsis);
    print_wrapped(mode_table[mode].help, 4, out);
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
static void print_shared(FILE *out)
{
    unsigned last = 0;
    for (const struct option_row *row = option_table; row->name; row++) {
        if (is_of_one_mode(row))
            continue;
        if (row->modes != last)
            print_heading(row->modes, out);
        last = row->modes;
        print_option(row, out);
    }
}

static void print_options_of(unsigned modes, enum client_mode mode, FILE *out)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->modes == modes || (modes == 0 && (row->modes & MODE_BIT(mode)) != 0))
            print_option(row, out);
}

int client_options_print_help(const struct client_options *options, FILE *out)
{
    static char buffer[16384];
    setvbuf(out, buffer, _IOFBF, sizeof buffer); /* one write, whose error is told */
    fputs("Usage:\n", out);
    for (enum client_mode mode = 0; mode < MODE_COUNT; mode++) {
        if (options->mode_given && options->mode != mode)
            continue;
        print_mode(mode, out);
        print_options_of(options->mode_given ? 0 : MODE_BIT(mode), mode, out);
    }
    if (!options->mode_given)
        print_shared(out);
    fputs("\n"
          "HOST is a name, an IPv4 or IPv6 address, or the path of a Unix socket. TIME is\n"
          "in seconds, or has a unit: 250ms, 10s, 5m. N may be 10k, BYTES 64k or 1M.\n"
          "Exit status: 0 success, 1 wrong, lost or broken, or an outage, 64 usage,\n"
          "68 unknown name, 69 refused, 70 unreachable, 71 system error, 74 stdin, stdout\n"
          "or a file failed, 75 timed out, 76 closed early, 77 no permission.\n"
          "With --nagios: OK (0), warning (1), critical (2), unknown (3).\n",
          out);
    fputs(options->mode_given ? "See tcpecho(1).\n"
                              : "See tcpecho(1); tcpecho --ping --help tells of one mode only.\n",
          out);
    return print_finish(out);
}

int client_options_print_version(FILE *out)
{
    fputs("tcpecho " PACKAGE_VERSION "\n", out);
    return print_finish(out);
}
