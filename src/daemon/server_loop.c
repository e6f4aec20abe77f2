#include "daemon/server_loop.h"

#include "daemon/daemon_log.h"
#include "daemon/restart.h"
#include "daemon/server_settings.h"
#include "daemon/server_state.h"
#include "daemon/server_stop.h"

#include <signal.h>

/* A worker whose loop has failed would leave its clients hanging: stop, and let the service manager start
 * afresh. */
static void check_workers(struct server *server)
{
    unsigned worker;
    int failure = worker_pool_failure(&server->pool, &worker);
    if (failure < 0 && server->exit_status != EXIT_STATUS_SYSTEM) {
        daemon_log_system_error(NULL, "a worker cannot wait for events", -failure);
        server->exit_status = EXIT_STATUS_SYSTEM;
        event_loop_quit(&server->loop);
    }
}

/* Something that another thread has made: room, a drained worker, or a failed one. */
static void on_wake(struct event_loop *loop)
{
    struct server *server = CONTAINER_OF(loop, struct server, loop);
    check_workers(server);
    if (!server->draining)
        acceptor_resume(&server->acceptor);
    else if (worker_pool_is_drained(&server->pool))
        event_loop_quit(loop);
}

static void stop_without_terminal(struct server *server)
{
    if (fixture_runs(server->fixture))
        fixture_signal(server->fixture, SIGHUP);
    else if (!server->stopping)
        server_stop(server, "its terminal was closed", false);
}

static void on_child(struct server *server)
{
    char how[FIXTURE_END_SIZE];
    int status;
    if (!signals_reap(server->fixture->pid, &status))
        return;
    server->exit_status = fixture_ended(server->fixture, status, how);
    server_stop(server, how, false);
}

static void on_signal(struct signals *signals, const struct signalfd_siginfo *info)
{
    struct server *server = CONTAINER_OF(signals, struct server, signals);
    int number = (int)info->ssi_signo;
    if (fixture_passes_on(server->fixture, info))
        return;
    if (number == SIGTERM || number == SIGINT) {
        if (server->stopping)
            event_loop_quit(&server->loop);
        else if (number == SIGTERM)
            server_stop_delayed(server);
        else
            server_stop(server, "SIGINT", false);
    } else if (number == SIGUSR1) {
        daemon_log_counters(&server->acceptor, &server->pool);
    } else if (number == SIGUSR2 || number == SIGNAL_LEAVE) {
        server_restart(server, number == SIGNAL_LEAVE);
    } else if (number == SIGHUP) {
        if (hangup_has_come(server->hangup))
            stop_without_terminal(server);
        else
            server_reload(server, info);
    } else if (number == SIGCHLD) {
        on_child(server);
    }
}

static void on_terminal_gone(struct hangup *hangup)
{
    stop_without_terminal(hangup->user);
}

int server_loop_open(struct server *server)
{
    server->capacity.loop = &server->loop;
    server_stop_init(server);
    server->step = "cannot make the main loop";
    int r = event_loop_init(&server->loop, on_wake);
    if (r < 0)
        return r;
    r = event_set_init(&server->listener_set, &server->loop);
    if (r < 0)
        goto no_set;
    server->step = "cannot receive signals";
    r = signals_init(&server->signals, &server->loop, on_signal);
    if (r < 0)
        goto no_signals;
    (void)signals_reap(0, NULL); /* what ended before the signal was blocked */
    server->step = "cannot watch the terminal";
    server->hangup->user = server;
    r = hangup_watch(server->hangup, &server->loop, on_terminal_gone);
    if (r == 0)
        return 0;
    signals_deinit(&server->signals);
no_signals:
    event_set_deinit(&server->listener_set);
no_set:
    event_loop_deinit(&server->loop);
    return r;
}

void server_loop_close(struct server *server)
{
    timer_disarm(&server->delay_timer);
    timer_disarm(&server->drain_timer);
    hangup_forget(server->hangup);
    signals_deinit(&server->signals);
    event_set_deinit(&server->listener_set);
    event_loop_deinit(&server->loop);
}

void server_loop_run(struct server *server)
{
    daemon_log_ready(server->acceptor.listener_count, server->pool.count, server->acceptor.max_connections);
    handover_keep(&server->kept, SAVED_BEFOREHAND, &server->acceptor, &server->pool);
    service_manager_ready(server->manager, &server->loop, &server->acceptor, &server->pool);
    /* Without it the service goes on, for as long as its manager lets it. */
    if (watchdog_init(&server->watchdog, &server->loop, &server->pool, server->manager))
        (void)watchdog_start(&server->watchdog);
    int r = event_loop_run(&server->loop);
    if (r < 0) {
        daemon_log_system_error(NULL, "cannot wait for events", -r);
        server->exit_status = EXIT_STATUS_SYSTEM;
    }
    watchdog_stop(&server->watchdog);
    service_manager_detach(server->manager);
}
