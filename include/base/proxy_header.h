/* The header of the PROXY protocol, versions 1 and 2, with which a proxy says whose connection it relays:
 * https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, "the document" in what follows. Reading it is
 * a function of the bytes that have arrived so far; nothing is kept between calls. Pure; any thread.
 *
 * Nothing is guessed, and nothing is taken for a header that is not one to the letter. Where the document
 * leaves a choice:
 *
 * - A header of the greatest length, 65,551 bytes, is taken, and TLVs are looked at when it is whole: a
 *   checksum counts every byte, and so the work does not grow with the number of pieces that it comes in. The
 *   reader of a connection needs room for `length` bytes, which is known after 16 and is hardly ever more
 *   than 300, until then. No byte of that may be data: it can receive exactly so many, and has nothing to
 *   give back.
 * - What is wrong with the first 16 bytes is said as soon as it is there, what is wrong with a field of
 *   version 1 once the character after it is.
 * - LOCAL and an unspecified family or protocol leave the addresses of the connection itself in force. What
 *   follows LOCAL is skipped, whatever it is, the checksum too: the document says that it is to be discarded.
 *   PROXY has TLVs also then, after the addresses of its family, of which an unspecified one has none.
 * - Addresses are believed as they are. A datagram protocol is read like a stream's: a proxy may take
 *   datagrams and relay them by a stream. A source need not be an address that a client can have (multicast,
 *   0.0.0.0): who may send a header is asked elsewhere.
 * - Of a TLV that comes twice the first counts. Two checksums are an error: each would have to be zero for
 *   the other. Types without a meaning here (NOOP, NETNS, the unknown ones) are skipped. */
#pragma once

#include "base/address.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_HEADER_SIGNATURE "\r\n\r\n\0\r\nQUIT\n" /* of version 2, without its NUL */
#define PROXY_HEADER_V1_MAX ((size_t)107)             /* with its CRLF */
#define PROXY_HEADER_V2_MAX ((size_t)16 + UINT16_MAX)

enum proxy_header_state {
    PROXY_HEADER_INCOMPLETE,
    PROXY_HEADER_COMPLETE,
    PROXY_HEADER_MALFORMED,
};

struct proxy_endpoint {
    struct address address; /* AF_INET, AF_INET6 or AF_UNIX */
    struct span path;       /* AF_UNIX: as in unix(7), a NUL before an abstract one; empty: unnamed */
};

/* All spans are parts of the bytes that were parsed. They are a stranger's: any bytes, of any length that
 * fits, and `bytes` is NULL where there was none. */
struct proxy_header {
    /* INCOMPLETE: at least so many bytes are the header's, more than there are. COMPLETE: so many are; data
     * follows. */
    size_t length;
    const char *error; /* MALFORMED: what is wrong with it, for a log: "no PROXY protocol header" */

    /* The rest: COMPLETE only. */
    unsigned version; /* 1 or 2 */
    bool is_local;    /* version 2: the proxy speaks for itself, as in a health check */
    bool is_relayed;  /* source and destination are known; else the connection's own are in force */
    struct proxy_endpoint source, destination;
    struct span alpn, authority;
    struct span unique_id; /* at most 128 bytes */
    bool has_checksum;     /* and it is right */
    bool has_tls;          /* an SSL TLV has come: */
    uint8_t tls_client;    /* bits of enum proxy_tls_client */
    uint32_t tls_verify;   /* 0: the client's certificate was verified */
    struct span tls_version, tls_common_name;
};

enum proxy_tls_client {
    PROXY_TLS_CLIENT = 1,       /* the client speaks TLS */
    PROXY_TLS_CERTIFICATE = 2,  /* it has shown a certificate in this connection, */
    PROXY_TLS_SESSION_CERT = 4, /* or in the TLS session that this one belongs to */
};

/* Sets all of *out. What is INCOMPLETE may become either of the others with more bytes; those stay. */
enum proxy_header_state proxy_header_parse(struct span bytes, struct proxy_header *out);

/* Room for whatever proxy_header_write makes. */
#define PROXY_HEADER_WRITE_SIZE 108

/* The header of a connection from `source` to `destination`, without TLVs; of two families, IPv4 becomes
 * ::ffff:a.b.c.d. Where one has no address (AF_UNIX), it is UNKNOWN in version 1 and LOCAL in version 2.
 * Returns its length. */
size_t proxy_header_write(unsigned version, const struct address *source, const struct address *destination,
                          uint8_t out[static PROXY_HEADER_WRITE_SIZE]);
