#include "daemon/handover_out.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/daemon_log.h"
#include "serve/proxied.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BARRIER_USEC (2 * USEC_PER_SEC)

/* What is written down, as it grows. */
struct collection {
    struct saved_state state;
    struct descriptor_queue *queue;
    size_t room; /* for connections */
};

/* An index for the configuration, or a negative errno. There are about as many as there are listeners. */
static int64_t index_of(struct saved_state *state, struct service_config *config)
{
    for (size_t i = state->config_count; i-- > 0;)
        if (state->configs[i] == config)
            return (int64_t)i;
    struct service_config **grown = reallocarray(state->configs, state->config_count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    state->configs = grown;
    grown[state->config_count] = service_config_ref(config);
    return (int64_t)state->config_count++;
}

static int save_listener(struct saved_state *state, const struct listener *listener)
{
    int64_t config = index_of(state, listener->config);
    if (config < 0)
        return (int)config;
    struct saved_listener *saved = &state->listeners[state->listener_count++];
    *saved = (struct saved_listener){
        .name = strdup(listener->name),
        .port = listener->listen_address.port,
        .any = listener->listen_address.any,
        .without_v6 = listener->without_v6,
        .device = listener->inode.st_dev,
        .inode = listener->inode.st_ino,
        .config = (uint64_t)config,
        .number = listener->number,
        .id = listener->id,
    };
    return saved->name ? socket_cookie(listener->source.fd, &saved->cookie) : -ENOMEM;
}

static int save_listeners(struct saved_state *state, const struct acceptor *acceptor)
{
    int r = 0;
    state->listeners = calloc(acceptor->listener_count + 1, sizeof *state->listeners);
    if (!state->listeners)
        return -ENOMEM;
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        if (r == 0)
            r = save_listener(state, CONTAINER_OF(link, struct listener, link));
    }
    return r;
}

static int make_room(struct collection *collection)
{
    if (collection->state.connection_count < collection->room)
        return 0;
    size_t room = collection->room > 0 ? 2 * collection->room : 256;
    struct saved_connection *grown = reallocarray(collection->state.connections, room, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    collection->state.connections = grown;
    collection->room = room;
    return 0;
}

static int save_connection(void *user, const struct new_client *client, const struct progress *progress)
{
    struct collection *collection = user;
    int r = make_room(collection);
    if (r < 0)
        return r;
    int64_t config = index_of(&collection->state, client->config);
    if (config < 0)
        return (int)config;
    struct saved_connection *saved = &collection->state.connections[collection->state.connection_count++];
    *saved = (struct saved_connection){.config = (uint64_t)config, .client = *client, .progress = *progress};
    if (client->proxied)
        saved->proxied = (struct saved_proxied){
            .is_there = true,
            .proxy = client->proxied->proxy,
            .kind = client->proxied->kind,
            .header = client->proxied->header,
            .header_length = client->proxied->length,
        };
    r = socket_cookie(client->fd, &saved->cookie);
    return r < 0 ? r : descriptor_queue_put(collection->queue, client->fd);
}

static int collect(struct handover_out *out, struct collection *collection, const struct acceptor *acceptor,
                   struct worker_pool *pool)
{
    struct saved_state *state = &collection->state;
    state->last_id = acceptor->last_id;
    state->accepted = acceptor->accepted;
    state->last_listener_id = listener_last_id();
    state->totals = worker_pool_totals(pool);
    state->lost_messages = log_lost();
    for (unsigned reason = 0; reason < REASON_COUNT; reason++) {
        state->refused[reason] = acceptor->refused[reason];
        state->waits[reason] = acceptor->waits[reason];
    }
    out->step = "cannot write down the listeners";
    int r = save_listeners(state, acceptor);
    if (r == 0 && state->kind == SAVED_HANDOVER) {
        out->step = "cannot queue the connections";
        r = worker_pool_save(pool, collection, save_connection);
        if (r == 0)
            r = descriptor_queue_flush(collection->queue);
    }
    out->connections = state->connection_count;
    return r;
}

int handover_out_prepare(struct handover_out *out, enum saved_kind kind, const struct acceptor *acceptor,
                         struct worker_pool *pool)
{
    *out = HANDOVER_OUT_NONE;
    struct collection collection = {.state = {.kind = kind}, .queue = &out->queue};
    int r = collect(out, &collection, acceptor, pool);
    if (r == 0) {
        out->step = "cannot write the state";
        r = saved_state_write(&collection.state);
    }
    saved_state_clear(&collection.state);
    if (r < 0)
        return r;
    out->state_fd = r;
    return 0;
}

void handover_out_clear(struct handover_out *out)
{
    descriptor_queue_clear(&out->queue);
    fd_close(&out->state_fd);
}

/* Those that the manager does not have already, as it has passed them itself. */
static int store_listeners(const struct acceptor *acceptor, struct service_manager *manager)
{
    int fds[SERVICE_MANAGER_STORE_MAX], r = 0;
    size_t count = 0;
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        const struct listener *listener = CONTAINER_OF(link, struct listener, link);
        if (listener->passed_as || r < 0)
            continue;
        fds[count++] = listener->source.fd;
        if (count == SERVICE_MANAGER_STORE_MAX) {
            r = service_manager_store(manager, HANDOVER_LISTENER, fds, count);
            count = 0;
        }
    }
    return r < 0 || count == 0 ? r : service_manager_store(manager, HANDOVER_LISTENER, fds, count);
}

/* Returns 0 with the next step named, or -ENOSPC. */
static int check_room(struct handover_out *out, const struct acceptor *acceptor,
                      const struct service_manager *manager)
{
    out->step = "the service manager cannot store so many descriptors (FileDescriptorStoreMax=)";
    /* The state and the probe, too. */
    if (acceptor->listener_count + out->queue.end_count + 2 > service_manager_store_room(manager))
        return -ENOSPC;
    out->step = "cannot send descriptors to the service manager";
    return 0;
}

static int store_state(const struct handover_out *out, struct service_manager *manager)
{
    int r = service_manager_store(manager, HANDOVER_STATE, &out->state_fd, 1);
    for (size_t i = 0; r == 0 && i < out->queue.end_count; i++)
        r = service_manager_store(manager, HANDOVER_QUEUE, &out->queue.ends[i], 1);
    return r;
}

int handover_out_store(struct handover_out *out, const struct acceptor *acceptor,
                       struct service_manager *manager)
{
    int r = check_room(out, acceptor, manager);
    if (r == 0)
        r = service_manager_unstore(manager, HANDOVER_STATE);
    if (r == 0)
        r = store_state(out, manager);
    if (r < 0)
        return r;
    out->step = "the service manager does not answer";
    r = service_manager_barrier(manager, BARRIER_USEC);
    if (r < 0)
        return r;
    /* It says nothing of what it does not store. The queue went last, so that it is not there when anything
     * before it has found no room. */
    out->step = HANDOVER_STORE_IS_FULL;
    return descriptor_queue_is_held(&out->queue) ? 0 : -ENOSPC;
}

void handover_kept_init(struct handover_kept *kept, struct service_manager *manager)
{
    kept->manager = manager;
    descriptor_queue_init(&kept->probe);
}

void handover_kept_deinit(struct handover_kept *kept)
{
    descriptor_queue_clear(&kept->probe);
}

static int store_probe(struct handover_kept *kept)
{
    int r = descriptor_queue_flush(&kept->probe);
    if (r == 0)
        r = service_manager_store(kept->manager, HANDOVER_PROBE, kept->probe.ends, 1);
    descriptor_queue_leave(&kept->probe);
    return r;
}

void handover_keep(struct handover_kept *kept, enum saved_kind kind, const struct acceptor *acceptor,
                   struct worker_pool *pool)
{
    if (!service_manager_is_there(kept->manager))
        return;
    CLEANUP(handover_out_clear) struct handover_out out;
    int r = handover_out_prepare(&out, kind, acceptor, pool);
    handover_forget(kept);
    kept->has_listeners = true;
    int listeners = r == 0 ? check_room(&out, acceptor, kept->manager) : 0; /* whether they are in */
    if (listeners == 0) /* also without what they are served under, which the settings say again */
        listeners = store_listeners(acceptor, kept->manager);
    if (r == 0)
        r = listeners == 0 ? store_state(&out, kept->manager) : listeners;
    if (r < 0)
        daemon_log_not_kept(out.step, -r);
    descriptor_queue_clear(&kept->probe);
    if (listeners < 0)
        return;
    r = store_probe(kept);
    if (r < 0)
        daemon_log_not_kept("cannot make a probe of the store", -r);
}

bool handover_is_kept(struct handover_kept *kept)
{
    return kept->probe.sender >= 0 && descriptor_queue_is_held(&kept->probe);
}

void handover_forget(struct handover_kept *kept)
{
    static const char *const names[] = {HANDOVER_LISTENER, HANDOVER_STATE, HANDOVER_QUEUE, HANDOVER_PROBE};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)service_manager_unstore(kept->manager, names[i]);
    kept->has_listeners = false;
}
