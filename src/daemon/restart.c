#include "daemon/restart.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon_log.h"
#include "daemon/reexec.h"
#include "daemon/server_state.h"
#include "daemon/server_stop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long clients wait for a log that does not take the last messages. */
#define LOG_STOP_USEC (50 * USEC_PER_MSEC)

#define WHY_SIZE 256

static const char nothing_ends[] = "this process goes on";
static const char finished[] = "the connections are finished";
static const char finished_but_listeners[] = "the connections are finished, and the listeners go on";

/* The next process could not start with settings that have a mistake. */
static int check_settings(const struct options *options)
{
    CLEANUP(problems_clear) struct problems problems = {0};
    CLEANUP(settings_freep) struct settings *settings = NULL;
    int r = settings_load(&options->settings, &problems, &settings);
    if (r < 0)
        daemon_log_problems(&problems);
    return r;
}

/* The manager waits for the end of this process. Ends it, or returns whether the manager has the listeners
 * for the next process. */
static bool restart_through_manager(const struct options *options, const struct acceptor *acceptor,
                                    struct worker_pool *pool, struct handover_kept *kept)
{
    if (check_settings(options) < 0) {
        daemon_log_not_handed_over("the next process could not start", "its settings have errors", finished);
        return false;
    }
    if (!handover_is_kept(kept)) {
        daemon_log_not_handed_over(HANDOVER_STORE_IS_FULL, strerrordesc_np(ENOSPC), finished);
        return false;
    }
    CLEANUP(handover_out_clear) struct handover_out out = HANDOVER_OUT_NONE;
    worker_pool_stop(pool);
    int r = handover_out_prepare(&out, SAVED_HANDOVER, acceptor, pool);
    if (r == 0)
        r = handover_out_store(&out, acceptor, kept->manager);
    if (r == 0) {
        daemon_log_handing_over("the next process", out.connections);
        log_stop(LOG_STOP_USEC);
        /* At once: what is left here is another's now, and the kernel gives it up. */
        exit(EXIT_STATUS_HANDED_OVER);
    }
    daemon_log_not_handed_over(out.step, strerrordesc_np(-r), finished_but_listeners);
    return true;
}

static void restart_in_place(const struct acceptor *acceptor, struct worker_pool *pool)
{
    char why[WHY_SIZE];
    if (reexec_check(why, sizeof why) < 0) {
        daemon_log_not_handed_over(reexec_path(), why, nothing_ends);
        return;
    }
    CLEANUP(handover_out_clear) struct handover_out out = HANDOVER_OUT_NONE;
    worker_pool_stop(pool);
    int r = handover_out_prepare(&out, SAVED_HANDOVER, acceptor, pool);
    if (r == 0) {
        daemon_log_handing_over(reexec_path(), out.connections);
        log_stop(LOG_STOP_USEC);
        out.step = reexec_path();
        r = reexec_run(&out, acceptor);
        if (log_start() < 0)
            daemon_log_system_error(NULL, "cannot start the log's thread", EAGAIN);
    }
    daemon_log_not_handed_over(out.step, strerrordesc_np(-r), nothing_ends);
}

/* The workers turn again, with the connections that they have. Without them the process ends, as who serves
 * nobody should. */
static bool workers_go_on(struct server *server)
{
    int r = worker_pool_start(&server->pool);
    if (r == 0)
        return true;
    daemon_log_system_error(NULL, "cannot start the workers again", -r);
    server->exit_status = EXIT_STATUS_SYSTEM;
    event_loop_quit(&server->loop);
    return false;
}

void server_restart(struct server *server, bool is_for_manager)
{
    if (server->stopping) {
        daemon_log_not_handed_over(is_for_manager ? "SIGRTMIN+1" : "SIGUSR2", "the daemon is stopping",
                                   "the stop goes on");
        return;
    }
    if (fixture_runs(server->fixture) && is_for_manager) {
        fixture_signal(server->fixture, SIGTERM); /* the manager waits for the end */
        return;
    }
    if (fixture_runs(server->fixture)) {
        daemon_log_not_handed_over(server->fixture->command[0], "a command that runs is not handed over",
                                   nothing_ends);
        return;
    }
    bool was_watched = server->watchdog.is_running;
    bool goes_on = false;
    watchdog_stop(&server->watchdog);
    if (is_for_manager)
        goes_on = restart_through_manager(server->options, &server->acceptor, &server->pool, &server->kept);
    else
        restart_in_place(&server->acceptor, &server->pool);
    /* Still here: it could not be, and the log says why. */
    if (!workers_go_on(server))
        return;
    if (was_watched)
        (void)watchdog_start(&server->watchdog);
    if (!is_for_manager)
        return;
    server->exit_status = EXIT_STATUS_HANDED_OVER;
    server_stop(server, "restart", goes_on);
}
