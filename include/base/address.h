/* IP addresses as values of 24 bytes: what a connection keeps of its client.
 *
 * An IPv4 client of a dual-stack socket arrives as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); it is stored, shown
 * and compared as IPv4. Any thread; nothing is kept between calls. The name of an interface (a link-local
 * scope) is the only thing that the kernel is asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct address {
    uint16_t family; /* AF_INET, AF_INET6; anything else, AF_UNIX above all, has no address */
    uint16_t port;   /* host order */
    uint32_t scope;  /* IPv6 link-local: the interface's index; otherwise 0 */
    uint8_t ip[16];  /* network order; IPv4 in the first four bytes, the rest zero */
};

/* A network: CIDR notation (RFC 4632, RFC 4291). */
struct prefix {
    struct address base;
    unsigned length; /* in bits: 0 to 32 or 0 to 128 */
};

struct prefix_list {
    struct prefix *items; /* owned by whoever owns the list */
    size_t count;
};

/* How much of a client's address may be shown: log.addresses. */
enum address_detail {
    ADDRESS_FULL,
    ADDRESS_PREFIX,
    ADDRESS_NONE,
};

/* Room for the longest text that address_format and prefix_format write, with its NUL. */
#define ADDRESS_TEXT_SIZE 80

/* Numeric only, never a host name: no look-up can block a start. "fe80::1%eth0" and "fe80::1%2" take their
 * scope from the interface; a link-local address may go without one (scope 0), no other address may have one.
 * "::ffff:192.0.2.1" is IPv4. Returns 0, or -EINVAL with *out untouched. */
int address_parse(const char *text, uint16_t port, struct address *out);

/* As accept4(2) or getsockname(2) filled it in. */
void address_from_sockaddr(const struct sockaddr *sockaddr, struct address *out);

/* Returns the length to give to bind(2) or connect(2). AF_INET and AF_INET6 only (asserted). */
socklen_t address_to_sockaddr(const struct address *address, struct sockaddr_storage *out);

/* "192.0.2.1:7", "[2001:db8::1]:7", "[fe80::1%eth0]:7" (the interface's number once it has no name), "unix";
 * with ADDRESS_PREFIX the network alone ("192.0.2.0/24", "2001:db8::/48"), with ADDRESS_NONE "-". Returns
 * `out`. */
const char *address_format(const struct address *address, enum address_detail detail,
                           char out[static ADDRESS_TEXT_SIZE]);

/* The address alone: "192.0.2.1", "2001:db8::1", "fe80::1%eth0". AF_INET and AF_INET6 only. Returns `out`. */
const char *address_format_ip(const struct address *address, char out[static ADDRESS_TEXT_SIZE]);

/* Family, bytes and scope; the port does not count. */
bool address_equal_ip(const struct address *a, const struct address *b);
bool address_is_any(const struct address *address);       /* 0.0.0.0 or :: */
bool address_is_loopback(const struct address *address);  /* 127.0.0.0/8 or ::1 */
bool address_is_multicast(const struct address *address); /* 224.0.0.0/4 or ff00::/8 */
bool address_is_broadcast(const struct address *address); /* 255.255.255.255 */
/* fe80::/10, and the multicast addresses of a link (RFC 4291, 2.5.6 and 2.7). */
bool address_is_link_local(const struct address *address);

/* Clears all bits after the first `bits` (more than the family has: all stay), and the port: what two clients
 * of one network share. The scope goes with the first bit: a whole link-local address keeps it, since it
 * means nothing without (RFC 4007, 6). */
void address_mask(struct address *address, unsigned bits);

/* "10.0.0.0/8", "2001:db8::/32", or an address alone, which means all its bits. No scope: a list of networks
 * holds on every interface. "::ffff:10.0.0.0/104" is 10.0.0.0/8. Returns 0; -EINVAL: not CIDR; -EDOM: bits
 * are set after the prefix length (10.0.0.1/8), so the writer meant something else. *out is untouched on
 * failure. */
int prefix_parse(const char *text, struct prefix *out);

/* "10.0.0.0/8". Returns `out`. */
const char *prefix_format(const struct prefix *prefix, char out[static ADDRESS_TEXT_SIZE]);

/* Only within a family: "::/0" is every IPv6 address and no IPv4 one. */
bool prefix_contains(const struct prefix *prefix, const struct address *address);
bool prefix_list_contains(const struct prefix_list *list, const struct address *address);

/* Returns 0 with *to, which was empty, owned by the caller; or -ENOMEM. */
int prefix_list_copy(struct prefix_list *to, const struct prefix_list *from);
void prefix_list_clear(struct prefix_list *list); /* also for CLEANUP() */
