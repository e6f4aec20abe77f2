#include "client/target.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/escape.h"
#include "client/exit_status.h"
#include "client/options.h"
#include "client/terminal.h"
#include "client/values.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define HOST_SIZE 256 /* a name of DNS has at most 253 characters */

const char *endpoint_format(const struct endpoint *endpoint, char out[static ENDPOINT_TEXT_SIZE])
{
    struct address address;

    if (endpoint->address.ss_family == AF_UNIX) {
        const struct sockaddr_un *name = (const struct sockaddr_un *)(const void *)&endpoint->address;
        (void)escape_controls(name->sun_path, out, ENDPOINT_TEXT_SIZE);
        return out;
    }
    address_from_sockaddr((const struct sockaddr *)&endpoint->address, &address);
    return address_format(&address, ADDRESS_FULL, out);
}

const char *target_format(const struct target *target, char out[static TARGET_TEXT_SIZE])
{
    if (!target->host)
        (void)snprintf(out, TARGET_TEXT_SIZE, "port %.40s", target->port);
    else if (target->port)
        (void)snprintf(out, TARGET_TEXT_SIZE, "%.255s port %.40s", target->host, target->port);
    else
        (void)snprintf(out, TARGET_TEXT_SIZE, "%.255s", target->host);
    return out;
}

static int no_memory(void)
{
    complain("%s", strerror(ENOMEM));
    return EXIT_SYSTEM;
}

static int resolve_path(const char *path, struct target *out)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof name.sun_path) {
        complain("%.128s...: the path of a socket has at most %zu bytes", path, sizeof name.sun_path - 1);
        return EXIT_USAGE;
    }
    struct endpoint *item = calloc(1, sizeof *item);
    if (!item)
        return no_memory();
    strcpy(name.sun_path, path);
    memcpy(&item->address, &name, sizeof name);
    item->length = sizeof name;
    *out = (struct target){.host = path, .items = item, .count = 1};
    return 0;
}

/* getaddrinfo(3) takes the lowest 16 bits of any number. */
static bool is_port(const char *port, uint64_t least)
{
    uint64_t number;

    if (port[strspn(port, "0123456789")] != '\0')
        return true; /* a name, which getaddrinfo looks up */
    return value_parse_count(port, &number) == 0 && number >= least && number <= UINT16_MAX;
}

static int refuse_port(const char *port, const char *allowed)
{
    complain("%.64s: a port is %s or the name of a service", port[0] != '\0' ? port : "\"\"", allowed);
    return EXIT_USAGE;
}

static int refuse_name(const char *host, const char *port, int error)
{
    const char *colon = strchr(host, ':');

    if (error == EAI_MEMORY)
        return no_memory();
    if (error == EAI_SYSTEM) {
        complain("cannot look up %.200s: %s", host, strerror(errno));
        return EXIT_SYSTEM;
    }
    if (error == EAI_SERVICE)
        complain("%.64s: no such service in /etc/services; give the number of the port", port);
    else if (colon && colon == strrchr(host, ':'))
        complain("%.200s: no such host; the port is an argument of its own: %.*s %.16s", host,
                 (int)(colon - host), host, colon + 1);
    else
        complain("cannot find %.200s: %s", host, gai_strerror(error));
    return EXIT_UNKNOWN_NAME;
}

static void free_addresses(struct addrinfo **list)
{
    if (*list)
        freeaddrinfo(*list);
}

static int copy_addresses(const struct addrinfo *list, struct target *target)
{
    size_t count = 0;

    for (const struct addrinfo *item = list; item; item = item->ai_next)
        count++;
    target->items = calloc(count, sizeof *target->items);
    if (!target->items)
        return no_memory();
    for (const struct addrinfo *item = list; item; item = item->ai_next) {
        struct endpoint *endpoint = &target->items[target->count++];
        memcpy(&endpoint->address, item->ai_addr, item->ai_addrlen);
        endpoint->length = item->ai_addrlen;
    }
    return 0;
}

/* "[::1]" as other programs write it, without its brackets. Returns 0, or an exit status for what cannot be a
 * name. */
static int strip_brackets(const char *host, char out[static HOST_SIZE])
{
    size_t length = strlen(host);

    if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    if (length == 0 || length >= HOST_SIZE) {
        complain("%.64s: not the name of a host", length > 0 ? host : "\"\"");
        return EXIT_USAGE;
    }
    memcpy(out, host, length);
    out[length] = '\0';
    return 0;
}

static int look_up(const char *host, const char *port, const struct addrinfo *hints, struct target *out)
{
    CLEANUP(free_addresses) struct addrinfo *list = NULL;
    struct target target = {.host = host, .port = port};
    char bare[HOST_SIZE];

    if (host) {
        int r = strip_brackets(host, bare);
        if (r != 0)
            return r;
    }
    int error = getaddrinfo(host ? bare : NULL, port, hints, &list);
    if (error != 0)
        return refuse_name(host ? host : "", port, error);
    int r = copy_addresses(list, &target);
    if (r == 0)
        *out = target;
    return r;
}

int target_resolve(const char *host, const char *port, struct target *out)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    if (strchr(host, '/')) {
        if (!port)
            return resolve_path(host, out);
        complain("%.128s: a path has no port", host);
        return EXIT_USAGE;
    }
    port = port ? port : DEFAULT_PORT;
    if (!is_port(port, 1))
        return refuse_port(port, "1 to 65535");
    return look_up(host, port, &hints, out);
}

int target_resolve_local(const char *host, const char *port, struct target *out)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};

    if (!is_port(port, 0))
        return refuse_port(port, "0 (a free one) to 65535");
    return look_up(host, port, &hints, out);
}

void target_clear(struct target *target)
{
    free(target->items);
    *target = (struct target){0};
}
