#include "base/proxy_header.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* "PROXY TCP6 ", two addresses of 39 characters, two ports, three spaces, CR LF and a NUL. */
static_assert(PROXY_HEADER_WRITE_SIZE >= 11 + 2 * 39 + 2 * 5 + 3 + 2 + 1, "a line fits");

static bool is_ip(const struct address *address)
{
    return address->family == AF_INET || address->family == AF_INET6;
}

/* RFC 4291, 2.5.5.2. */
static struct in6_addr mapped(const struct address *address)
{
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    if (address->family == AF_INET)
        memcpy(&ip.s6_addr[12], address->ip, 4);
    else
        memcpy(&ip, address->ip, sizeof ip);
    return ip;
}

static void format(const struct address *address, bool is_v6, char out[static INET6_ADDRSTRLEN])
{
    struct in6_addr ip = mapped(address);
    inet_ntop(is_v6 ? AF_INET6 : AF_INET, is_v6 ? (const void *)&ip : address->ip, out, INET6_ADDRSTRLEN);
}

static size_t write_v1(const struct address *source, const struct address *destination, bool is_v6,
                       uint8_t *out)
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    format(source, is_v6, from);
    format(destination, is_v6, to);
    return (size_t)snprintf((char *)out, PROXY_HEADER_WRITE_SIZE, "PROXY %s %s %s %u %u\r\n",
                            is_v6 ? "TCP6" : "TCP4", from, to, source->port, destination->port);
}

static uint8_t *put(uint8_t *out, const void *bytes, size_t length)
{
    memcpy(out, bytes, length);
    return out + length;
}

static uint8_t *put_ip(uint8_t *out, const struct address *address, bool is_v6)
{
    struct in6_addr ip = mapped(address);
    return is_v6 ? put(out, &ip, sizeof ip) : put(out, address->ip, 4);
}

static uint8_t *put_u16(uint8_t *out, uint16_t number)
{
    const uint16_t big_endian = htons(number);
    return put(out, &big_endian, sizeof big_endian);
}

static size_t write_v2(const struct address *source, const struct address *destination, bool is_v6,
                       uint8_t *out)
{
    const uint8_t begin[] = {0x21 /* PROXY */, is_v6 ? 0x21 : 0x11 /* TCP */, 0, is_v6 ? 36 : 12};
    uint8_t *end = put(out, PROXY_HEADER_SIGNATURE, sizeof PROXY_HEADER_SIGNATURE - 1);
    end = put(end, begin, sizeof begin);
    end = put_ip(end, source, is_v6);
    end = put_ip(end, destination, is_v6);
    end = put_u16(end, source->port);
    end = put_u16(end, destination->port);
    return (size_t)(end - out);
}

size_t proxy_header_write(unsigned version, const struct address *source, const struct address *destination,
                          uint8_t out[static PROXY_HEADER_WRITE_SIZE])
{
    static const char unknown[] = "PROXY UNKNOWN\r\n", local[] = PROXY_HEADER_SIGNATURE "\x20\0\0\0";
    if (!is_ip(source) || !is_ip(destination)) {
        if (version == 1)
            return (size_t)(put(out, unknown, sizeof unknown - 1) - out);
        return (size_t)(put(out, local, sizeof local - 1) - out);
    }
    bool is_v6 = source->family == AF_INET6 || destination->family == AF_INET6;
    return version == 1 ? write_v1(source, destination, is_v6, out)
                        : write_v2(source, destination, is_v6, out);
}
