#include "daemon/server.h"

#include "base/clock.h"
#include "base/cpu_limit.h"
#include "base/descriptor_limit.h"
#include "base/log.h"
#include "daemon/daemon_log.h"
#include "daemon/listeners.h"
#include "daemon/server_loop.h"
#include "daemon/server_settings.h"
#include "daemon/server_state.h"

#include <errno.h>

/* How long the end of the process waits for a log that does not take the last messages. */
#define LOG_STOP_USEC USEC_PER_SEC

/* As a reload does: where the new settings' listeners cannot be had, those of the process before stay. */
static int start_listeners(struct server *server)
{
    int r = listeners_start(&server->acceptor, server->settings, &server->passed, &server->problems);
    if (r == 0 || server->acceptor.listener_count == 0)
        return r;
    daemon_log_listeners_stay(&server->problems);
    service_manager_not_applied(server->manager, problems_first(&server->problems));
    return 0;
}

/* After a failure the service manager starts the next process, with the listeners in its store as they are.
 */
static void stop_listening(struct server *server)
{
    if (server->kept.has_listeners)
        acceptor_leave(&server->acceptor);
    else
        acceptor_stop(&server->acceptor);
}

/* Clients are told where it listens, and the command is started. */
static int present(struct server *server)
{
    int r = port_file_write(&server->port_file, &server->acceptor, &server->problems);
    /* The clients of the process before are worth more. */
    if (r < 0 && server->inherited.taken.listeners == 0)
        return r;
    return fixture_start(server->fixture, &server->acceptor, &server->problems);
}

/* Those of the process before go on, as far as there is room for them. */
static void take_connections_over(struct server *server, uint64_t room)
{
    uint64_t patience = server->settings->drain_timeout;
    if (handover_in_connections(&server->inherited) > room)
        service_manager_extend(server->manager, patience);
    handover_in_resume(&server->inherited, &server->acceptor, room, clock_monotonic_usec() + patience);
    handover_in_clear(&server->inherited);
}

/* From the workers to the listeners and back. Returns 0, or a negative errno when the start failed in
 * server->step. */
static int serve(struct server *server)
{
    const struct settings *settings = server->settings;
    server->step = "cannot make the table of sources";
    int r = admission_init(&server->admission, settings->source_prefix_v4, settings->source_prefix_v6);
    if (r < 0)
        return r;
    server->step = "cannot make the workers";
    r = worker_pool_init(&server->pool, settings->workers > 0 ? settings->workers : cpu_count(),
                         settings->queue_depth, &server->capacity, &server->admission);
    if (r < 0)
        goto no_pool;
    server->step = "cannot open /dev/null";
    r = acceptor_init(&server->acceptor, &server->listener_set, &server->pool, &server->admission,
                      &server->capacity);
    if (r < 0 && r != -EMFILE)
        daemon_log_no_null(&server->problems, -r);
    if (r < 0)
        goto no_acceptor;
    server->step = "cannot take over the listeners of the process before";
    r = handover_in_restore(&server->inherited, &server->acceptor, &server->pool);
    server->kept.has_listeners =
        server->inherited.taken.listeners > 0 && service_manager_is_there(server->manager);
    if (r < 0)
        goto no_workers;
    server->step = "cannot start the workers";
    r = worker_pool_start(&server->pool);
    if (r < 0)
        goto no_workers;
    server->step = "cannot listen";
    r = start_listeners(server);
    if (r < 0) {
        server->exit_status = server_listen_status(-r);
        goto no_workers;
    }
    server->step = SERVER_NO_ROOM;
    uint64_t room = server_apply_settings(server, settings);
    r = room > 0 ? present(server) : -EMFILE;
    if (r == 0) {
        take_connections_over(server, room);
        server->exit_status = 0;
        server_loop_run(server);
    }
    fixture_end(server->fixture);
    port_file_remove(&server->port_file);
no_workers:
    stop_listening(server);
    worker_pool_stop(&server->pool);
    acceptor_deinit(&server->acceptor);
no_acceptor:;
    uint64_t cut = worker_pool_connections(&server->pool);
    worker_pool_deinit(&server->pool);
    if (server->stopping)
        daemon_log_stopped(cut);
no_pool:
    admission_deinit(&server->admission);
    return r;
}

/* Returns what serve does. */
static int start(struct server *server)
{
    server->step = "cannot take the sockets that were passed";
    int r = passed_sockets_receive(&server->passed, &server->problems);
    if (r < 0)
        return r;
    server->step = "cannot read what the process before has left";
    r = handover_in_find(&server->inherited, &server->passed);
    if (r < 0)
        return r;
    server->step = "cannot start the log's thread";
    r = log_start();
    if (r < 0)
        return r;
    r = server_loop_open(server);
    if (r < 0)
        return r;
    r = serve(server);
    server_loop_close(server);
    return r;
}

int server_run(const struct options *options, struct settings *settings, struct hangup *hangup,
               struct fixture *fixture, struct service_manager *manager)
{
    struct server server = {.options = options,
                            .settings = settings,
                            .hangup = hangup,
                            .fixture = fixture,
                            .port_file = {.path = options->port_file},
                            .manager = manager,
                            .reload_reply = RELOAD_REPLY_NONE,
                            .exit_status = EXIT_STATUS_SYSTEM};
    handover_kept_init(&server.kept, manager);
    server_configure_log(settings);
    int r = descriptor_limit_raise(&server.descriptors);
    if (r < 0)
        daemon_log_descriptor_limit(server.descriptors, -r);
    r = start(&server);
    /* What could say more than the step's own line has said it already. */
    if (r < 0 && server.problems.count == 0)
        daemon_log_system_error(&server.problems, server.step, -r);
    if (r < 0 && server.exit_status == EXIT_STATUS_CANNOT_LISTEN)
        handover_in_give_up(&server.inherited, &server.problems);
    log_stop(LOG_STOP_USEC);
    handover_kept_deinit(&server.kept);
    handover_in_clear(&server.inherited);
    passed_sockets_clear(&server.passed);
    /* Telling takes a descriptor, and now there is one again. */
    if (r < 0) {
        service_manager_failed(manager, -r, problems_first(&server.problems));
        /* Who starts the daemon by hand looks at stderr, wherever the log goes. */
        if (!log_shows_on_stderr())
            problems_print(&server.problems, stderr);
    }
    problems_clear(&server.problems);
    settings_free(server.settings);
    return server.exit_status;
}
