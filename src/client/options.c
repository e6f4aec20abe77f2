#include "client/options.h"

#include "base/clock.h"
#include "base/units.h"
#include "base/usage.h"
#include "client/check/pattern.h"
#include "client/net/target.h"

#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OPTIONS_MAX 64 /* rows, and options on one command line */
#define LONG_ONLY 256  /* getopt's value of an option is its place in the table, added to this */

/* An option as it was given: which one it is depends on the mode, which may come after it. */
struct given {
    const struct option_row *row; /* the first that is called so */
    bool by_letter;
    const char *text;
};

struct command_line {
    struct given given[OPTIONS_MAX];
    size_t count;
};

#define usage(...) usage_fail("tcpecho", __VA_ARGS__)

/* Rows of one name, and rows of one letter, have the same need for an argument. */
static const struct option_row *find_row(const char *name, unsigned modes)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (strcmp(row->name, name) == 0 && (row->modes & modes) != 0)
            return row;
    return NULL;
}

static const struct option_row *find_letter(int letter, unsigned modes)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->letter == letter && (row->modes & modes) != 0)
            return row;
    return NULL;
}

/* What else a letter may have been meant for, to follow a message; "" for none. */
#define HINT_SIZE 96
static const char *format_hint(int letter, char out[static HINT_SIZE])
{
    out[0] = '\0';
    for (const struct option_hint *hint = option_hints; hint->letter; hint++)
        if (hint->letter == letter)
            snprintf(out, HINT_SIZE, "; %s", hint->text);
    return out;
}

static void *field_of(struct client_options *options, const struct option_row *row)
{
    return (char *)options + row->offset;
}

/* A value that is refused, as it was typed, and, since a letter has many meanings, which option that is:
 * "--threads 5s:" or "-t 5s: --threads". */
#define REFUSED_SIZE 128
static const char *format_refused(const struct option_row *row, const struct given *given,
                                  char out[static REFUSED_SIZE])
{
    if (given->by_letter)
        snprintf(out, REFUSED_SIZE, "-%c %.64s: --%s", row->letter, given->text, row->name);
    else
        snprintf(out, REFUSED_SIZE, "--%s %.64s:", row->name, given->text);
    return out;
}

static int set_number(struct client_options *options, const struct option_row *row, const struct given *given)
{
    const char *text = given->text;
    char low[SIZE_TEXT_SIZE], high[SIZE_TEXT_SIZE], hint[HINT_SIZE], refused[REFUSED_SIZE];
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
        return usage("%s must be %" PRIu64 " %s %" PRIu64 "%s%s", format_refused(row, given, refused),
                     row->minimum, row->maximum - row->minimum == 1 ? "or" : "to", row->maximum,
                     row->maximum > 100 ? ", as 100, 10k or 1M" : "", format_hint(row->letter, hint));
    if (row->type == OPTION_SIZE)
        return usage("%s must be %s to %s, as 512, 64k or 1M", format_refused(row, given, refused),
                     units_format_size(row->minimum, low), units_format_size(row->maximum, high));
    return usage("%s must be %s to %s, as 0.5, 250ms, 10s or 5m", format_refused(row, given, refused),
                 units_format_duration(row->minimum, low), units_format_duration(row->maximum, high));
}

static int set_expectation(struct client_options *options, const struct option_row *row,
                           const struct given *given)
{
    const char *text = given->text;
    char refused[REFUSED_SIZE];
    for (enum expectation expect = EXPECT_ECHO; expect <= EXPECT_UPPER; expect++)
        if (strcmp(text, expect_name(expect)) == 0) {
            *(enum expectation *)field_of(options, row) = expect;
            return 0;
        }
    return usage("%s must be echo or upper", format_refused(row, given, refused));
}

/* getservbyname(3) is not asked for what nothing but digits can be: getaddrinfo(3) would take its lowest
 * bits.
 */
static bool is_port(const char *text)
{
    uint64_t number;
    if (text[strspn(text, "0123456789")] == '\0')
        return units_parse_count(text, &number) == 0 && number >= 1 && number <= UINT16_MAX;
    return getservbyname(text, "tcp") != NULL;
}

static int set_port(struct client_options *options, const struct option_row *row, const struct given *given)
{
    const char *text = given->text;
    char refused[REFUSED_SIZE];
    char hint[HINT_SIZE];
    *(const char **)field_of(options, row) = text;
    return is_port(text) ? 0
                         : usage("%s must be 1 to 65535 or the name of a service%s",
                                 format_refused(row, given, refused), format_hint(row->letter, hint));
}

/* A code point of RFC 2474, 2597 or 3246: "cs1", "af11", "ef". Returns the byte, or -1. */
static int parse_code_point(const char *text)
{
    size_t length = strlen(text);
    if (strcmp(text, "ef") == 0)
        return 46 << 2;
    if (length == 3 && memcmp(text, "cs", 2) == 0 && text[2] >= '0' && text[2] <= '7')
        return (text[2] - '0') << 5;
    if (length == 4 && memcmp(text, "af", 2) == 0 && text[2] >= '1' && text[2] <= '4' && text[3] >= '1' &&
        text[3] <= '3')
        return (text[2] - '0') << 5 | (text[3] - '0') << 3;
    return -1;
}

static int set_tos(struct client_options *options, const struct option_row *row, const struct given *given)
{
    const char *text = given->text;
    char refused[REFUSED_SIZE];
    int point = parse_code_point(text);
    uint64_t number = point >= 0 ? (uint64_t)point : UINT64_MAX;
    char *end = NULL;
    if (strncasecmp(text, "0x", 2) == 0 && isxdigit((unsigned char)text[2]))
        number = strtoull(text, &end, 16);
    if (number > row->maximum && units_parse_number(text, row->maximum, &number) < 0)
        number = UINT64_MAX;
    if (number > row->maximum || (end && *end != '\0'))
        return usage("%s must be 0 to 255, 0x0 to 0xff, ef, af11 to af43 or cs0 to cs7",
                     format_refused(row, given, refused));
    options->tos = number;
    options->tos_given = true;
    return 0;
}

static int set_limits(struct client_options *options, const struct option_row *row, const struct given *given)
{
    const char *text = given->text;
    char refused[REFUSED_SIZE];
    const char *comma = strchr(text, ',');
    char warning[32];
    if (!comma ||
        snprintf(warning, sizeof warning, "%.*s", (int)(comma - text), text) >= (int)sizeof warning ||
        units_parse_duration(warning, &options->warning_usec) < 0 ||
        units_parse_duration(comma + 1, &options->critical_usec) < 0 ||
        options->warning_usec > options->critical_usec)
        return usage("%s must be two times, the first not longer, as 100ms,500ms",
                     format_refused(row, given, refused));
    *(const char **)field_of(options, row) = text;
    return 0;
}

static int set_value(struct client_options *options, const struct option_row *row, const struct given *given)
{
    const char *text = given->text;
    switch (row->type) {
    case OPTION_FLAG:
        *(bool *)field_of(options, row) = true;
        return 0;
    case OPTION_EXPECT:
        return set_expectation(options, row, given);
    case OPTION_PORT:
        return set_port(options, row, given);
    case OPTION_LIMITS:
        return set_limits(options, row, given);
    case OPTION_TOS:
        return set_tos(options, row, given);
    case OPTION_TEXT:
        *(const char **)field_of(options, row) = text;
        return 0;
    case OPTION_MODE:
        if (row->argument)
            *(const char **)field_of(options, row) = text;
        return 0;
    default:
        return set_number(options, row, given);
    }
}

static void set_fallback(struct client_options *options, const struct option_row *row)
{
    if (row->type == OPTION_EXPECT)
        *(enum expectation *)field_of(options, row) = (enum expectation)row->fallback;
    else if (row->type == OPTION_COUNT || row->type == OPTION_SIZE || row->type == OPTION_DURATION)
        memcpy(field_of(options, row), &row->fallback, sizeof row->fallback);
}

/* What getopt_long(3) wants to know. Rows of one name, and of one letter, count once. */
static void describe(struct option long_options[static OPTIONS_MAX + 1],
                     char letters[static 2 * OPTIONS_MAX + 2])
{
    size_t count = 0;
    *letters++ = ':'; /* a missing argument is told apart */
    for (const struct option_row *row = option_table; row->name; row++) {
        if (find_row(row->name, EVERY_MODE) == row)
            long_options[count++] = (struct option){
                .name = row->name,
                .has_arg = row->argument ? required_argument : no_argument,
                .val = LONG_ONLY + (int)(row - option_table),
            };
        if (!row->letter || find_letter(row->letter, EVERY_MODE) != row)
            continue;
        *letters++ = row->letter;
        if (row->argument)
            *letters++ = ':';
    }
    *letters = '\0';
    long_options[count] = (struct option){0};
}

static int refuse_option(char *argv[], int kind, const struct option *options)
{
    char problem[USAGE_PROBLEM_SIZE], hint[HINT_SIZE];
    usage_problem(argv, kind, options, problem);
    return usage("%s%s", problem, format_hint(kind == '?' ? optopt : 0, hint));
}

static int set_mode(struct client_options *options, const struct option_row *row)
{
    enum client_mode mode = (enum client_mode)__builtin_ctz(row->modes);
    if (options->mode_given && options->mode != mode)
        return usage("--%s and --%s cannot be used together", mode_table[options->mode].option, row->name);
    options->mode = mode;
    options->mode_given = true;
    return 0;
}

static bool is_mode_option(int option)
{
    return option >= LONG_ONLY && option_table[option - LONG_ONLY].type == OPTION_MODE;
}

/* No address begins with "-": "--listen --help" asks for help. What is missing is told when it is needed. */
static bool lacks_address(int option, char *argv[])
{
    return is_mode_option(option) && optarg && optarg == argv[optind - 1] && optarg[0] == '-';
}

static int take_option(int option, char *argv[], const struct option *long_options,
                       struct client_options *options, struct command_line *line)
{
    if (option == ':' && is_mode_option(optopt)) {
        option = optopt;
    } else if (option == ':' || option == '?') {
        return refuse_option(argv, option, long_options);
    } else if (lacks_address(option, argv)) {
        optarg = NULL;
        optind--;
    }
    bool by_letter = option < LONG_ONLY;
    const struct option_row *row =
        by_letter ? find_letter(option, EVERY_MODE) : &option_table[option - LONG_ONLY];
    if (line->count == OPTIONS_MAX)
        return usage("more than %d options", OPTIONS_MAX);
    line->given[line->count++] = (struct given){row, by_letter, optarg};
    /* Help is what was asked for, whatever the values and the operands are. */
    if (row->type == OPTION_FLAG && row->offset == offsetof(struct client_options, help))
        options->help = true;
    return row->type == OPTION_MODE ? set_mode(options, row) : 0;
}

#define MODE_TEXT_SIZE 24
static const char *mode_text(enum client_mode mode, char out[static MODE_TEXT_SIZE])
{
    const char *option = mode_table[mode].option;
    snprintf(out, MODE_TEXT_SIZE, "%s%s", option ? "--" : "a talk", option ? option : "");
    return out;
}

/* An option as messages call it: "-c" or "--count". */
#define SPELLED_SIZE 40
static const char *spell(const struct given *given, char out[static SPELLED_SIZE])
{
    if (given->by_letter)
        snprintf(out, SPELLED_SIZE, "-%c", given->row->letter);
    else
        snprintf(out, SPELLED_SIZE, "--%s", given->row->name);
    return out;
}

/* Which option of the mode does the same; NULL: none. */
static const struct option_row *find_substitute(const struct given *given, unsigned mode)
{
    for (const struct option_substitute *item = option_substitutes; item->name; item++) {
        const struct option_row *row = find_row(item->name, EVERY_MODE);
        bool is_meant = given->by_letter ? row->letter == given->row->letter : row->name == given->row->name;
        if (is_meant && (item->modes & mode) != 0)
            return find_row(item->substitute, mode);
    }
    return NULL;
}

/* "--ping (--count), --bench (--connections)": the modes that have it, and what a letter is there. */
static void list_modes(const struct given *given, char *out, size_t size)
{
    size_t length = 0;
    char name[MODE_TEXT_SIZE];
    for (enum client_mode mode = 0; mode < MODE_COUNT && length < size; mode++) {
        const struct option_row *row = given->by_letter ? find_letter(given->row->letter, MODE_BIT(mode))
                                                        : find_row(given->row->name, MODE_BIT(mode));
        if (!row)
            continue;
        length += (size_t)snprintf(out + length, size - length, "%s%s", length > 0 ? ", " : "",
                                   mode_text(mode, name));
        if (given->by_letter && length < size)
            length += (size_t)snprintf(out + length, size - length, " (--%s)", row->name);
    }
}

static int refuse_for_mode(const struct client_options *options, const struct given *given)
{
    char mode[MODE_TEXT_SIZE], option[SPELLED_SIZE], modes[256], hint[HINT_SIZE];
    const struct option_row *substitute = find_substitute(given, MODE_BIT(options->mode));
    mode_text(options->mode, mode);
    spell(given, option);
    format_hint(given->by_letter ? given->row->letter : 0, hint);
    if (substitute && substitute->letter)
        return usage("%s takes no %s; type -%c or --%s", mode, option, substitute->letter, substitute->name);
    if (substitute)
        return usage("%s takes no %s; type --%s", mode, option, substitute->name);
    list_modes(given, modes, sizeof modes);
    return usage("%s takes no %s; it goes with %s%s", mode, option, modes, hint);
}

/* Which one it is in the mode; NULL: none. */
static const struct option_row *find_given(const struct given *given, enum client_mode mode)
{
    return given->by_letter ? find_letter(given->row->letter, MODE_BIT(mode))
                            : find_row(given->row->name, MODE_BIT(mode));
}

static int apply(struct client_options *options, const struct command_line *line)
{
    for (const struct option_row *row = option_table; row->name; row++)
        if (row->modes & MODE_BIT(options->mode))
            set_fallback(options, row);
    for (size_t i = 0; i < line->count; i++) {
        const struct given *given = &line->given[i];
        const struct option_row *row = find_given(given, options->mode);
        if (!row)
            return refuse_for_mode(options, given);
        int r = set_value(options, row, given);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A check has an end. */
#define CHECK_MESSAGES 5
#define CHECK_USEC (10 * USEC_PER_SEC)
static void limit_check(struct client_options *options)
{
    if (options->nagios && options->mode == MODE_PING && options->count == 0 &&
        options->deadline_usec == USEC_NEVER)
        options->count = CHECK_MESSAGES;
    if (options->nagios && options->mode == MODE_WATCH && options->duration_usec == USEC_NEVER)
        options->duration_usec = CHECK_USEC;
}

/* "10.0.0.1,10.0.0.2"; what only has commas is refused where it is parsed. */
static bool lists_several(const char *source)
{
    const char *comma = strchr(source, ',');
    return comma && comma > source && comma[strspn(comma, ",")] != '\0';
}

/* What no row alone can say. */
static int check_together(const struct client_options *options)
{
    if (options->ipv4 && options->ipv6)
        return usage("--ipv4 and --ipv6 cannot be used together");
    if (options->source && options->mode != MODE_BENCH && lists_several(options->source))
        return usage("--source %.64s: several addresses are for --bench", options->source);
    if (options->reconnect && options->rate > 0)
        return usage("--reconnect and --rate cannot be used together");
    if (options->proxy_source && options->proxy_protocol == 0)
        return usage("--proxy-source is for --proxy-protocol");
    if (options->json + options->csv + (options->nagios != NULL) > 1)
        return usage("only one of --json, --csv and --nagios can be used");
    if (options->json && options->verbose)
        return usage("--json says what --verbose would: leave out --verbose");
    if (options->send && options->receive)
        return usage("--send and --receive cannot be used together");
    if ((options->send || options->receive) &&
        (options->reconnect || options->rate > 0 || options->expect != EXPECT_ANYTHING))
        return usage("--send and --receive go one way: no --reconnect, --rate or --expect");
    return 0;
}

/* Digits that are no port are refused as one. */
static bool may_be_port(const char *word)
{
    return word[strspn(word, "0123456789")] == '\0' || is_port(word);
}

/* Of --ping there may be several, and the port is an option then. */
static int take_hosts(struct client_options *options, int count, char *words[])
{
    for (int i = 0; i < count; i++)
        if (words[i][strspn(words[i], "0123456789")] == '\0')
            return options->port ? usage("%.64s: --port has set the port to %.64s", words[i], options->port)
                                 : usage("%.64s: the port of several HOSTs is given by -p", words[i]);
    if (options->nagios && count > 1)
        return usage("%.64s: --nagios takes one HOST", words[1]);
    for (int i = 1; options->prometheus && i < count; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(words[i], words[j]) == 0)
                return usage("%.64s: given twice, and --prometheus has one series of each HOST", words[i]);
    options->host_count = (size_t)count;
    return 0;
}

static int take_operands(struct client_options *options, int count, char *words[])
{
    if (options->mode == MODE_CHAT && !options->listen)
        return usage("--listen needs an argument");
    if (!mode_table[options->mode].has_host)
        return count == 0 ? 0
                          : usage("%.64s: --%s takes no HOST", words[0], mode_table[options->mode].option);
    if (count == 0)
        return usage("no HOST to connect to");
    options->host = words[0];
    options->hosts = words;
    options->host_count = 1;
    if (options->mode == MODE_PING && (options->port || count > 2 || (count == 2 && !may_be_port(words[1]))))
        return take_hosts(options, count, words);
    if (count > 2)
        return usage("%.64s: no more than one HOST and one PORT", words[2]);
    if (count > 1 && options->port)
        return usage("%.64s: --port has set the port to %.64s", words[1], options->port);
    if (count > 1)
        options->port = words[1];
    return 0;
}

static bool is_given(const struct command_line *line, const char *name)
{
    for (size_t i = 0; i < line->count; i++)
        if (strcmp(line->given[i].row->name, name) == 0)
            return true;
    return false;
}

/* What --connect does not do. */
static int check_connect(const struct command_line *line)
{
    static const struct {
        const char *name, *why;
    } useless[] = {
        {"size", "sends nothing"},           {"expect", "reads nothing"},
        {"proxy-protocol", "sends nothing"}, {"skip-line", "reads nothing"},
        {"skip", "reads nothing"},           {"connect-timeout", "waits for as long as --wait says"},
    };
    for (size_t i = 0; i < sizeof useless / sizeof useless[0]; i++)
        if (is_given(line, useless[i].name))
            return usage("--connect %s: leave out --%s", useless[i].why, useless[i].name);
    return 0;
}

/* What would do nothing, or was said already. */
static int check_useless(const struct client_options *options, const struct command_line *line)
{
    const char *output = options->nagios ? "nagios" : options->csv ? "csv" : options->json ? "json" : NULL;
    if (options->timestamps && output)
        return usage("--timestamps is for lines of text: leave it out with --%s", output);
    if (options->quiet && options->csv)
        return usage("--csv prints no summary: leave out --quiet");
    if (options->quiet && options->nagios)
        return usage("--nagios prints one line: leave out --quiet");
    if (options->nagios && !options->prometheus && is_given(line, "gap")) /* the metrics use it */
        return usage("--nagios has limits of its own: leave out --gap");
    if (options->receive && is_given(line, "wait"))
        return usage("--receive ends without waiting for anything: no --wait");
    for (size_t i = 0; is_given(line, "port") && i < options->host_count; i++)
        if (target_has_port(options->hosts[i]))
            return usage("%.128s: has its port already, and --port has set it to %.64s", options->hosts[i],
                         options->port);
    for (size_t i = 0; options->proxy_source && i < options->host_count; i++)
        if (target_is_path(options->hosts[i]))
            return usage("%.128s: a path has no addresses to tell; leave out --proxy-source",
                         options->hosts[i]);
    return options->connect ? check_connect(line) : 0;
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
    if (r == 0 && !options.help)
        r = check_together(&options);
    if (r == 0)
        limit_check(&options);
    if (r == 0 && !options.help && !options.version)
        r = take_operands(&options, argc - optind, argv + optind);
    if (r == 0)
        r = check_useless(&options, &line);
    if (r == 0)
        *out = options;
    return r;
}
