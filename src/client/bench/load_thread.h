/* One thread of a load: its loop, its share of the connections and of the schedule, from the first connect to
 * the last answer. */
#pragma once

#include "client/bench/load_connection.h"

/* Makes thread `index` of the load and its share of the connections, the first of which is `first_fd` unless
 * that is negative. Returns 0, or a negative errno with nothing to release and first_fd still the caller's.
 */
int load_thread_new(const struct load_control *control, size_t index, int first_fd, struct load_thread **out);

/* How many of the first `due` messages of the schedule were for the thread to send, and it never came to
 * them. When it has finished. */
uint64_t load_thread_not_sent(const struct load_thread *thread, uint64_t due);

/* Waits for its end. */
void load_thread_free(struct load_thread *thread);
