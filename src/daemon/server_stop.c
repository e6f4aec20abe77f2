#include "daemon/server_stop.h"

#include "daemon/daemon_log.h"
#include "daemon/server_state.h"

/* No scheduler that lets a process run at all holds up its timer for so long. */
#define MUCH_TOO_LATE_USEC (USEC_PER_SEC / 2)

#define SIGTERM_NAME "SIGTERM"

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

static void on_delay_timer(struct timer *timer)
{
    server_stop(CONTAINER_OF(timer, struct server, delay_timer), SIGTERM_NAME, false);
}

void server_stop_init(struct server *server)
{
    timer_init(&server->delay_timer, on_delay_timer);
    timer_init(&server->drain_timer, on_drain_timer);
}

void server_stop_delayed(struct server *server)
{
    uint64_t delay = server->settings->stop_delay;
    if (delay == 0) {
        server_stop(server, SIGTERM_NAME, false);
        return;
    }
    uint64_t until = clock_monotonic_usec() + delay;
    server->stopping = true;
    service_manager_stopping(server->manager, until);
    daemon_log_stop_delayed(SIGTERM_NAME, delay);
    event_loop_arm(&server->loop, &server->delay_timer, until);
}

void server_stop(struct server *server, const char *why, bool goes_on)
{
    if (!server->stopping)
        service_manager_stopping(server->manager, 0);
    server->stopping = server->draining = true;
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
