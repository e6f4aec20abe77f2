#include "daemon/server.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/cpu_limit.h"
#include "base/descriptor_limit.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "daemon/daemon_log.h"
#include "daemon/handover_in.h"
#include "daemon/handover_out.h"
#include "daemon/listeners.h"
#include "daemon/passed_sockets.h"
#include "daemon/port_file.h"
#include "daemon/reload_request.h"
#include "daemon/restart.h"
#include "daemon/service_manager.h"
#include "daemon/signals.h"
#include "daemon/watchdog.h"
#include "serve/acceptor.h"
#include "serve/admission.h"
#include "serve/connection_log.h"
#include "serve/worker_pool.h"
#include "settings/problems.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* How long the end of the process waits for a log that does not take the last messages. */
#define LOG_STOP_USEC USEC_PER_SEC

/* No scheduler that lets a process run at all holds up its timer for so long. */
#define MUCH_TOO_LATE_USEC (USEC_PER_SEC / 2)

/* Standard streams, signals, logging, the settings file, and what a parent left open. */
#define SUNDRY_DESCRIPTORS 32

struct server {
    const struct options *options;
    struct settings *settings;
    uint64_t descriptors; /* the limit */
    struct passed_sockets passed;
    struct handover_in inherited;
    struct event_loop loop;
    struct capacity_signal capacity;
    struct signals signals;
    struct admission admission;
    struct worker_pool pool;
    struct event_set listener_set;
    struct acceptor acceptor;
    struct service_manager *manager;
    struct handover_kept kept;
    struct watchdog watchdog;
    struct hangup *hangup;
    struct fixture *fixture;
    struct port_file port_file;
    struct reload_reply reload_reply;
    struct timer drain_timer;
    uint64_t drain_deadline; /* usec */
    bool stopping;
    bool listeners_are_kept;  /* the service manager may have them in its store, for the next process */
    struct problems problems; /* of the start */
    const char *step;         /* of the start: "cannot listen", for when it fails */
    int exit_status;
};

static void drain_until(struct server *server, uint64_t deadline_usec)
{
    server->drain_deadline = deadline_usec;
    event_loop_arm(&server->loop, &server->drain_timer, deadline_usec);
}

static void on_drain_timer(struct timer *timer)
{
    struct server *server = CONTAINER_OF(timer, struct server, drain_timer);
    uint64_t late = server->loop.now - server->drain_deadline;
    /* A process that did not run could not finish anything. */
    if (late > MUCH_TOO_LATE_USEC)
        drain_until(server, server->loop.now + late);
    else
        event_loop_quit(&server->loop);
}

/* With `goes_on` another process gets the listeners, and who connects meanwhile waits for it. */
static void start_stopping(struct server *server, const char *why, bool goes_on)
{
    server->stopping = true;
    service_manager_stopping(server->manager);
    daemon_log_stopping(why, worker_pool_connections(&server->pool));
    drain_until(server, clock_monotonic_usec() + server->settings->drain_timeout);
    if (goes_on) {
        handover_keep(&server->kept, SAVED_DRAINED, &server->acceptor, &server->pool);
        acceptor_leave(&server->acceptor);
        server->port_file.inode = 0; /* what it says stays true */
    } else {
        handover_forget(&server->kept);
        acceptor_stop(&server->acceptor);
    }
    worker_pool_drain(&server->pool);
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

static void hand_over(struct server *server, bool is_for_manager)
{
    if (server->stopping)
        return;
    if (fixture_runs(server->fixture) && is_for_manager) {
        fixture_signal(server->fixture, SIGTERM); /* the manager waits for the end */
        return;
    }
    if (fixture_runs(server->fixture)) {
        daemon_log_not_handed_over(server->fixture->command[0], "a command that runs is not handed over",
                                   "this process goes on");
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
    start_stopping(server, "restart", goes_on);
}

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
    if (!server->stopping)
        acceptor_resume(&server->acceptor);
    else if (worker_pool_is_drained(&server->pool))
        event_loop_quit(loop);
}

static void configure_log(const struct settings *settings)
{
    const struct log_settings log = {
        .level = settings->log_level,
        .target = settings->log_target,
        .rate = settings->log_rate,
    };
    log_configure(&log);
    connection_log_configure(settings->log_connections, settings->log_addresses);
}

/* What a reload may change, but for the listeners. */
static void apply_settings(struct server *server, const struct settings *settings)
{
    configure_log(settings);
    server->admission.source_prefix_v4 = settings->source_prefix_v4;
    server->admission.source_prefix_v6 = settings->source_prefix_v6;
    worker_pool_busy_poll(&server->pool, settings->busy_poll_usec);
}

/* How many clients the descriptor limit leaves room for. tcpechod(8) has the formula: two for each loop
 * (epoll and eventfd), two for each worker's pipe, one for each listener, one for the set of listeners, and
 * the sundry. */
static uint64_t room_for_clients(const struct server *server, size_t listeners)
{
    return descriptor_limit_room(server->descriptors,
                                 SUNDRY_DESCRIPTORS + 3 + 4 * (uint64_t)server->pool.count + listeners);
}

/* Returns the room that there is. */
static uint64_t apply_limits(struct server *server, const struct settings *settings)
{
    uint64_t room = room_for_clients(server, server->acceptor.listener_count);
    uint64_t asked = settings->max_connections;
    bool is_bounded = asked > 0 && asked < room;
    acceptor_limit(&server->acceptor, settings->overload == OVERLOAD_REFUSE, is_bounded ? asked : room,
                   is_bounded ? REASON_MAX_CONNECTIONS : REASON_DESCRIPTOR_LIMIT);
    if (room > 0)
        daemon_log_room(room, asked);
    return room;
}

/* Of descriptors or memory: the system's trouble, whatever it was wanted for. */
static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static const char no_room[] = "the descriptor limit leaves none for clients";

/* Whole or not at all. Returns what the exit status of a start with these settings would be. */
static int reload(struct server *server, struct problems *problems)
{
    CLEANUP(settings_freep) struct settings *settings = NULL;
    const char *file = server->options->settings.file;
    if (settings_load(&server->options->settings, problems, &settings) < 0) {
        daemon_log_problems(problems);
        daemon_log_reload_failed(problems, file);
        return EXIT_STATUS_SETTINGS;
    }
    if (room_for_clients(server, settings->listener_count) == 0) {
        daemon_log_system_error(problems, no_room, EMFILE);
        daemon_log_reload_failed(problems, file);
        return EXIT_STATUS_SYSTEM;
    }
    int r = listeners_apply(&server->acceptor, settings, problems);
    if (r < 0) {
        daemon_log_reload_failed(problems, file);
        return is_shortage(-r) ? EXIT_STATUS_SYSTEM : EXIT_STATUS_CANNOT_LISTEN;
    }
    settings_keep_until_restart(server->settings, settings, daemon_log_needs_restart);
    apply_settings(server, settings);
    apply_limits(server, settings);
    settings_free(server->settings);
    server->settings = TAKE_PTR(settings);
    (void)port_file_write(&server->port_file, &server->acceptor, problems);
    daemon_log_reloaded(file, !server->settings->from_file, server->acceptor.listener_count);
    return 0;
}

static void on_reload_signal(struct server *server, const struct signalfd_siginfo *info)
{
    int r = reload_take(info, &server->reload_reply);
    if (r < 0)
        daemon_log_reload_not_begun(-r);
    if (r != 0)
        return;
    CLEANUP(problems_clear) struct problems problems = {0};
    char answer[RELOAD_MESSAGES_SIZE];
    int status = EXIT_STATUS_SYSTEM;
    if (server->stopping) {
        problems_add(&problems, NULL, 0, "not reloaded: the daemon is stopping");
    } else {
        service_manager_reloading(server->manager);
        status = reload(server, &problems);
        service_manager_reloaded(server->manager, problems_first(&problems));
        if (status == 0)
            handover_keep(&server->kept, SAVED_BEFOREHAND, &server->acceptor, &server->pool);
    }
    r = reload_answer(&server->reload_reply, status, problems_join(&problems, answer, sizeof answer));
    if (r < 0)
        daemon_log_reload_not_answered(-r);
}

static void stop_without_terminal(struct server *server)
{
    if (fixture_runs(server->fixture))
        fixture_signal(server->fixture, SIGHUP);
    else if (!server->stopping)
        start_stopping(server, "its terminal was closed", false);
}

static void on_child(struct server *server)
{
    char how[FIXTURE_END_SIZE];
    int status;
    if (!signals_reap(server->fixture->pid, &status))
        return;
    server->exit_status = fixture_ended(server->fixture, status, how);
    start_stopping(server, how, false);
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
        else
            start_stopping(server, number == SIGTERM ? "SIGTERM" : "SIGINT", false);
    } else if (number == SIGUSR1) {
        daemon_log_counters(&server->acceptor, &server->pool);
    } else if (number == SIGUSR2 || number == SIGNAL_LEAVE) {
        hand_over(server, number == SIGNAL_LEAVE);
    } else if (number == SIGHUP) {
        if (hangup_has_come(server->hangup))
            stop_without_terminal(server);
        else
            on_reload_signal(server, info);
    } else if (number == SIGCHLD) {
        on_child(server);
    }
}

static void on_terminal_gone(struct hangup *hangup)
{
    stop_without_terminal(hangup->user);
}

/* The loop, with what wakes it: signals, the terminal's end, and later the listeners. Returns 0 or a negative
 * errno with server->step set. */
static int open_loop(struct server *server)
{
    server->capacity.loop = &server->loop;
    timer_init(&server->drain_timer, on_drain_timer);
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

static void close_loop(struct server *server)
{
    timer_disarm(&server->drain_timer);
    hangup_forget(server->hangup);
    signals_deinit(&server->signals);
    event_set_deinit(&server->listener_set);
    event_loop_deinit(&server->loop);
}

static void run_loop(struct server *server)
{
    server->listeners_are_kept = service_manager_is_there(server->manager);
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
    if (server->listeners_are_kept)
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
                         settings->queue_depth, &server->capacity);
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
    server->listeners_are_kept =
        server->inherited.taken.listeners > 0 && service_manager_is_there(server->manager);
    if (r < 0)
        goto no_workers;
    server->step = "cannot start the workers";
    r = worker_pool_start(&server->pool);
    if (r < 0)
        goto no_workers;
    server->step = "cannot listen";
    server->exit_status = EXIT_STATUS_CANNOT_LISTEN;
    r = start_listeners(server);
    if (r < 0)
        goto no_workers;
    server->step = no_room;
    server->exit_status = EXIT_STATUS_SYSTEM;
    apply_settings(server, settings);
    uint64_t room = apply_limits(server, settings);
    r = room > 0 ? present(server) : -EMFILE;
    if (r == 0) {
        if (handover_in_connections(&server->inherited) > room)
            service_manager_extend(server->manager, settings->drain_timeout);
        handover_in_resume(&server->inherited, &server->acceptor, room,
                           clock_monotonic_usec() + settings->drain_timeout);
        handover_in_clear(&server->inherited);
        server->exit_status = 0;
        run_loop(server);
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
    r = open_loop(server);
    if (r < 0)
        return r;
    r = serve(server);
    close_loop(server);
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
    configure_log(settings);
    int r = descriptor_limit_raise(&server.descriptors);
    if (r < 0)
        daemon_log_descriptor_limit(server.descriptors, -r);
    r = start(&server);
    if (r < 0) {
        /* What could say more than the step's own line has said it already. */
        if (server.problems.count == 0)
            daemon_log_system_error(&server.problems, server.step, -r);
        if (is_shortage(-r))
            server.exit_status = EXIT_STATUS_SYSTEM;
    }
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
