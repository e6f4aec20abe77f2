/* The bounded queue between the main thread, which accepts, and the workers, which serve.
 *
 * One bound for all, and a queue for each worker: the acceptor knows which worker holds the fewest
 * connections and gives it the client. (Were the workers to race for the clients, the kernel would wake the
 * same one again and again.) It is the only structure that both sides lock. */
#pragma once

#include "serve/new_client.h"

#include <stdbool.h>
#include <stddef.h>

struct conn_queue;

/* Returns 0 with *out owned by the caller, or a negative errno. */
int conn_queue_new(size_t depth, unsigned workers, struct conn_queue **out);

/* The queue must be empty. NULL does nothing. */
void conn_queue_free(struct conn_queue *queue);

/* Returns false when the queue is full; the descriptor and the references pass to the queue on success only.
 * Main thread. */
bool conn_queue_put(struct conn_queue *queue, unsigned worker, const struct new_client *new_client);

/* Moves up to `max` of a worker's clients to `out`, oldest first, and returns how many. That worker's thread.
 */
size_t conn_queue_take(struct conn_queue *queue, unsigned worker, struct new_client *out, size_t max);

/* A moment's value. Any thread. */
size_t conn_queue_length(const struct conn_queue *queue);
size_t conn_queue_depth(const struct conn_queue *queue);
