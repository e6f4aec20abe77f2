/* Messages: a level, a bounded queue, and one thread that writes to journald or stderr.
 *
 *     log_event (any thread) -> ring of records -> writer thread -> log_sink -> journald or stderr
 *
 * No caller ever waits for a sink: a message goes into a ring of fixed size, and the writer thread alone may
 * block on a frozen journald or a pipe that nobody reads. When the ring is full, or the sink refuses a
 * message, the message is dropped and counted, and the count is written ahead of the next message that gets
 * through.
 *
 * Before log_start and after log_stop only one thread may log; it writes its messages itself, and the rate
 * does not apply. A sink that takes nothing costs such a caller at most a second, once. */
#pragma once

#include "base/log_kind.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_settings {
    enum log_level level;
    enum log_target target;
    enum log_format format;
    unsigned rate; /* messages by clients in a second; 0: no bound. What is held back is counted and logged */
};

/* Sent to the log's own thread alone, by log_stop, to end a write(2) or sendmsg(2); has a handler while the
 * log runs. */
#define LOG_INTERRUPT_SIGNAL (SIGRTMIN + 5)

extern _Atomic int log_max_level_;

/* Cheap enough for a hot path. Any thread. */
static inline bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_max_level_, memory_order_relaxed);
}

/* All of them from now on, for queued messages the target and the format too. Main thread; may be called
 * before log_start and again on reload. Without it: info, auto, text, no bound. */
void log_configure(const struct log_settings *settings);

/* Starts the writer thread, all signals but the log's own blocked. Main thread. Returns 0, -EBUSY when a
 * thread is there already (also one that log_stop had to leave behind), or pthread_create(3)'s negative
 * errno. */
int log_start(void);

/* Writes what is queued, waiting at most `timeout_usec` for a sink that does not take it, and ends the
 * thread; what is left is lost. A thread that is blocked in a system call is interrupted and joined. Should
 * even that fail for a second (the system call is uninterruptible, "D state": a dead disk or NFS server
 * behind stderr), the thread is left to itself: it holds only static memory, and from then on every message
 * is lost. After a sink that did not take it all, later messages are written only if it takes them at once,
 * so that nothing blocks the way out. Main thread, after every other thread that logs has ended. */
void log_stop(uint64_t timeout_usec);

/* Never blocks between log_start and log_stop; formats nothing when the level or the rate holds the message
 * back. A message over LOG_MESSAGE_MAX (base/log_sink.h) ends in "..."; a field that no longer fits is left
 * out. The texts are copied; `kind` may be NULL, and otherwise lives as long as the program. Keeps errno. Any
 * thread. */
void log_event(const struct log_kind *kind, enum log_level level, const struct log_field *fields,
               size_t field_count, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Messages lost so far because a sink did not take them. Any thread. */
uint64_t log_lost(void);

/* Counts what a process before has lost, and told. Any thread. */
void log_restore_lost(uint64_t count);
