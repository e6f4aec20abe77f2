#include "serve/connection_log.h"

#include "base/clock.h"
#include "base/escape.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define TRACE_BYTES 64

/* The catalog explains each of these ids. */
static const struct log_kind kind_connected = {"d82550e56b424d2eb7e50e8d25aacd69", .by_clients = true};
static const struct log_kind kind_closed = {"a0207d5af9e74255b495d0bc6886541c", .by_clients = true};
static const struct log_kind kind_refused = {"0b4aa9233cc84bfa9e4423611b5b611e", .by_clients = true};
static const struct log_kind kind_waiting = {"ab6276f55abf467ea21867d10d71c3d8", .by_clients = true};
static const struct log_kind kind_accept_failed = {"ee0238765a064675bf5376129657ec76", .by_clients = true};
static const struct log_kind kind_trace = {"38599c3ca93b4217978aed13ce7db314", .by_clients = true};

static atomic_bool log_connections = true;
static _Atomic int address_detail = ADDRESS_FULL;

void connection_log_configure(bool connections, enum address_detail detail)
{
    atomic_store(&log_connections, connections);
    atomic_store(&address_detail, (int)detail);
}

#define PATH_BYTES 108 /* of a Unix socket's address */
/* A path of plain characters is shown whole. Of one that is longer when it is escaped its beginning is shown:
 * the proxy's client has chosen it, and shall leave no other field of the record without room. */
#define PATH_BEGIN (PATH_BYTES / 4)
#define CLIENT_TEXT_SIZE (PATH_BYTES + sizeof "unix:\"@...\"")

/* The texts of a client's addresses. */
struct who {
    char client[CLIENT_TEXT_SIZE];
    char proxy[ADDRESS_TEXT_SIZE];
    char both[CLIENT_TEXT_SIZE + ADDRESS_TEXT_SIZE + sizeof " via "]; /* as messages name it */
};

/* What every message about a connection carries. */
#define CONNECTION_FIELDS(facts, who)                                                                        \
    LOG_NUMBER("TCPECHOD_CONNECTION", (facts)->id), LOG_TEXT("TCPECHOD_CLIENT", (who).client),               \
        LOG_TEXT("TCPECHOD_LISTENER", (facts)->listener), LOG_TEXT("TCPECHOD_SERVICE", (facts)->service),    \
        LOG_NUMBER("TCPECHOD_WORKER", (facts)->worker)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Between quotes, since it may be any bytes. */
static void format_path(struct span path, char out[static CLIENT_TEXT_SIZE])
{
    char text[4 * PATH_BYTES + 4];
    bool is_abstract = path.bytes[0] == 0;
    struct span name = span_from(path, is_abstract ? 1 : 0);
    escape_excerpt(name.bytes, name.length, PATH_BYTES, text);
    if (strlen(text) > PATH_BYTES)
        escape_excerpt(name.bytes, name.length, PATH_BEGIN, text);
    snprintf(out, CLIENT_TEXT_SIZE, "unix:\"%s%s\"", is_abstract ? "@" : "", text);
}

static struct who who_of(const struct connection_facts *facts)
{
    struct who who = {0};
    enum address_detail detail = (enum address_detail)atomic_load(&address_detail);
    if (facts->path.length > 0 && detail == ADDRESS_FULL)
        format_path(facts->path, who.client);
    else
        address_format(&facts->client, detail, who.client);
    if (facts->proxy)
        address_format(facts->proxy, detail, who.proxy);
    snprintf(who.both, sizeof who.both, "%s%s%s", who.client, facts->proxy ? " via " : "", who.proxy);
    return who;
}

/* Those that not every such message has; a text that is NULL is left out. */
static void add(struct log_field *fields, size_t *count, const char *name, const char *text)
{
    if (text)
        fields[(*count)++] = LOG_TEXT(name, text);
}

static void add_proxy(struct log_field *fields, size_t *count, const struct connection_facts *facts,
                      const struct who *who)
{
    add(fields, count, "TCPECHOD_PROXY", facts->proxy ? who->proxy : NULL);
}

static bool connections_enabled(enum log_level level)
{
    return log_enabled(level) && atomic_load_explicit(&log_connections, memory_order_relaxed);
}

void connection_log_connected(const struct connection_facts *facts)
{
    if (!connections_enabled(LOG_LEVEL_DEBUG))
        return;
    const struct who who = who_of(facts);
    struct log_field fields[] = {CONNECTION_FIELDS(facts, who), {0}};
    size_t count = COUNT(fields) - 1;
    add_proxy(fields, &count, facts, &who);
    log_event(&kind_connected, LOG_LEVEL_DEBUG, fields, count,
              "connection %" PRIu64 " from %s: %s on %s, worker %u", facts->id, who.both, facts->service,
              facts->listener, facts->worker);
}

void connection_log_closed(const struct connection_facts *facts, enum reason reason, int error, bool is_probe)
{
    enum log_level level = is_probe ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
    if (!connections_enabled(level))
        return;
    const struct who who = who_of(facts);
    struct log_field fields[] = {
        CONNECTION_FIELDS(facts, who),
        LOG_NUMBER("TCPECHOD_BYTES_IN", facts->bytes_in),
        LOG_NUMBER("TCPECHOD_BYTES_OUT", facts->bytes_out),
        LOG_NUMBER("TCPECHOD_DURATION_USEC", facts->duration_usec),
        LOG_TEXT("TCPECHOD_REASON", reason_name(reason)),
        {0},
        {0},
    };
    size_t count = COUNT(fields) - 2;
    add_proxy(fields, &count, facts, &who);
    add(fields, &count, "TCPECHOD_FAULT", facts->fault);
    const char *more = error ? strerrordesc_np(error) : facts->fault;
    log_event(&kind_closed, level, fields, count,
              "connection %" PRIu64 " from %s closed: %s%s%s, %s on %s, worker %u, %" PRIu64
              " bytes in, %" PRIu64 " out, %" PRIu64 ".%06" PRIu64 " s",
              facts->id, who.both, reason_name(reason), more ? ": " : "", more ? more : "", facts->service,
              facts->listener, facts->worker, facts->bytes_in, facts->bytes_out,
              facts->duration_usec / USEC_PER_SEC, facts->duration_usec % USEC_PER_SEC);
}

void connection_log_refused(const struct connection_facts *facts, enum reason reason, const char *why)
{
    if (!log_enabled(LOG_LEVEL_NOTICE))
        return;
    const struct who who = who_of(facts);
    struct log_field fields[] = {
        LOG_TEXT("TCPECHOD_CLIENT", who.client),
        LOG_TEXT("TCPECHOD_LISTENER", facts->listener),
        LOG_TEXT("TCPECHOD_SERVICE", facts->service),
        LOG_TEXT("TCPECHOD_REASON", reason_name(reason)),
        {0},
        {0},
        {0},
    };
    size_t count = COUNT(fields) - 3;
    if (facts->worker > 0) {
        fields[count++] = LOG_NUMBER("TCPECHOD_CONNECTION", facts->id);
        fields[count++] = LOG_NUMBER("TCPECHOD_WORKER", facts->worker);
    }
    add_proxy(fields, &count, facts, &who);
    log_event(&kind_refused, LOG_LEVEL_NOTICE, fields, count, "client %s refused on %s: %s%s%s", who.both,
              facts->listener, reason_name(reason), why ? ": " : "", why ? why : "");
}

void connection_log_waiting(enum reason reason, uint64_t connections, size_t queued)
{
    const struct log_field fields[] = {LOG_TEXT("TCPECHOD_REASON", reason_name(reason))};
    log_event(&kind_waiting, LOG_LEVEL_NOTICE, fields, 1,
              "no room for new clients: %s (%" PRIu64
              " connections, %zu of them queued); they wait in the kernel's "
              "backlog until there is",
              reason_name(reason), connections, queued);
}

void connection_log_accept_failed(const char *listener, int error)
{
    const struct log_field fields[] = {LOG_TEXT("TCPECHOD_LISTENER", listener)};
    log_event(&kind_accept_failed, LOG_LEVEL_WARNING, fields, 1, "cannot accept on %s: %s; will try again",
              listener, strerrordesc_np(error));
}

void connection_log_trace(const struct connection_facts *facts, bool is_read, const void *bytes,
                          size_t length)
{
    if (!log_enabled(LOG_LEVEL_INFO))
        return;
    char excerpt[4 * TRACE_BYTES + 4];
    const struct who who = who_of(facts);
    struct log_field fields[] = {CONNECTION_FIELDS(facts, who), {0}};
    size_t count = COUNT(fields) - 1;
    add_proxy(fields, &count, facts, &who);
    log_event(&kind_trace, LOG_LEVEL_INFO, fields, count,
              "connection %" PRIu64 " from %s %s %zu bytes: \"%s\"", facts->id, who.both,
              is_read ? "sent" : "was sent", length, escape_excerpt(bytes, length, TRACE_BYTES, excerpt));
}
