#include "handover/state.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/proxy_header.h"
#include "handover/codec.h"
#include "serve/services.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <xxhash.h>

/* Not before Linux 6.3, which says a word in its log about who leaves it out. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

#define BUFFER_SIZE (256 * 1024)

struct header {
    char magic[8];
    uint64_t version;
    uint64_t length; /* of what follows, in bytes */
    uint64_t checksum;
};

static const char magic[8] = "tcpechod";

/* By its name: a number may mean another reason in another version. */
static enum reason code_reason(struct codec *codec, enum reason reason)
{
    char *name = codec->out ? (char *)reason_name(reason) : NULL;
    code_text(codec, &name);
    if (codec->out)
        return reason;
    enum reason found = name ? reason_find(name) : REASON_COUNT;
    free(name);
    if (found == REASON_COUNT)
        codec_fail(codec, -EBADMSG);
    return found == REASON_COUNT ? REASON_NONE : found;
}

static void code_counts(struct codec *codec, uint64_t counts[REASON_COUNT])
{
    for (uint64_t i = 0, count = code_number(codec, REASON_COUNT); i < count && codec->error == 0; i++) {
        enum reason reason = code_reason(codec, (enum reason)i);
        CODE(codec, counts[reason]);
    }
}

static void code_address(struct codec *codec, struct address *address)
{
    CODE(codec, address->family);
    CODE(codec, address->port);
    CODE(codec, address->scope);
    code_bytes(codec, address->ip, sizeof address->ip);
}

static void code_prefixes(struct codec *codec, struct prefix_list *list)
{
    list->items = code_array(codec, list->items, &list->count, sizeof *list->items);
    for (size_t i = 0; i < list->count; i++) {
        struct prefix *prefix = &list->items[i];
        code_address(codec, &prefix->base);
        CODE(codec, prefix->length);
        if (prefix->length > (prefix->base.family == AF_INET ? 32 : 128))
            codec_fail(codec, -EBADMSG);
    }
}

static void code_service_text(struct codec *codec, const char **text, size_t *length)
{
    code_text(codec, (char **)text);
    if (!codec->out)
        *length = *text ? strlen(*text) : 0;
}

/* A share, as its bits: a number of the codec is a whole one. */
static void code_share(struct codec *codec, double *share)
{
    code_bytes(codec, share, sizeof *share);
    if (!(*share >= 0 && *share <= 1))
        codec_fail(codec, -EBADMSG);
}

static void code_faults(struct codec *codec, struct misbehaviour_params *faults)
{
    CODE(codec, faults->delay);
    CODE(codec, faults->jitter);
    CODE(codec, faults->rate);
    CODE(codec, faults->slice);
    CODE(codec, faults->slice_delay);
    CODE(codec, faults->accept_delay);
    CODE(codec, faults->close_delay);
    CODE(codec, faults->limit);
    CODE(codec, faults->after);
    CODE(codec, faults->end);
    CODE(codec, faults->silent);
    CODE(codec, faults->deaf);
    code_share(codec, &faults->corrupt);
    code_share(codec, &faults->lose);
    code_share(codec, &faults->repeat);
    code_share(codec, &faults->toxicity);
    CODE(codec, faults->seed);
    CODE(codec, faults->is_drawn);
    if (faults->end >= MISBEHAVIOUR_ENDS || faults->jitter > faults->delay)
        codec_fail(codec, -EBADMSG);
}

static struct service_config *code_config(struct codec *codec, struct service_config *config)
{
    struct service_config read = {0};
    struct service_config *c = codec->out ? config : &read;
    char *service = codec->out ? (char *)c->service->name : NULL;
    code_text(codec, &service);
    code_service_text(codec, &c->params.text, &c->params.text_length);
    code_service_text(codec, &c->params.greeting, &c->params.greeting_length);
    code_service_text(codec, &c->params.end_word, &c->params.end_word_length);
    bool misbehaves = c->misbehaviour;
    struct misbehaviour_params faults = {0};
    CODE(codec, misbehaves);
    if (misbehaves && codec->out)
        faults = *c->misbehaviour;
    if (misbehaves)
        code_faults(codec, &faults);
    if (!codec->out)
        c->misbehaviour = misbehaves ? &faults : NULL;
    code_prefixes(codec, &c->rules.allow);
    code_prefixes(codec, &c->rules.deny);
    CODE(codec, c->rules.per_source);
    CODE(codec, c->rules.scope);
    CODE(codec, c->proxy.protocol);
    CODE(codec, c->proxy.timeout_usec);
    code_prefixes(codec, &c->proxy.from);
    CODE(codec, c->trace);
    CODE(codec, c->idle_timeout_usec);
    CODE(codec, c->write_timeout_usec);
    CODE(codec, c->unsent_limit);
    code_text(codec, &c->listener);
    if (codec->out)
        return config;
    c->service = service ? service_find(service) : NULL;
    if (!c->service || !c->listener || c->unsent_limit < SERVICE_MIN_OUTPUT ||
        (c->service->takes_text && !c->params.text))
        codec_fail(codec, -EBADMSG);
    config = codec->error == 0 ? service_config_new(c) : NULL;
    if (!config)
        codec_fail(codec, -ENOMEM);
    free(service);
    free((char *)c->params.text);
    free((char *)c->params.greeting);
    free((char *)c->params.end_word);
    admission_rules_clear(&c->rules);
    prefix_list_clear(&c->proxy.from);
    free(c->listener);
    return config;
}

static void code_listener(struct codec *codec, struct saved_listener *listener, size_t configs)
{
    CODE(codec, listener->cookie);
    code_text(codec, &listener->name);
    CODE(codec, listener->port);
    CODE(codec, listener->any);
    CODE(codec, listener->without_v6);
    CODE(codec, listener->device);
    CODE(codec, listener->inode);
    CODE(codec, listener->config);
    CODE(codec, listener->number);
    CODE(codec, listener->id);
    if (listener->config >= configs || !listener->name)
        codec_fail(codec, -EBADMSG);
}

static void code_service_state(struct codec *codec, struct service_state *state)
{
    CODE(codec, state->produced);
    CODE(codec, state->greeted);
    CODE(codec, state->line);
    CODE_BIT(codec, state->asked);
    CODE_BIT(codec, state->ending);
    CODE_BIT(codec, state->done);
    CODE_BIT(codec, state->end_word_came);
}

static void code_misbehaviour(struct codec *codec, struct progress *progress)
{
    struct misbehaviour *m = &progress->misbehaviour;
    CODE(codec, m->key);
    CODE(codec, m->accepted);
    CODE(codec, m->made);
    CODE(codec, m->said);
    CODE(codec, m->last_due);
    CODE(codec, m->slice_due);
    CODE(codec, m->rate_due);
    CODE(codec, m->first_due);
    CODE(codec, m->first_length);
    CODE(codec, m->is_started);
    CODE(codec, m->is_hurried);
    CODE(codec, m->is_finished);
    CODE(codec, m->is_done);
    CODE(codec, m->ended_by);
    code_borrowed(codec, &progress->held, &progress->held_length);
    code_borrowed(codec, &progress->again, &progress->again_length);
}

static void code_proxied(struct codec *codec, struct saved_proxied *proxied)
{
    CODE(codec, proxied->is_there);
    if (!proxied->is_there)
        return;
    code_address(codec, &proxied->proxy);
    CODE(codec, proxied->kind);
    if (proxied->kind >= PROXIED_KINDS)
        codec_fail(codec, -EBADMSG);
    code_borrowed(codec, &proxied->header, &proxied->header_length);
}

static void code_connection(struct codec *codec, struct saved_connection *connection)
{
    struct new_client *client = &connection->client;
    struct progress *progress = &connection->progress;
    CODE(codec, connection->cookie);
    CODE(codec, connection->config);
    code_address(codec, &client->client);
    CODE(codec, client->id);
    CODE(codec, client->number);
    CODE(codec, client->accepted_usec);
    code_proxied(codec, &connection->proxied);
    CODE(codec, progress->bytes_in);
    CODE(codec, progress->bytes_out);
    CODE(codec, progress->active_usec);
    code_service_state(codec, &progress->state);
    progress->reason = code_reason(codec, progress->reason);
    CODE(codec, progress->client_closed);
    CODE(codec, progress->header_due);
    CODE(codec, progress->draining);
    CODE(codec, progress->lingering);
    CODE(codec, progress->due);
    CODE(codec, progress->taken);
    code_borrowed(codec, &progress->unsent, &progress->unsent_length);
    CODE(codec, progress->misbehaves);
    if (progress->misbehaves)
        code_misbehaviour(codec, progress);
}

static bool is_header(const struct saved_proxied *proxied)
{
    struct proxy_header header;
    struct span bytes = {proxied->header, proxied->header_length};
    return proxied->header_length == 0 || (proxy_header_parse(bytes, &header) == PROXY_HEADER_COMPLETE &&
                                           header.length == proxied->header_length);
}

/* What no process of ours can have written. */
static bool is_possible(const struct saved_state *state, const struct saved_connection *connection,
                        uint64_t now)
{
    const struct progress *progress = &connection->progress;
    if (connection->config >= state->config_count || !is_header(&connection->proxied))
        return false;
    const struct service_config *config = state->configs[connection->config];
    if (progress->header_due && (!config->proxy.protocol || connection->proxied.is_there ||
                                 progress->unsent_length >= PROXY_HEADER_V2_MAX))
        return false;
    if (progress->misbehaves &&
        (!config->misbehaviour ||
         !misbehaviour_is_possible(config->misbehaviour, &progress->misbehaviour, progress->held,
                                   progress->held_length, progress->again_length)))
        return false;
    bool is_ended_by_fault = progress->misbehaves && progress->misbehaviour.ended_by != MISBEHAVIOUR_NONE;
    if (is_ended_by_fault != (progress->reason == REASON_FAULT))
        return false;
    return service_state_is_possible(config->service, &config->params, &progress->state) &&
           connection->client.accepted_usec <= now && progress->active_usec <= now &&
           (!progress->lingering || (progress->reason != REASON_NONE && progress->unsent_length == 0));
}

static void code_state(struct codec *codec, struct saved_state *state)
{
    CODE(codec, state->kind);
    if (state->kind >= SAVED_KINDS)
        codec_fail(codec, -EBADMSG);
    CODE(codec, state->last_id);
    CODE(codec, state->accepted);
    CODE(codec, state->last_listener_id);
    code_counts(codec, state->refused);
    code_counts(codec, state->waits);
    code_counts(codec, state->totals.closed_by);
    CODE(codec, state->totals.bytes_in);
    CODE(codec, state->totals.bytes_out);
    CODE(codec, state->lost_messages);
    state->configs = code_array(codec, state->configs, &state->config_count, sizeof(struct service_config *));
    for (size_t i = 0; i < state->config_count && codec->error == 0; i++)
        state->configs[i] = code_config(codec, state->configs[i]);
    state->listeners = code_array(codec, state->listeners, &state->listener_count, sizeof *state->listeners);
    for (size_t i = 0; i < state->listener_count && codec->error == 0; i++)
        code_listener(codec, &state->listeners[i], state->config_count);
    state->connections =
        code_array(codec, state->connections, &state->connection_count, sizeof *state->connections);
    uint64_t now = clock_monotonic_usec();
    for (size_t i = 0; i < state->connection_count && codec->error == 0; i++) {
        code_connection(codec, &state->connections[i]);
        if (!codec->out && !is_possible(state, &state->connections[i], now))
            codec_fail(codec, -EBADMSG);
    }
}

/* The header goes over the room that was left for it, once what follows it is known. */
static int write_header(int fd)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return -errno;
    size_t size = (size_t)file.st_size;
    uint8_t *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    struct header header = {.version = HANDOVER_STATE_VERSION, .length = size - sizeof header};
    memcpy(header.magic, magic, sizeof magic);
    header.checksum = XXH3_64bits(bytes + sizeof header, size - sizeof header);
    munmap(bytes, size);
    ssize_t written = pwrite(fd, &header, sizeof header, 0);
    return written == (ssize_t)sizeof header ? 0 : written < 0 ? -errno : -EIO;
}

static int write_whole(int fd, const struct saved_state *state)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *out = copy < 0 ? NULL : fdopen(copy, "w");
    if (!out) {
        int error = errno;
        fd_close(&copy);
        return -error;
    }
    (void)setvbuf(out, NULL, _IOFBF, BUFFER_SIZE); /* without it only slower */
    struct codec codec = {.out = out};
    struct saved_state written = *state; /* writing leaves it as it is */
    struct header room = {0};
    errno = 0;
    code_bytes(&codec, &room, sizeof room);
    code_state(&codec, &written);
    if (fflush(out) == EOF)
        codec_fail(&codec, -errno);
    (void)fclose(out); /* nothing is left that could fail */
    return codec.error < 0 ? codec.error : write_header(fd);
}

int saved_state_write(const struct saved_state *state)
{
    CLEANUP(fd_close)
    int fd = memfd_create("tcpechod-state", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("tcpechod-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int r = write_whole(fd, state);
    if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        r = -errno;
    return r < 0 ? r : TAKE_FD(fd);
}

static int compare_cookies(const void *a, const void *b)
{
    const struct saved_connection *one = a, *other = b;
    return (one->cookie > other->cookie) - (one->cookie < other->cookie);
}

int saved_state_parse(const uint8_t *bytes, size_t length, struct saved_state *out)
{
    struct header header;
    *out = (struct saved_state){0};
    if (length < sizeof header)
        return -EBADMSG;
    memcpy(&header, bytes, sizeof header);
    if (memcmp(header.magic, magic, sizeof magic) != 0)
        return -EBADMSG;
    if (header.version != HANDOVER_STATE_VERSION)
        return -EPROTONOSUPPORT;
    bytes += sizeof header;
    if (header.length != length - sizeof header || header.checksum != XXH3_64bits(bytes, header.length))
        return -EBADMSG;
    struct codec codec = {.at = bytes, .end = bytes + header.length};
    code_state(&codec, out);
    if (codec.at != codec.end)
        codec_fail(&codec, -EBADMSG);
    if (codec.error < 0)
        saved_state_clear(out);
    else
        qsort(out->connections, out->connection_count, sizeof *out->connections, compare_cookies);
    return codec.error;
}

int saved_state_read(int fd, struct saved_state *out)
{
    struct stat file;
    *out = (struct saved_state){0};
    /* Without the seals it could shrink while it is read, which ends the reader (mmap(2), SIGBUS). */
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return -EBADMSG;
    if (fstat(fd, &file) < 0)
        return -errno;
    size_t size = (size_t)file.st_size;
    if (size == 0)
        return -EBADMSG;
    void *mapping = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED)
        return -errno;
    int r = saved_state_parse(mapping, size, out);
    if (r < 0) {
        munmap(mapping, size);
        return r;
    }
    out->mapping = mapping;
    out->mapping_size = size;
    return 0;
}

void saved_state_clear(struct saved_state *state)
{
    for (size_t i = 0; i < state->config_count; i++)
        service_config_unref(state->configs[i]);
    for (size_t i = 0; i < state->listener_count; i++)
        free(state->listeners[i].name);
    free(state->configs);
    free(state->listeners);
    free(state->connections);
    if (state->mapping)
        munmap(state->mapping, state->mapping_size);
    *state = (struct saved_state){0};
}

struct saved_connection *saved_state_connection(const struct saved_state *state, uint64_t cookie)
{
    const struct saved_connection key = {.cookie = cookie};
    if (state->connection_count == 0) /* bsearch(3) takes no NULL */
        return NULL;
    return bsearch(&key, state->connections, state->connection_count, sizeof key, compare_cookies);
}

int socket_cookie(int fd, uint64_t *out)
{
    uint64_t cookie;
    socklen_t length = sizeof cookie;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0)
        return -errno;
    *out = cookie;
    return 0;
}
