#include "client/net/source.h"

#include "base/cleanup.h"
#include "base/socket_option.h"
#include "client/process/exit_status.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Whether this host has the address: a socket that sends nothing can be bound to it. */
static int check_address(const struct address *address)
{
    struct sockaddr_storage name;
    socklen_t length = address_to_sockaddr(address, &name);
    CLEANUP(fd_close) int fd = socket(address->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&name, length) < 0)
        return -errno;
    return 0;
}

static int add_address(const char *text, struct source *source)
{
    struct address address;
    if (address_parse(text, 0, &address) < 0) {
        print_error("-I %.64s: neither an interface nor an address; ip address shows those there are", text);
        return EXIT_USAGE;
    }
    int r = check_address(&address);
    if (r < 0) {
        print_error("-I %.64s: %s%s", text, strerror(-r),
                    r == -EADDRNOTAVAIL ? "; this host has no such address" : "");
        return EXIT_SYSTEM;
    }
    struct address *more = realloc(source->addresses, (source->count + 1) * sizeof *more);
    if (!more) {
        print_error("%s", strerror(ENOMEM));
        return EXIT_SYSTEM;
    }
    source->addresses = more;
    source->addresses[source->count++] = address;
    return 0;
}

/* One of a list, or all that was written. */
static int add_item(const char *item, const char *text, struct source *source)
{
    bool is_alone = strcmp(item, text) == 0;
    if (!is_alone && item[0] == '\0') {
        print_error("-I %.128s: there is a comma without an address", text);
        return EXIT_USAGE;
    }
    if (!is_alone && if_nametoindex(item) != 0) {
        print_error("-I %.128s: %.64s is an interface, and only addresses can be listed", text, item);
        return EXIT_USAGE;
    }
    return add_address(item, source);
}

int source_parse(const char *text, struct source *source)
{
    int status = 0;
    if (if_nametoindex(text) != 0) {
        snprintf(source->interface, sizeof source->interface, "%s", text);
        return 0;
    }
    CLEANUP(free_pointer) char *copy = strdup(text);
    if (!copy) {
        print_error("%s", strerror(ENOMEM));
        return EXIT_SYSTEM;
    }
    for (char *rest = copy, *item; status == 0 && (item = strsep(&rest, ","));)
        status = add_item(item, text, source);
    if (status != 0)
        source_clear(source);
    return status;
}

void source_clear(struct source *source)
{
    free(source->addresses);
    source->addresses = NULL;
    source->count = 0;
}

size_t source_count(const struct source *source, int family)
{
    size_t matching = 0;
    for (size_t i = 0; i < source->count; i++)
        matching += source->addresses[i].family == family;
    return matching;
}

static const struct address *choose(const struct source *source, int family, uint64_t number)
{
    size_t matching = source_count(source, family);
    if (matching == 0)
        return NULL;
    size_t skip = (size_t)(number % matching);
    for (size_t i = 0;; i++)
        if (source->addresses[i].family == family && skip-- == 0)
            return &source->addresses[i];
}

bool source_has(const struct source *source, int family)
{
    return source->count == 0 || source_count(source, family) > 0;
}

int source_apply(const struct source *source, int fd, int family, uint64_t number)
{
    const struct address *address = choose(source, family, number);
    struct sockaddr_storage name;
    int r = 0;
    if (source->tos >= 0)
        r = family == AF_INET6 ? socket_set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, source->tos)
                               : socket_set_option(fd, IPPROTO_IP, IP_TOS, source->tos);
    if (r == 0 && source->interface[0] != '\0' &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, source->interface, (socklen_t)strlen(source->interface)) <
            0)
        r = -errno;
    if (r < 0 || !address)
        return r;
    /* The port is chosen by connect(2), so that each server and each address has all of them. */
    r = socket_set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    socklen_t length = address_to_sockaddr(address, &name);
    if (r == 0 && bind(fd, (const struct sockaddr *)&name, length) < 0)
        r = -errno;
    return r;
}
