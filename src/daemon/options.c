#include "daemon/options.h"

#include "base/cleanup.h"
#include "base/streams.h"
#include "base/units.h"
#include "base/usage.h"
#include "serve/services.h"
#include "settings/listener_settings.h"
#include "settings/problems.h"
#include "settings/table.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Those without a letter, and what getopt_long returns for an operand ("-", RETURN_IN_ORDER). */
enum {
    OPERAND = 1,
    OPTION_PORT_FILE = UINT8_MAX + 1,
};

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"listen", required_argument, NULL, 'l'},
    {"port", required_argument, NULL, 'p'},
    {"workers", required_argument, NULL, 'w'},
    {"log-level", required_argument, NULL, 'L'},
    {"test", no_argument, NULL, 't'},
    {"dump", no_argument, NULL, 'T'},
    {"reload", required_argument, NULL, 'R'},
    {"port-file", required_argument, NULL, OPTION_PORT_FILE},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

#define usage(...) usage_fail("tcpechod", __VA_ARGS__)

static int no_memory(void)
{
    return usage("%s", strerror(ENOMEM));
}

static int add_listener(struct options *options, const char *spec)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(listener_settings_clear) struct listener_settings listener = {0};
    struct settings_source *source = &options->settings;
    if (listener_settings_from_spec(spec, &problems, &listener) < 0)
        return usage("%s", problems.items[0].text);
    const char **grown = reallocarray(source->listen, source->listen_count + 1, sizeof *grown);
    if (!grown)
        return no_memory();
    source->listen = grown;
    grown[source->listen_count] = strdup(spec);
    return grown[source->listen_count++] ? 0 : no_memory();
}

static int add_port(struct options *options, const char *text)
{
    uint64_t port;
    char spec[32];
    if (units_parse_number(text, UINT16_MAX, &port) < 0)
        return usage("--port %.64s: must be 0 to 65535", text);
    snprintf(spec, sizeof spec, "echo@*:%" PRIu64, port);
    return add_listener(options, spec);
}

static int set_workers(struct options *options, const char *text)
{
    const struct setting_row *row = setting_find(SCOPE_GLOBAL, "workers");
    char expectation[SETTING_EXPECTATION_SIZE];
    uint64_t workers;
    if (units_parse_number(text, row->maximum, &workers) < 0)
        return usage("--workers %.64s: %s", text, setting_expectation(row, expectation));
    options->settings.workers = (int64_t)workers;
    return 0;
}

static int set_log_level(struct options *options, const char *text)
{
    const struct setting_row *row = setting_find(SCOPE_LOG, "level");
    char expectation[SETTING_EXPECTATION_SIZE];
    for (const struct setting_choice *choice = row->choices; choice->name; choice++)
        if (strcmp(choice->name, text) == 0) {
            options->settings.log_level = choice->value;
            return 0;
        }
    return usage("--log-level %.64s: %s", text, setting_expectation(row, expectation));
}

static int set_file(const char *option, const char *file, const char **out)
{
    if (file[0] == '\0')
        return usage("%s: the name of the file is empty", option);
    *out = file;
    return 0;
}

static int set_action(struct options *options, enum options_action action)
{
    if (options->action != ACTION_RUN && options->action != action)
        return usage("--test, --dump and --reload cannot be had at once");
    options->action = action;
    return 0;
}

static int set_daemon(struct options *options, const char *text)
{
    uint64_t daemon;
    if (units_parse_number(text, INT32_MAX, &daemon) < 0 || daemon == 0)
        return usage("--reload %.64s: must be the process id of a tcpechod", text);
    options->daemon = (pid_t)daemon;
    return set_action(options, ACTION_RELOAD);
}

/* The daemon reads its own file again, with its own options. */
static int check_reload(const struct options *options)
{
    const struct settings_source *source = &options->settings;
    if (options->action == ACTION_RELOAD &&
        (source->file_is_named || source->listen_count > 0 || source->workers >= 0 ||
         source->log_level >= 0 || options->port_file))
        return usage("--reload goes with no other option");
    return 0;
}

/* Returns 0, -EINVAL, or 1 when what follows does not matter any more. */
static int take_option(int option, struct options *options, char *argv[])
{
    char problem[USAGE_PROBLEM_SIZE];
    switch (option) {
    case 'c':
        options->settings.file_is_named = true;
        return set_file("--config", optarg, &options->settings.file);
    case 'l':
        return add_listener(options, optarg);
    case 'p':
        return add_port(options, optarg);
    case 'w':
        return set_workers(options, optarg);
    case 'L':
        return set_log_level(options, optarg);
    case 't':
        return set_action(options, ACTION_TEST);
    case 'T':
        return set_action(options, ACTION_DUMP);
    case 'R':
        return set_daemon(options, optarg);
    case OPTION_PORT_FILE:
        return set_file("--port-file", optarg, &options->port_file);
    case 'V':
        options->action = ACTION_VERSION;
        return 1;
    case 'h':
        options->action = ACTION_HELP;
        return 1;
    default:
        return usage("%s", usage_problem(argv, option, long_options, problem));
    }
}

/* What follows "--"; without one, nothing may be there. */
static int take_command(struct options *options, char *argv[], const char *operand, bool has_separator)
{
    if (operand)
        return usage("%.64s: takes no arguments but options", operand);
    if (!has_separator)
        return 0;
    if (!argv[optind])
        return usage("--: a command must follow");
    if (options->action != ACTION_RUN)
        return usage("--test, --dump and --reload go without a command");
    options->command = argv + optind;
    options->settings.is_quiet = true;
    return 0;
}

int options_parse(int argc, char *argv[], struct options *out)
{
    CLEANUP(options_clear)
    struct options options = {.settings = {.file = DEFAULT_SETTINGS_FILE, .workers = -1, .log_level = -1}};
    const char *operand = NULL;
    int option, next, r = 0;

    opterr = 0;
    optind = 0; /* glibc: start anew, whoever has used getopt before */
    do {
        next = optind > 0 ? optind : 1;
        option = getopt_long(argc, argv, "-:c:l:p:w:L:tTR:Vh", long_options, NULL);
        if (option == OPERAND)
            operand = operand ? operand : optarg;
        else if (option != -1)
            r = take_option(option, &options, argv);
    } while (r == 0 && option != -1);
    /* At the end of the options getopt goes on only over "--". */
    if (r == 0)
        r = take_command(&options, argv, operand, optind > next);
    if (r < 0 || check_reload(&options) < 0)
        return -EINVAL;
    *out = options;
    options = (struct options){0};
    return 0;
}

void options_clear(struct options *options)
{
    for (size_t i = 0; i < options->settings.listen_count; i++)
        free((char *)options->settings.listen[i]);
    free(options->settings.listen);
    *options = (struct options){0};
}

static const char help_head[] =
    "Usage: tcpechod [OPTIONS]\n"
    "       tcpechod [OPTIONS] -- COMMAND [ARGUMENT ...]\n"
    "Serves TCP echo and the other small services of old, in the foreground; with a COMMAND, while it\n"
    "runs, with 'ADDRESS:PORT' of the listeners in $TCPECHOD_1, $TCPECHOD_2 ... and $TCPECHOD_1_PORT ...\n"
    "\n"
    "  -c, --config FILE      settings file (default " DEFAULT_SETTINGS_FILE "; when that is absent,\n"
    "                         echo on port 7007 and upper on port 7008 of the loopback addresses)\n"
    "  -l, --listen SPEC      [SERVICE@]ADDRESS:PORT, [SERVICE@][IPV6ADDRESS]:PORT or [SERVICE@]/PATH,\n"
    "                         where SERVICE is echo unless given and ADDRESS may be *; after it may come\n"
    "                         ,NAME=VALUE for each option that a listener of the file has; repeatable;\n"
    "                         replaces the file's listeners\n"
    "  -p, --port PORT        short for --listen echo@*:PORT\n"
    "  -w, --workers N        threads that serve connections; 0: one for each CPU\n"
    "  -L, --log-level LEVEL  error, warning, notice, info or debug\n"
    "  -t, --test             check the settings, open nothing, and exit\n"
    "  -T, --dump             print the settings in force and exit\n"
    "  -R, --reload PID       make that daemon reload, wait until it has, say how it went, and exit\n"
    "      --port-file FILE   once ready, write 'SERVICE ADDRESS:PORT' of each listener there\n"
    "  -V, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "\n"
    "Services:\n";

static const char help_tail[] =
    "\nExit status: 0 clean stop, 64 usage, 69 cannot listen, 71 system error, 75 handed over,\n"
    "78 bad settings; with a COMMAND its own, 128+n when signal n has ended it, 126 cannot be executed,\n"
    "127 not found.\n"
    "See tcpechod(8) and tcpechod.conf(5).\n";

/* The names of all settings, wrapped. */
static void print_settings(FILE *out)
{
    size_t column = 0;
    for (const struct setting_row *row = setting_table; row->name; row++) {
        size_t length = strlen(row->name) + (row->scope == SCOPE_LOG ? 4 : 0) + 1;
        if (row->scope == SCOPE_LISTENER || row->type == &setting_group)
            continue;
        fprintf(out, "%s%s%s",
                column == 0            ? "  "
                : column + length > 76 ? "\n  "
                                       : " ",
                row->scope == SCOPE_LOG ? "log." : "", row->name);
        column = column + length > 76 ? length : column + length;
    }
    fputs("\n", out);
}

int options_print_help(FILE *out)
{
    fputs(help_head, out);
    for (size_t i = 0; services[i]; i++)
        fprintf(out, "  %-10s %s\n", services[i]->name, services[i]->summary);
    fputs("\nSettings of the file:\n", out);
    print_settings(out);
    fputs(help_tail, out);
    return print_finish(out);
}

int options_print_version(FILE *out)
{
    fputs("tcpechod " PACKAGE_VERSION "\n", out);
    return print_finish(out);
}
