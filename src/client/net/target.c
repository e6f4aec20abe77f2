#include "client/net/target.h"

#include "base/address.h"
#include "base/cleanup.h"
#include "base/escape.h"
#include "base/units.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#define HOST_SIZE 256 /* a name of DNS has at most 253 characters */

const char *endpoint_format(const struct endpoint *endpoint, char out[static ENDPOINT_TEXT_SIZE])
{
    struct address address;
    if (endpoint->address.ss_family == AF_UNIX) {
        const struct sockaddr_un *name = (const struct sockaddr_un *)(const void *)&endpoint->address;
        escape_controls(name->sun_path, out, ENDPOINT_TEXT_SIZE);
        return out;
    }
    address_from_sockaddr((const struct sockaddr *)&endpoint->address, &address);
    return address_format(&address, ADDRESS_FULL, out);
}

const char *target_format(const struct target *target, char out[static TARGET_TEXT_SIZE])
{
    if (!target->host)
        snprintf(out, TARGET_TEXT_SIZE, "port %.40s", target->port);
    else if (target->port)
        snprintf(out, TARGET_TEXT_SIZE, "%.255s port %.40s", target->host, target->port);
    else
        snprintf(out, TARGET_TEXT_SIZE, "%.255s", target->host);
    return out;
}

static int no_memory(void)
{
    print_error("%s", strerror(ENOMEM));
    return EXIT_SYSTEM;
}

static int resolve_path(const char *path, struct target *target)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path) {
        print_error("%.128s...: the path of a socket has at most %zu bytes", path, sizeof name.sun_path - 1);
        return EXIT_USAGE;
    }
    struct endpoint *item = calloc(1, sizeof *item);
    if (!item)
        return no_memory();
    strcpy(name.sun_path, path);
    memcpy(&item->address, &name, sizeof name);
    item->length = sizeof name;
    target->host = path;
    target->items = item;
    target->count = 1;
    return 0;
}

/* getaddrinfo(3) takes the lowest 16 bits of any number. */
static bool is_port(const char *port, uint64_t least)
{
    uint64_t number;
    if (port[strspn(port, "0123456789")] != '\0')
        return true; /* a name, which getaddrinfo looks up */
    return units_parse_count(port, &number) == 0 && number >= least && number <= UINT16_MAX;
}

static int refuse_port(const char *port, const char *allowed)
{
    print_error("%.64s: a port is %s or the name of a service", port[0] != '\0' ? port : "\"\"", allowed);
    return EXIT_USAGE;
}

static void free_addresses(struct addrinfo **list)
{
    if (*list)
        freeaddrinfo(*list);
}

/* Whether the host only lacks addresses of the family that was asked for. */
static bool has_other_family(const char *host, const struct addrinfo *hints, int error)
{
    CLEANUP(free_addresses) struct addrinfo *list = NULL;
    struct addrinfo any = *hints;
    any.ai_family = AF_UNSPEC;
    return (error == EAI_NONAME || error == EAI_NODATA || error == EAI_ADDRFAMILY) &&
           hints->ai_family != AF_UNSPEC && getaddrinfo(host, NULL, &any, &list) == 0;
}

static int refuse_name(const char *host, const struct target *target, const struct addrinfo *hints, int error)
{
    const char *interface = strchr(host, '%');
    if (error == EAI_MEMORY)
        return no_memory();
    if (error == EAI_SYSTEM) {
        print_error("cannot look up %.200s: %s", host, strerror(errno));
        return EXIT_SYSTEM;
    }
    if (error == EAI_SERVICE)
        print_error("%.64s: no such service in /etc/services; give the number of the port", target->port);
    else if (interface && if_nametoindex(interface + 1) == 0)
        print_error("cannot find %.200s: there is no interface %.64s; ip link shows those there are", host,
                    interface + 1);
    else if (has_other_family(host, hints, error))
        print_error("cannot find %.200s: it has no %s address; leave out -%c", host,
                    hints->ai_family == AF_INET ? "IPv4" : "IPv6", hints->ai_family == AF_INET ? '4' : '6');
    else
        print_error("cannot find %.200s: %s%s", host, gai_strerror(error), target->advice);
    return EXIT_UNKNOWN_NAME;
}

/* A family that is dead delays the other by one address, not by all of its own (RFC 8305, 4). The order
 * within each stays. */
static void take_turns(struct target *target)
{
    for (size_t i = 1; i < target->count; i++) {
        sa_family_t wanted = target->items[i - 1].address.ss_family == AF_INET ? AF_INET6 : AF_INET;
        size_t found = i;
        while (found < target->count && target->items[found].address.ss_family != wanted)
            found++;
        if (found == i || found == target->count)
            continue;
        struct endpoint item = target->items[found];
        memmove(&target->items[i + 1], &target->items[i], (found - i) * sizeof item);
        target->items[i] = item;
    }
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
    take_turns(target);
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
        print_error("%.64s: not the name of a host", length > 0 ? host : "\"\"");
        return EXIT_USAGE;
    }
    memcpy(out, host, length);
    out[length] = '\0';
    return 0;
}

static int look_up(const struct addrinfo *hints, struct target *target)
{
    CLEANUP(free_addresses) struct addrinfo *list = NULL;
    char bare[HOST_SIZE];
    if (target->host) {
        int r = strip_brackets(target->host, bare);
        if (r != 0)
            return r;
    }
    int error = getaddrinfo(target->host ? bare : NULL, target->port, hints, &list);
    if (error != 0)
        return refuse_name(target->host ? bare : "", target, hints, error);
    return copy_addresses(list, target);
}

/* Cuts the port off `spec`, and returns it: what follows the only colon, or the one after "]". NULL: none. */
static char *cut_port(char *spec)
{
    char *bracket = spec[0] == '[' ? strchr(spec, ']') : NULL;
    char *colon = strchr(bracket ? bracket : spec, ':');
    if (!colon || (bracket && colon != bracket + 1) || strchr(colon + 1, ':'))
        return NULL; /* none, or a bare IPv6 address */
    *colon = '\0';
    return colon + 1;
}

#define SCHEME "tcp://"

/* As addresses are also written: "tcp://HOST:PORT", perhaps with a "/" at the end. */
static char *strip_scheme(char *spec)
{
    size_t length = strlen(spec);
    if (strncasecmp(spec, SCHEME, strlen(SCHEME)) != 0)
        return spec;
    if (length > strlen(SCHEME) && spec[length - 1] == '/')
        spec[length - 1] = '\0';
    return spec + strlen(SCHEME);
}

/* A path may have "://" in it, too. */
static bool has_scheme(const char *host)
{
    const char *slash = strchr(host, '/');
    return slash && slash > host && slash[-1] == ':' && slash[1] == '/';
}

bool target_is_path(const char *host)
{
    return strchr(host, '/') && !has_scheme(host);
}

bool target_has_port(const char *host)
{
    CLEANUP(free_pointer) char *copy = strdup(host);
    char *bare = copy ? strip_scheme(copy) : NULL;
    return bare && !strchr(bare, '/') && cut_port(bare);
}

static int resolve(char *host, const char *port, int family, struct target *target)
{
    const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    bool is_url = host != target->owned;
    const char *slash = strchr(host, '/');
    if (slash && is_url) {
        print_error(SCHEME "%.128s: a host and a port have no path", host);
        return EXIT_USAGE;
    }
    if (slash && port) {
        print_error("%.128s: a path has no port", host);
        return EXIT_USAGE;
    }
    if (slash && family != AF_UNSPEC) {
        print_error("%.128s: a path is neither IPv4 nor IPv6; leave out -%c", host,
                    family == AF_INET ? '4' : '6');
        return EXIT_USAGE;
    }
    if (slash)
        return resolve_path(host, target);
    const char *own_port = cut_port(host);
    if (own_port && port) {
        print_error("%.128s:%.40s: has its port already, and %.40s is another argument", host, own_port,
                    port);
        return EXIT_USAGE;
    }
    target->host = host;
    target->port = own_port ? own_port : port ? port : DEFAULT_PORT;
    return is_port(target->port, 1) ? look_up(&hints, target) : refuse_port(target->port, "1 to 65535");
}

static int resolve_local(char *host, const char *port, int family, struct target *target)
{
    const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    port = cut_port(host);
    if (!port && strchr(host, ':')) {
        print_error("--listen %.128s: an IPv6 address is in brackets and followed by its port, as [::1]:7777",
                    host);
        return EXIT_USAGE;
    }
    target->port = port ? port : host;
    if (port && host[0] != '\0' && strcmp(host, "*") != 0)
        target->host = host;
    return is_port(target->port, 0) ? look_up(&hints, target)
                                    : refuse_port(target->port, "0 (a free one) to 65535");
}

static int resolve_with(int (*look)(char *host, const char *port, int family, struct target *target),
                        const char *spec, const char *port, int family, const char *advice,
                        struct target *out)
{
    CLEANUP(target_clear) struct target target = {.owned = strdup(spec), .advice = advice};
    if (!target.owned)
        return no_memory();
    char *host = strip_scheme(target.owned);
    if (has_scheme(host)) {
        print_error("%.128s: only " SCHEME "HOST:PORT is supported", host);
        return EXIT_USAGE;
    }
    int status = look(host, port, family, &target);
    if (status != 0)
        return status;
    *out = target;
    target = (struct target){0};
    return 0;
}

int target_resolve(const char *host, const char *port, int family, const char *advice, struct target *out)
{
    return resolve_with(resolve, host, port, family, advice, out);
}

int target_resolve_local(const char *spec, int family, struct target *out)
{
    return resolve_with(resolve_local, spec, NULL, family, "", out);
}

int target_limit(struct target *target, const struct source *source)
{
    char name[TARGET_TEXT_SIZE];
    bool is_path = target->items[0].address.ss_family == AF_UNIX;
    size_t kept = 0;
    if (is_path && (source->count > 0 || source->interface[0] != '\0' || source->tos >= 0)) {
        print_error(
            "%s: a path has no addresses or interfaces to choose from, and no type of service; leave out "
            "-%c",
            target->host, source->tos >= 0 ? 'Q' : 'I');
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < target->count; i++) {
        if (is_path || source_has(source, target->items[i].address.ss_family))
            target->items[kept++] = target->items[i];
    }
    target->source = source;
    if (kept > 0) {
        target->count = kept;
        return 0;
    }
    print_error("%s has no address of the same family (IPv4 or IPv6) as -I", target_format(target, name));
    return EXIT_SYSTEM;
}

void target_clear(struct target *target)
{
    free(target->items);
    free(target->owned);
    *target = (struct target){0};
}
