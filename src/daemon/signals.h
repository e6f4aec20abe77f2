/* Signals as events: they are blocked in every thread, and the main loop reads them from a signalfd(2). */
#pragma once

#include "base/event_loop.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/types.h>

/* Of the service manager, which waits for the end of the process then (RestartKillSignal=). Signals of this
 * kind are queued, each with its sender, so that none is taken for another. */
#define SIGNAL_LEAVE (SIGRTMIN + 1)

struct signals {
    struct event_source source;
    struct event_loop *loop;
    void (*on_signal)(struct signals *signals, const struct signalfd_siginfo *info);
};

/* Blocks SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD and SIGNAL_LEAVE, and ignores SIGPIPE and
 * SIGXFSZ. Call before the first thread starts, so that all inherit it. */
void signals_block(void);

/* For a process that does not serve: SIGTERM, SIGINT and SIGHUP end it again. */
void signals_release(void);

/* Waits for the children that have ended, so that none stays a zombie: those of a shell that has executed us,
 * and in a container, as its process 1, every process whose parent has ended. Never blocks.
 * Returns whether `child` of ours (0: there is none) was one of them, with *status as waitpid(2) has it. */
bool signals_reap(pid_t child, int *status);

/* Reports those signals on the loop. Returns 0 or a negative errno with nothing to release. Main thread. */
int signals_init(struct signals *signals, struct event_loop *loop,
                 void (*on_signal)(struct signals *signals, const struct signalfd_siginfo *info));

void signals_deinit(struct signals *signals);
