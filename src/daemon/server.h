/* Puts the parts together: starts them in order, turns the main loop, and stops them in reverse.
 *
 *     settings -> log -> pool of workers -> listeners -> READY=1 -> loop -> drain -> join -> exit status
 *
 * Main thread. */
#pragma once

#include "daemon/fixture.h"
#include "daemon/hangup.h"
#include "daemon/options.h"
#include "daemon/service_manager.h"
#include "settings/settings.h"

/* Serves until a signal ends it, or the terminal is closed; the signals are blocked already
 * (daemon/signals.h). With a command it serves while that runs. Takes the settings over. Returns the exit
 * status: 0, EXIT_STATUS_HANDED_OVER, EXIT_STATUS_CANNOT_LISTEN or EXIT_STATUS_SYSTEM, with the reason
 * logged, or the command's. */
int server_run(const struct options *options, struct settings *settings, struct hangup *hangup,
               struct fixture *fixture, struct service_manager *manager);
