/* tcpechod(8): reads the command line and the settings, and does what they ask for. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/streams.h"
#include "daemon/daemon_log.h"
#include "daemon/fixture.h"
#include "daemon/handover_in.h"
#include "daemon/hangup.h"
#include "daemon/options.h"
#include "daemon/reexec.h"
#include "daemon/reload_request.h"
#include "daemon/server.h"
#include "daemon/service_manager.h"
#include "daemon/signals.h"
#include "settings/problems.h"
#include "settings/settings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What was asked for is on stdout, or it is an error: a full disk must not look like a success. */
static int printed(int r)
{
    if (r == 0)
        return 0;
    fprintf(stderr, "tcpechod: cannot write to stdout: %s\n", strerrordesc_np(-r));
    return EXIT_STATUS_SYSTEM;
}

static int print_test_result(const struct options *options, const struct settings *settings)
{
    if (!settings->from_file)
        printf("%s: absent; the built-in defaults are in force\n", options->settings.file);
    printf("%s: configuration OK\n", options->settings.file);
    return printed(print_finish(stdout));
}

/* On stderr as they are, for people and editors; a service that cannot start says it to journald and its
 * manager. */
static int refuse(const struct options *options, const struct problems *problems,
                  struct service_manager *manager)
{
    if (options->action == ACTION_RUN) {
        service_manager_failed(manager, EINVAL, problems_first(problems));
        handover_in_refuse(NULL);
        if (log_goes_to_journal()) {
            daemon_log_problems(problems);
            return EXIT_STATUS_SETTINGS;
        }
    }
    problems_print(problems, stderr);
    return EXIT_STATUS_SETTINGS;
}

/* Without the standard streams nothing is begun. */
static int refuse_streams(const struct options *options, int error, struct service_manager *manager)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    problems_add(&problems, NULL, 0,
                 "cannot open /dev/null in the place of a closed stdin, stdout or stderr: %s%s",
                 strerrordesc_np(error), streams_null_advice(error));
    problems_print(&problems, stderr);
    if (options->action == ACTION_RUN)
        service_manager_failed(manager, error, problems_first(&problems));
    return EXIT_STATUS_SYSTEM;
}

static int with_settings(const struct options *options, struct fixture *fixture,
                         struct service_manager *manager)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    struct settings *settings;
    CLEANUP(hangup_forget) struct hangup hangup = HANGUP_NONE;
    if (options->action == ACTION_RUN)
        hangup_find(&hangup);
    if (settings_load(&options->settings, &problems, &settings) < 0)
        return refuse(options, &problems, manager);
    if (options->action == ACTION_RUN)
        return server_run(options, settings, &hangup, fixture, manager);

    CLEANUP(settings_freep) struct settings *owned = settings;
    if (options->action == ACTION_TEST)
        return print_test_result(options, owned);
    return printed(settings_dump(owned, stdout));
}

int main(int argc, char *argv[])
{
    CLEANUP(options_clear) struct options options = {0};
    struct fixture fixture;
    fixture_remember(&fixture);
    signals_block(); /* one that comes meanwhile waits for the loop, and ends nothing */
    reexec_remember(argv);
    if (options_parse(argc, argv, &options) < 0) {
        handover_in_refuse(NULL);
        return EXIT_STATUS_USAGE;
    }
    if (options.action != ACTION_RUN)
        signals_release();
    fixture.command = options.command;
    CLEANUP(service_manager_deinit) struct service_manager manager;
    service_manager_init(&manager);
    int r = streams_hold_standard();
    if (r < 0)
        return refuse_streams(&options, -r, &manager);
    switch (options.action) {
    case ACTION_HELP:
        return printed(options_print_help(stdout));
    case ACTION_VERSION:
        return printed(options_print_version(stdout));
    case ACTION_RELOAD:
        return reload_request(options.daemon, RELOAD_PATIENCE_USEC);
    default:
        break;
    }
    int status = with_settings(&options, &fixture, &manager);
    /* journald asks the kernel which unit a message is from when it reads it, and a process that has ended by
     * then has none: 'journalctl -u' would not show why a start failed. Nothing tells when it has been read.
     */
    if (status != 0 && options.action == ACTION_RUN && log_goes_to_journal())
        clock_sleep(50 * USEC_PER_MSEC);
    return status;
}
