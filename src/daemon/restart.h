/* SIGUSR2: everything goes to a new process, and this one ends; or, when that cannot be, goes on.
 *
 *     through the manager   workers at rest -> state and sockets to its store -> exit -> the manager starts
 * the next in place              --test of the program's file -> workers at rest -> execve(2)
 *
 * Main thread. */
#pragma once

#include <stdbool.h>

struct server;

/* `is_for_manager`: it waits for the end of this process, which ends with EXIT_STATUS_HANDED_OVER: at once,
 * or, when the connections cannot be handed over, after it has finished them. Else the process executes the
 * program's file, or goes on. After a message that says why. */
void server_restart(struct server *server, bool is_for_manager);
