/* How many clients the process can hold: every one costs a descriptor. */
#pragma once

#include <stdint.h>

/* Raises the soft descriptor limit to the hard one (getrlimit(2)) and returns the limit in force. */
uint64_t limits_raise_descriptors(void);

/* What a limit of `descriptors` leaves for clients beside the daemon's own: two for each loop (epoll and
 * eventfd), two for each worker's pipe, one for each listener, one for the set of listeners, and 32 for
 * standard streams, signals, logging, the settings file and what a parent left open. 0: too low to serve
 * anybody. tcpechod(8) has the formula. */
uint64_t limits_room(uint64_t descriptors, unsigned workers, unsigned listeners);

/* CPUs that this process may use, at least 1: those that it may run on (sched_getaffinity(2)), or as many as
 * the time amounts to that its control groups allow it, when that is less. */
unsigned limits_cpus(void);
