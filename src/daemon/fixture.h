/* tcpechod -- COMMAND: the daemon serves while a command runs, as a fixture of tests, and ends with its exit
 * status.
 *
 *     fixture_remember -> (signals are blocked, limits raised) -> fixture_start -> fixture_passes_on ...
 *     -> fixture_ended, by SIGCHLD
 *
 * The command is a child, and gets everything as this process got it: signals, limits, standard streams. It
 * cannot outlive this process. Its own children are its own business. Main thread. */
#pragma once

#include "serve/acceptor.h"
#include "settings/problems.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/types.h>

struct fixture {
    char **command; /* set and owned by the caller, and ends with NULL; NULL: there is none */
    pid_t pid;      /* 0: does not run */
    sigset_t mask;  /* what this process was started with, and the rest as well: */
    struct sigaction on_broken_pipe, on_long_file, on_child;
    struct rlimit descriptors;
    bool has_limit; /* `descriptors` is known */
};

/* Notes what the command is to get. Call before anything of it is changed. */
void fixture_remember(struct fixture *fixture);

/* Starts the command, if there is one, with the listeners in its environment. Returns 0, or a negative errno
 * with the reason logged, and added to `problems` unless that is NULL. That it cannot be executed is no
 * error here: the child says so on stderr, and ends with 126 or 127. */
int fixture_start(struct fixture *fixture, const struct acceptor *acceptor, struct problems *problems);

bool fixture_runs(const struct fixture *fixture);

/* Whether the signal is the command's, which has it by then: SIGTERM, SIGINT and SIGHUP are, but for the
 * request of a reload, which comes with a value. */
bool fixture_passes_on(const struct fixture *fixture, const struct signalfd_siginfo *info);

/* Sends a signal to the command, which runs. */
void fixture_signal(const struct fixture *fixture, int number);

/* Room for how it has ended. */
#define FIXTURE_END_SIZE 64

/* The command has ended so (waitpid(2)). Returns the exit status of the daemon, and says how in `how`: "the
 * command has ended with status 1". */
int fixture_ended(struct fixture *fixture, int status, char how[static FIXTURE_END_SIZE]);

/* Ends the command if it still runs. */
void fixture_end(struct fixture *fixture);

/* ---- for tests ---- */

/* The environment of the command, from `inherited`: without what another fixture has put there, and with
 * TCPECHOD_1=PLACE, TCPECHOD_1_PORT=PORT and so on, numbered as in the settings. For fixture_free_variables;
 * NULL: no memory. */
char **fixture_variables(char *const *inherited, const struct acceptor *acceptor);

void fixture_free_variables(char ***variables); /* also for CLEANUP() */
