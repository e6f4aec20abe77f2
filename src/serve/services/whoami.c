/* One line of JSON about the connection: who came, where, by which proxy, and what the kernel knows. */

#include "base/clock.h"
#include "base/json.h"
#include "serve/connection_view.h"
#include "serve/service.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* Of a text that the proxy sends. */
#define SHOWN ((size_t)255)

/* RFC 3339, in UTC; nothing for a clock in a year beyond it. */
static void put_time(struct json *json, const char *key, uint64_t usec)
{
    time_t seconds = (time_t)(usec / USEC_PER_SEC);
    struct tm utc;
    char second[sizeof "2026-11-28T07:08:19"], text[sizeof second + sizeof ".633833Z"];
    if (!gmtime_r(&seconds, &utc) || strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &utc) == 0)
        return;
    snprintf(text, sizeof text, "%s.%06uZ", second, (unsigned)(usec % USEC_PER_SEC));
    json_text(json, key, text);
}

/* ---- Endpoints ---- */

static void put_endpoint(struct json *json, const struct proxy_endpoint *endpoint)
{
    char ip[ADDRESS_TEXT_SIZE];
    if (endpoint->address.family == AF_INET || endpoint->address.family == AF_INET6) {
        json_text(json, "address", address_format_ip(&endpoint->address, ip));
        json_count(json, "port", endpoint->address.port);
    } else if (endpoint->path.length > 0 && endpoint->path.bytes[0] == 0) {
        json_bytes(json, "abstract", span_from(endpoint->path, 1));
    } else if (endpoint->path.length > 0) {
        json_bytes(json, "path", endpoint->path);
    }
}

/* With the process that made a Unix socket's connection. */
static void put_peer(struct json *json, const struct connection_view *view)
{
    put_endpoint(json, &view->peer);
    if (!view->credentials)
        return;
    json_count(json, "uid", view->credentials->uid);
    json_count(json, "gid", view->credentials->gid);
    json_count(json, "pid", (uint64_t)view->credentials->pid);
}

static void put_client(struct json *json, const struct connection_view *view)
{
    json_open(json, "client", '{');
    if (view->header && view->header->is_relayed)
        put_endpoint(json, &view->header->source);
    else
        put_peer(json, view);
    json_close(json, '}');
}

/* ---- The proxy's header: the texts are a stranger's, of any bytes and any length ---- */

/* No part of a UTF-8 character that is cut. */
static struct span shown(struct span text)
{
    size_t length = SHOWN;
    if (text.length <= SHOWN)
        return text;
    while (length > SHOWN - 3 && (text.bytes[length] & 0xc0) == 0x80)
        length--;
    return span_first(text, length);
}

/* Nothing where there is none; its length beside it when it is cut. */
static void put_text(struct json *json, const char *key, struct span text)
{
    char length_key[32];
    if (!text.bytes)
        return;
    struct span part = shown(text);
    json_bytes(json, key, part);
    if (part.length == text.length)
        return;
    snprintf(length_key, sizeof length_key, "%s_bytes", key);
    json_count(json, length_key, text.length);
}

static void put_unique_id(struct json *json, struct span id)
{
    char hex[2 * SHOWN + 1] = "";
    struct span part = span_first(id, SHOWN); /* the header's are shorter */
    if (json_is_exact(id)) {
        put_text(json, "unique_id", id);
        return;
    }
    for (size_t i = 0; i < part.length; i++)
        snprintf(hex + 2 * i, 3, "%02x", part.bytes[i]);
    json_text(json, "unique_id_hex", hex);
}

static void put_tls(struct json *json, const struct proxy_header *header)
{
    bool has_certificate = header->tls_client & (PROXY_TLS_CERTIFICATE | PROXY_TLS_SESSION_CERT);
    if (!header->has_tls)
        return;
    if (!(header->tls_client & PROXY_TLS_CLIENT)) {
        json_null(json, "tls");
        return;
    }
    json_open(json, "tls", '{');
    put_text(json, "version", header->tls_version);
    put_text(json, "name", header->tls_common_name);
    json_bool(json, "certificate", has_certificate);
    json_bool(json, "verified", has_certificate && header->tls_verify == 0);
    json_close(json, '}');
}

static void put_proxy(struct json *json, const struct connection_view *view)
{
    const struct proxy_header *header = view->header;
    if (!header)
        return;
    json_open(json, "proxy", '{');
    put_peer(json, view);
    json_count(json, "version", header->version);
    json_text(json, "command", header->is_local ? "local" : header->is_relayed ? "proxy" : "unknown");
    if (header->is_relayed) {
        json_open(json, "destination", '{');
        put_endpoint(json, &header->destination);
        json_close(json, '}');
    }
    put_text(json, "alpn", header->alpn);
    put_text(json, "authority", header->authority);
    put_unique_id(json, header->unique_id);
    if (header->has_checksum)
        json_bool(json, "checksum", true);
    put_tls(json, header);
    json_close(json, '}');
}

/* ---- The kernel ---- */

static void put_tcp(struct json *json, const struct tcp_view *tcp)
{
    if (!tcp)
        return;
    json_open(json, "tcp", '{');
    if (tcp->rtt_usec > 0) { /* measured */
        json_count(json, "rtt_us", tcp->rtt_usec);
        json_count(json, "rttvar_us", tcp->rttvar_usec);
    }
    json_count(json, "mss_bytes", tcp->mss);
    if (tcp->congestion_control[0])
        json_text(json, "congestion_control", tcp->congestion_control);
    json_close(json, '}');
}

static size_t describe(const struct connection_view *view, uint8_t out[static SERVICE_DESCRIPTION_SIZE])
{
    struct json json = {.out = fmemopen(out, SERVICE_DESCRIPTION_SIZE, "w"), .one_line = true};
    if (!json.out)
        return 0;
    json_open(&json, NULL, '{');
    json_count(&json, "id", view->id);
    put_client(&json, view);
    json_open(&json, "server", '{');
    put_endpoint(&json, &view->server);
    json_close(&json, '}');
    put_proxy(&json, view);
    json_text(&json, "listener", view->listener);
    json_text(&json, "service", view->service);
    json_count(&json, "worker", view->worker);
    if (view->host)
        json_text(&json, "host", view->host);
    put_time(&json, "accepted", view->accepted_usec);
    put_tcp(&json, view->tcp);
    json_close(&json, '}');
    fputc('\n', json.out);
    bool is_whole = fflush(json.out) == 0 && !ferror(json.out);
    long length = ftell(json.out);
    (void)fclose(json.out); /* nothing is left that could fail */
    return is_whole && length > 0 ? (size_t)length : 0;
}

const struct service service_whoami = {
    .name = "whoami",
    .summary = "one line of JSON about the connection, then it closes",
    .describe = describe,
};
