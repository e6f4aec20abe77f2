/* The load of tcpecho --bench: threads, each an event loop that drives its share of the connections, checks
 * every byte and times every answer.
 *
 *     load_init -> (all threads settled) -> load_run -> (load_is_finished, or load_stop) -> load_deinit
 *
 * The coordinator, whose loop is woken whenever a thread has something to tell, calls these; nothing of a
 * thread's result is read before load_is_finished. */
#pragma once

#include "client/bench/load_thread.h"

struct load {
    struct load_control control;
    struct load_thread **threads;
    size_t thread_count;
};

/* Begins to connect. `first_fd` is the first connection, made already and taken in any case. Returns 0, or a
 * negative errno with nothing to release. */
int load_init(struct load *load, const struct load_plan *plan, struct event_loop *coordinator, int first_fd);

/* Every connection has been made or has failed; how many were made so far. */
bool load_is_settled(const struct load *load);
uint64_t load_connected(const struct load *load);

void load_run(struct load *load);
void load_stop(struct load *load);
bool load_is_finished(const struct load *load);

/* Answered so far. Any time. */
struct load_progress {
    uint64_t messages, bytes, connections; /* open ones */
};
struct load_progress load_progress(const struct load *load);

/* Adds up all threads. Returns 0, or a negative errno when a thread could not go on. */
int load_collect(const struct load *load, struct load_result *out);

/* Waits for the threads, which have finished or are about to. */
void load_deinit(struct load *load);
