/* The running daemon: its parts, as server.c has put them together. Each server_*.h and restart.h does one
 * thing with them. Main thread. */
#pragma once

#include "base/event_loop.h"
#include "daemon/fixture.h"
#include "daemon/handover_in.h"
#include "daemon/handover_out.h"
#include "daemon/hangup.h"
#include "daemon/options.h"
#include "daemon/passed_sockets.h"
#include "daemon/port_file.h"
#include "daemon/reload_request.h"
#include "daemon/service_manager.h"
#include "daemon/signals.h"
#include "daemon/watchdog.h"
#include "serve/acceptor.h"
#include "serve/admission.h"
#include "serve/worker_pool.h"
#include "settings/problems.h"

#include <stdbool.h>
#include <stdint.h>

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
    struct timer delay_timer; /* until a stop that was asked for begins to drain */
    struct timer drain_timer;
    uint64_t drain_deadline;  /* usec */
    bool stopping;            /* asked to */
    bool draining;            /* and no new clients are accepted any more */
    struct problems problems; /* of the start */
    const char *step;         /* of the start: "cannot listen", for when it fails */
    int exit_status;
};
