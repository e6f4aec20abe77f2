/* tcpecho(1): reads the command line and runs the mode that it asks for. */

#include "base/streams.h"
#include "client/modes.h"
#include "client/options.h"
#include "client/process/exit_status.h"
#include "client/report/nagios.h"
#include "client/report/output.h"
#include "client/report/terminal.h"

#include <signal.h>
#include <string.h>

static int (*const modes[MODE_COUNT])(const struct client_options *options) = {
    [MODE_TALK] = talk_run,   [MODE_CHAT] = chat_run,   [MODE_PING] = ping_run,
    [MODE_BENCH] = bench_run, [MODE_WATCH] = watch_run,
};

/* Of a command line that is wrong, so that nobody knows its options. */
static bool asks_for_check(char *argv[])
{
    for (; *argv && strcmp(*argv, "--") != 0; argv++)
        if (strcmp(*argv, "--nagios") == 0 || strncmp(*argv, "--nagios=", strlen("--nagios=")) == 0)
            return true;
    return false;
}

int main(int argc, char *argv[])
{
    static char error[HELD_ERROR_SIZE];
    struct client_options options;
    int r = streams_hold_standard();
    if (r < 0) {
        print_error("cannot open /dev/null in the place of a closed stdin, stdout or stderr: %s%s",
                    strerror(-r), streams_null_advice(-r));
        return EXIT_SYSTEM;
    }
    signal(SIGPIPE, SIG_IGN);
    if (client_options_parse(argc, argv, &options) < 0)
        return asks_for_check(argv) ? nagios_finish(EXIT_USAGE, "the command line is wrong, as stderr says")
                                    : EXIT_USAGE;
    if (options.help)
        return output_exit_status(client_options_print_help(&options, stdout));
    if (options.version)
        return output_exit_status(client_options_print_version(stdout));
    if (options.nagios)
        print_error_hold(error);
    int status = modes[options.mode](&options);
    return options.nagios ? nagios_finish(status, error) : status;
}
