#include "daemon/server_settings.h"

#include "base/cleanup.h"
#include "base/descriptor_limit.h"
#include "base/log.h"
#include "daemon/daemon_log.h"
#include "daemon/listeners.h"
#include "daemon/server_state.h"
#include "serve/connection_log.h"

#include <errno.h>

/* Standard streams, signals, logging, the settings file, and what a parent left open. */
#define SUNDRY_DESCRIPTORS 32

void server_configure_log(const struct settings *settings)
{
    const struct log_settings log = {
        .level = settings->log_level,
        .target = settings->log_target,
        .format = settings->log_format,
        .rate = settings->log_rate,
    };
    log_configure(&log);
    connection_log_configure(settings->log_connections, settings->log_addresses);
}

/* How many clients the descriptor limit leaves room for. tcpechod(8) has the formula: two for each loop
 * (epoll and eventfd), two for each worker's pipe, one for each listener, one for the set of listeners, and
 * the sundry. */
static uint64_t room_for_clients(const struct server *server, size_t listeners)
{
    return descriptor_limit_room(server->descriptors,
                                 SUNDRY_DESCRIPTORS + 3 + 4 * (uint64_t)server->pool.count + listeners);
}

uint64_t server_apply_settings(struct server *server, const struct settings *settings)
{
    uint64_t room = room_for_clients(server, server->acceptor.listener_count);
    uint64_t asked = settings->max_connections;
    bool is_bounded = asked > 0 && asked < room;
    server_configure_log(settings);
    admission_configure(&server->admission, settings->source_prefix_v4, settings->source_prefix_v6);
    worker_pool_busy_poll(&server->pool, settings->busy_poll_usec);
    acceptor_limit(&server->acceptor, settings->overload == OVERLOAD_REFUSE, is_bounded ? asked : room,
                   is_bounded ? REASON_MAX_CONNECTIONS : REASON_DESCRIPTOR_LIMIT);
    if (room > 0)
        daemon_log_room(room, asked);
    return room;
}

int server_listen_status(int error)
{
    /* Of descriptors or memory: the system's trouble, whatever it was wanted for. */
    bool is_shortage = error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
    return is_shortage ? EXIT_STATUS_SYSTEM : EXIT_STATUS_CANNOT_LISTEN;
}

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
        daemon_log_system_error(problems, SERVER_NO_ROOM, EMFILE);
        daemon_log_reload_failed(problems, file);
        return EXIT_STATUS_SYSTEM;
    }
    int r = listeners_apply(&server->acceptor, settings, problems);
    if (r < 0) {
        daemon_log_reload_failed(problems, file);
        return server_listen_status(-r);
    }
    settings_keep_until_restart(server->settings, settings, daemon_log_needs_restart);
    server_apply_settings(server, settings);
    settings_free(server->settings);
    server->settings = TAKE_PTR(settings);
    (void)port_file_write(&server->port_file, &server->acceptor, problems);
    daemon_log_reloaded(file, !server->settings->from_file, server->acceptor.listener_count);
    return 0;
}

void server_reload(struct server *server, const struct signalfd_siginfo *info)
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
        daemon_log_reload_too_late(&problems);
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
