/* How many connections a process can hold: each costs a descriptor. */
#pragma once

#include <stdint.h>

/* Raises the soft descriptor limit to the hard one (getrlimit(2)) and returns the limit in force. */
uint64_t descriptors_raise_limit(void);

/* What a limit leaves for connections after `own` descriptors and those that every process has. */
uint64_t descriptors_room(uint64_t limit, uint64_t own);
