/* How many CPUs' worth of time the control groups of this process allow it: cgroups(7), cpu.max of version 2
 * and cpu.cfs_quota_us of version 1. sched_getaffinity(2) knows nothing of them. */
#pragma once

#include <limits.h>

#define CPU_LIMIT_NONE UINT_MAX

/* Returns the quota divided by its period, rounded up, of the process's control group or of that one above it
 * that has the lowest; at least 1. CPU_LIMIT_NONE when there is none, or none that can be seen: no control
 * groups are mounted, or a namespace hides them. `root` is what the paths of /proc and of the mounts begin
 * with: "", but for tests. Reads a few small files each time. Any thread. */
unsigned cpu_limit(const char *root);

/* CPUs that this process may use, at least 1: those that it may run on (sched_getaffinity(2)), or as many as
 * cpu_limit allows the time of, when that is less. Any thread. */
unsigned cpu_count(void);
