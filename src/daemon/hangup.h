/* The terminal that the daemon was started from: when it is closed, the daemon stops, as any program does
 * that runs in the foreground. Two count: the controlling terminal, and the one that is stderr. Who started
 * the daemon with SIGHUP ignored, as nohup(1) does, wants it to go on. Main thread. */
#pragma once

#include "base/event_loop.h"

#include <stdbool.h>

struct hangup;

struct hangup_terminal {
    struct event_source source; /* fd -1: there is none */
    struct hangup *hangup;
    bool is_watched;
};

struct hangup {
    struct hangup_terminal terminals[2];
    struct event_loop *loop;
    void (*on_gone)(struct hangup *hangup);
    void *user; /* whatever on_gone wants */
};

#define HANGUP_NONE ((struct hangup){.terminals = {{.source.fd = -1}, {.source.fd = -1}}})

/* Looks which terminals there are. Call before signals_block: a SIGHUP that comes earlier ends the process,
 * and one that comes later finds what is known here. */
void hangup_find(struct hangup *hangup);

/* Calls `on_gone` on the loop once one of them is gone, also when no signal says so; once for each. Returns 0
 * or a negative errno (ENOMEM, ENOSPC) with nothing watched. */
int hangup_watch(struct hangup *hangup, struct event_loop *loop, void (*on_gone)(struct hangup *hangup));

/* Whether one of them is gone by now: whether SIGHUP means that, and not a reload. */
bool hangup_has_come(const struct hangup *hangup);

/* Watches no more, and closes what hangup_find has opened. */
void hangup_forget(struct hangup *hangup);
