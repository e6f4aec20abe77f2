#include "serve/conn_queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#define NONE UINT32_MAX

struct node {
    struct new_client client;
    uint32_t next;
};

struct worker_queue {
    uint32_t first, last;
};

/* Every node is in one chain: the free ones', or a worker's. */
struct conn_queue {
    pthread_mutex_t lock;
    struct node *nodes;
    uint32_t depth;
    uint32_t free;          /* the first node of the free chain */
    _Atomic uint32_t count; /* written under the lock, read without */
    unsigned worker_count;
    struct worker_queue workers[];
};

int conn_queue_new(size_t depth, unsigned workers, struct conn_queue **out)
{
    assert(depth > 0 && depth < NONE && workers > 0);
    struct conn_queue *queue = calloc(1, sizeof *queue + workers * sizeof queue->workers[0]);
    if (!queue)
        return -ENOMEM;
    queue->nodes = malloc(depth * sizeof *queue->nodes);
    if (!queue->nodes) {
        free(queue);
        return -ENOMEM;
    }
    pthread_mutex_init(&queue->lock, NULL); /* cannot fail with default attributes on Linux */
    queue->depth = (uint32_t)depth;
    for (uint32_t i = 0; i < queue->depth; i++)
        queue->nodes[i].next = i + 1 < queue->depth ? i + 1 : NONE;
    queue->worker_count = workers;
    for (unsigned i = 0; i < workers; i++)
        queue->workers[i] = (struct worker_queue){.first = NONE, .last = NONE};
    *out = queue;
    return 0;
}

void conn_queue_free(struct conn_queue *queue)
{
    if (!queue)
        return;
    assert(conn_queue_length(queue) == 0);
    pthread_mutex_destroy(&queue->lock);
    free(queue->nodes);
    free(queue);
}

bool conn_queue_put(struct conn_queue *queue, unsigned worker, const struct new_client *new_client)
{
    assert(worker < queue->worker_count);
    struct worker_queue *own = &queue->workers[worker];
    pthread_mutex_lock(&queue->lock);
    uint32_t index = queue->free;
    if (index != NONE) {
        struct node *node = &queue->nodes[index];
        queue->free = node->next;
        *node = (struct node){.client = *new_client, .next = NONE};
        if (own->first == NONE)
            own->first = index;
        else
            queue->nodes[own->last].next = index;
        own->last = index;
        queue->count++;
    }
    pthread_mutex_unlock(&queue->lock);
    return index != NONE;
}

size_t conn_queue_take(struct conn_queue *queue, unsigned worker, struct new_client *out, size_t max)
{
    assert(worker < queue->worker_count);
    struct worker_queue *own = &queue->workers[worker];
    size_t taken = 0;
    pthread_mutex_lock(&queue->lock);
    while (taken < max && own->first != NONE) {
        uint32_t index = own->first;
        struct node *node = &queue->nodes[index];
        out[taken++] = node->client;
        own->first = node->next;
        node->next = queue->free;
        queue->free = index;
    }
    queue->count -= (uint32_t)taken;
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

size_t conn_queue_length(const struct conn_queue *queue)
{
    return atomic_load(&queue->count); /* sequentially consistent: see serve/capacity_signal.h */
}

size_t conn_queue_depth(const struct conn_queue *queue)
{
    return queue->depth;
}
