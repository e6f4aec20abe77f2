#include "base/address.h"

#include "base/units.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What log.addresses = "prefix" shows: wide enough that it names an operator's network and not a household.
 */
#define SHOWN_BITS_V4 24
#define SHOWN_BITS_V6 48

#define BITS_V4 32
#define BITS_V6 128
#define BITS_MAPPED 96 /* ::ffff:0:0/96 */

/* Everything that one text can hold: '[', the address, '%', the interface, ']', ':', the port. */
static_assert(ADDRESS_TEXT_SIZE >= INET6_ADDRSTRLEN + IF_NAMESIZE + sizeof "[%]:65535", "an address fits");

static unsigned family_bits(const struct address *address)
{
    return address->family == AF_INET ? BITS_V4 : address->family == AF_INET6 ? BITS_V6 : 0;
}

static bool is_link_local(const uint8_t ip[16])
{
    return (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80) || (ip[0] == 0xff && (ip[1] & 0x0f) == 0x02);
}

static void set_ipv4(struct address *address, const void *four_bytes)
{
    address->family = AF_INET;
    memcpy(address->ip, four_bytes, 4);
}

/* The only place that unwraps ::ffff:a.b.c.d, so that no client is ever seen as two. */
static void set_ipv6(struct address *address, const struct in6_addr *ip, uint32_t scope)
{
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        set_ipv4(address, &ip->s6_addr[12]);
        return;
    }
    address->family = AF_INET6;
    memcpy(address->ip, ip, 16);
    address->scope = is_link_local(address->ip) ? scope : 0;
}

/* An interface by its name or its number. Returns 0 or -EINVAL. */
static int parse_scope(const char *text, uint32_t *out)
{
    uint64_t number = if_nametoindex(text);
    if (number == 0 && (units_parse_number(text, INT_MAX, &number) < 0 || number == 0))
        return -EINVAL;
    *out = (uint32_t)number;
    return 0;
}

int address_parse(const char *text, uint16_t port, struct address *out)
{
    struct address parsed = {.port = port};
    struct in_addr v4;
    struct in6_addr v6;
    char bare[INET6_ADDRSTRLEN];
    if (inet_pton(AF_INET, text, &v4) == 1) {
        set_ipv4(&parsed, &v4);
        *out = parsed;
        return 0;
    }

    size_t length = strcspn(text, "%");
    if (length >= sizeof bare)
        return -EINVAL;
    memcpy(bare, text, length);
    bare[length] = '\0';
    if (inet_pton(AF_INET6, bare, &v6) != 1)
        return -EINVAL;

    uint32_t scope = 0;
    if (text[length] == '%' && (!is_link_local(v6.s6_addr) || parse_scope(text + length + 1, &scope) < 0))
        return -EINVAL;
    set_ipv6(&parsed, &v6, scope);
    *out = parsed;
    return 0;
}

void address_from_sockaddr(const struct sockaddr *sockaddr, struct address *out)
{
    struct address address = {.family = sockaddr->sa_family};
    /* Copied, not cast: the caller's storage may be typed or aligned otherwise. */
    if (sockaddr->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sockaddr, sizeof in);
        set_ipv4(&address, &in.sin_addr);
        address.port = ntohs(in.sin_port);
    } else if (sockaddr->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sockaddr, sizeof in6);
        set_ipv6(&address, &in6.sin6_addr, in6.sin6_scope_id);
        address.port = ntohs(in6.sin6_port);
    }
    *out = address;
}

socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *out)
{
    assert(family_bits(address) != 0);

    memset(out, 0, sizeof *out);
    if (address->family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(&in.sin_addr, address->ip, 4);
        memcpy(out, &in, sizeof in);
        return sizeof in;
    }

    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(address->port), .sin6_scope_id = address->scope};
    memcpy(&in6.sin6_addr, address->ip, 16);
    memcpy(out, &in6, sizeof in6);
    return sizeof in6;
}

/* "192.0.2.1", "2001:db8::1". Cannot fail: the family is known and the room suffices for both. */
static void format_ip(const struct address *address, char out[static INET6_ADDRSTRLEN])
{
    inet_ntop(address->family, address->ip, out, INET6_ADDRSTRLEN);
}

/* "%eth0", or "%7" when the interface is gone or the kernel may not be asked; nothing without a scope. */
static void format_scope(uint32_t scope, char out[static IF_NAMESIZE + 1])
{
    out[0] = '\0';
    if (scope == 0)
        return;
    out[0] = '%';
    if (!if_indextoname(scope, out + 1))
        snprintf(out + 1, IF_NAMESIZE, "%u", scope);
}

const char *address_format_ip(const struct address *address, char out[static ADDRESS_TEXT_SIZE])
{
    char scope[IF_NAMESIZE + 1];
    format_ip(address, out);
    format_scope(address->scope, scope);
    return strcat(out, scope);
}

const char *address_format(const struct address *address, enum address_detail detail,
                           char out[static ADDRESS_TEXT_SIZE])
{
    char ip[ADDRESS_TEXT_SIZE];
    if (detail == ADDRESS_NONE)
        return strcpy(out, "-");
    if (family_bits(address) == 0)
        return strcpy(out, "unix");

    if (detail == ADDRESS_PREFIX) {
        struct prefix network = {.base = *address,
                                 .length = address->family == AF_INET ? SHOWN_BITS_V4 : SHOWN_BITS_V6};
        address_mask(&network.base, network.length);
        return prefix_format(&network, out);
    }

    address_format_ip(address, ip);
    snprintf(out, ADDRESS_TEXT_SIZE, address->family == AF_INET ? "%s:%u" : "[%s]:%u", ip, address->port);
    return out;
}

bool address_equal_ip(const struct address *a, const struct address *b)
{
    return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool address_is_any(const struct address *address)
{
    static const uint8_t zero[16];
    return family_bits(address) != 0 && memcmp(address->ip, zero, sizeof zero) == 0;
}

bool address_is_loopback(const struct address *address)
{
    static const uint8_t one[16] = {[15] = 1};
    if (address->family == AF_INET)
        return address->ip[0] == 127;
    return address->family == AF_INET6 && memcmp(address->ip, one, sizeof one) == 0;
}

bool address_is_multicast(const struct address *address)
{
    if (address->family == AF_INET)
        return (address->ip[0] & 0xf0) == 0xe0;
    return address->family == AF_INET6 && address->ip[0] == 0xff;
}

bool address_is_broadcast(const struct address *address)
{
    static const uint8_t ones[4] = {255, 255, 255, 255};
    return address->family == AF_INET && memcmp(address->ip, ones, sizeof ones) == 0;
}

bool address_is_link_local(const struct address *address)
{
    return address->family == AF_INET6 && is_link_local(address->ip);
}

void address_mask(struct address *address, unsigned bits)
{
    address->port = 0;
    if (bits < family_bits(address))
        address->scope = 0;
    for (unsigned i = bits / 8; i < sizeof address->ip; i++) {
        unsigned kept = i == bits / 8 ? 0xff00U >> (bits % 8) : 0;
        address->ip[i] = (uint8_t)(address->ip[i] & kept);
    }
}

int prefix_parse(const char *text, struct prefix *out)
{
    char bare[INET6_ADDRSTRLEN];
    struct prefix parsed = {0};
    size_t length = strcspn(text, "/");
    if (length >= sizeof bare || memchr(text, '%', length))
        return -EINVAL;
    memcpy(bare, text, length);
    bare[length] = '\0';
    if (address_parse(bare, 0, &parsed.base) < 0)
        return -EINVAL;

    /* The length counts in the notation that was written, which for ::ffff:a.b.c.d has 128 bits. */
    bool mapped = parsed.base.family == AF_INET && strchr(bare, ':');
    uint64_t bits = mapped ? BITS_V6 : family_bits(&parsed.base);
    if (text[length] == '/' && units_parse_number(text + length + 1, bits, &bits) < 0)
        return -EINVAL;
    if (mapped && bits < BITS_MAPPED)
        return -EDOM; /* the length ends within ::ffff itself */
    parsed.length = (unsigned)bits - (mapped ? BITS_MAPPED : 0);

    struct address masked = parsed.base;
    address_mask(&masked, parsed.length);
    if (!address_equal_ip(&masked, &parsed.base))
        return -EDOM;
    *out = parsed;
    return 0;
}

const char *prefix_format(const struct prefix *prefix, char out[static ADDRESS_TEXT_SIZE])
{
    char ip[INET6_ADDRSTRLEN];
    format_ip(&prefix->base, ip);
    snprintf(out, ADDRESS_TEXT_SIZE, "%s/%u", ip, prefix->length);
    return out;
}

bool prefix_contains(const struct prefix *prefix, const struct address *address)
{
    if (family_bits(address) == 0 || prefix->base.family != address->family)
        return false;

    /* Compared in place: this runs for each entry of a list and each client. */
    size_t whole = prefix->length / 8;
    if (memcmp(prefix->base.ip, address->ip, whole) != 0)
        return false;
    unsigned rest = prefix->length % 8;
    return rest == 0 || (prefix->base.ip[whole] ^ address->ip[whole]) >> (8 - rest) == 0;
}

bool prefix_list_contains(const struct prefix_list *list, const struct address *address)
{
    for (size_t i = 0; i < list->count; i++)
        if (prefix_contains(&list->items[i], address))
            return true;
    return false;
}

int prefix_list_copy(struct prefix_list *to, const struct prefix_list *from)
{
    if (from->count == 0)
        return 0;
    to->items = malloc(from->count * sizeof *to->items);
    if (!to->items)
        return -ENOMEM;
    memcpy(to->items, from->items, from->count * sizeof *to->items);
    to->count = from->count;
    return 0;
}

void prefix_list_clear(struct prefix_list *list)
{
    free(list->items);
    *list = (struct prefix_list){0};
}
