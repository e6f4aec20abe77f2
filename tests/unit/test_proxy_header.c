#include "base/proxy_header.h"

#include "base/crc32c.h"
#include "common.h"

#include <assert.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_PROXY SIGNATURE "\x21"
#define V2_LOCAL SIGNATURE "\x20"

/* A string may hold NULs. */
#define BYTES(text) {(const uint8_t *)(text), sizeof(text) - 1}

/* A header as it is, and one of version 2 whose length comes between its first 14 bytes and the rest. */
#define AS_IS(text) BYTES(text), {NULL, 0}
#define V2(begin, rest) BYTES(begin), BYTES(rest)

/* From 192.0.2.1:56324 to 192.0.2.2:443, and 2001:db8::1 to 2001:db8::2 likewise. */
#define IPV4 "\xc0\0\2\1\xc0\0\2\2\xdc\4\1\xbb"
#define NET6 "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
#define IPV6 NET6 "\1" NET6 "\2\xdc\4\1\xbb"
/* 108 bytes: /run/client and 97 NULs; "@abstract"; nothing. */
#define NUL16 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define NUL96 NUL16 NUL16 NUL16 NUL16 NUL16 NUL16
#define UNIX_PATH "/run/client\0" NUL96
#define UNIX_ABSTRACT "\0abstract\0\0\0" NUL96
#define UNIX_UNNAMED NUL96 "\0\0\0\0\0\0\0\0\0\0\0\0"
#define UNIX_WITH_REST "/run/server\0" NUL16 NUL16 NUL16 NUL16 NUL16 "\0\0\0\0an older one"
#define CHARS27 "abcdefghijklmnopqrstuvwxyz/"
#define UNIX_LONGEST CHARS27 CHARS27 CHARS27 CHARS27

#define FFFF "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static_assert(sizeof UNIX_PATH == 109 && sizeof UNIX_ABSTRACT == 109 && sizeof UNIX_UNNAMED == 109 &&
                  sizeof UNIX_WITH_REST == 109 && sizeof UNIX_LONGEST == 109,
              "the field's length");

/* In memory of its own, so that a sanitizer sees any look beyond the end. */
static enum proxy_header_state parse(struct span bytes, struct proxy_header *out)
{
    static uint8_t *copy;
    free(copy);
    copy = malloc(bytes.length > 0 ? bytes.length : 1);
    ck_assert_ptr_nonnull(copy);
    if (bytes.length > 0)
        memcpy(copy, bytes.bytes, bytes.length);
    return proxy_header_parse((struct span){copy, bytes.length}, out);
}

/* What a header says, as one text. */
static const char *describe(const struct proxy_header *header)
{
    static char text[1024];
    char from[ADDRESS_TEXT_SIZE], to[ADDRESS_TEXT_SIZE];
    size_t at = (size_t)snprintf(text, sizeof text, "%u %s", header->version,
                                 header->is_local     ? "local"
                                 : header->is_relayed ? "relayed"
                                                      : "unknown");
    const struct {
        const char *name;
        struct span value;
    } values[] = {
        {"from", header->source.path},    {"to", header->destination.path}, {"alpn", header->alpn},
        {"authority", header->authority}, {"id", header->unique_id},        {"version", header->tls_version},
        {"cn", header->tls_common_name},
    };
    if (header->is_relayed)
        at += (size_t)snprintf(text + at, sizeof text - at, " %s %s",
                               address_format(&header->source.address, ADDRESS_FULL, from),
                               address_format(&header->destination.address, ADDRESS_FULL, to));
    if (header->has_checksum)
        at += (size_t)snprintf(text + at, sizeof text - at, " checksum");
    if (header->has_tls)
        at += (size_t)snprintf(text + at, sizeof text - at, " tls %u %u", header->tls_client,
                               header->tls_verify);
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct span value = values[i].value;
        if (!value.bytes)
            continue;
        at += (size_t)snprintf(text + at, sizeof text - at, " %s=", values[i].name);
        for (size_t j = 0; j < value.length; j++)
            text[at++] = (char)(value.bytes[j] ? value.bytes[j] : '@');
        text[at] = '\0';
    }
    return text;
}

static const struct {
    struct span begin, rest;
    const char *expected;
} good[] = {
    /* The document's own examples. */
    {AS_IS("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
     "1 relayed 192.168.0.1:56324 192.168.0.11:443"},
    {AS_IS("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
     "1 relayed 255.255.255.255:65535 255.255.255.255:65535"},
    {AS_IS("PROXY TCP6 " FFFF " " FFFF " 65535 65535\r\n"), "1 relayed [" FFFF "]:65535 [" FFFF "]:65535"},
    {AS_IS("PROXY UNKNOWN\r\n"), "1 unknown"},
    {AS_IS("PROXY UNKNOWN " FFFF " " FFFF " 65535 65535\r\n"), "1 unknown"},
    /* The shortest of each kind, and other ways to write an address. */
    {AS_IS("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "1 relayed 0.0.0.0:0 0.0.0.0:0"},
    {AS_IS("PROXY TCP6 :: :: 0 0\r\n"), "1 relayed [::]:0 [::]:0"},
    {AS_IS("PROXY TCP6 2001:DB8::1 2001:db8:0:0::2 1 2\r\n"), "1 relayed [2001:db8::1]:1 [2001:db8::2]:2"},
    {AS_IS("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"), "1 relayed 192.0.2.1:1 [2001:db8::2]:2"},
    {AS_IS("PROXY TCP6 ::192.0.2.1 fe80::1 1 2\r\n"), "1 relayed [::192.0.2.1]:1 [fe80::1]:2"},
    {AS_IS("PROXY TCP6 0:0:0:0:0:FFFF:255.255.255.255 0000:0000:0000:0000:0000:ffff:192.168.100.200 1 2\r\n"),
     "1 relayed 255.255.255.255:1 192.168.100.200:2"},
    /* Whatever stands in an unknown line. */
    {AS_IS("PROXY UNKNOWN \r\n"), "1 unknown"},
    {AS_IS("PROXY UNKNOWN\r \n\r\r\n"), "1 unknown"},
    {AS_IS("PROXY UNKNOWN \0\xff\r\n"), "1 unknown"},
    /* Out of HAProxy's tests. */
    {AS_IS(V2_PROXY "\x11\0\x14\x7f\0\0\1\x7f\0\0\1\0\x2a\5\x39\2\0\5"
                    "12345"),
     "2 relayed 127.0.0.1:42 127.0.0.1:1337 authority=12345"},

    {V2(V2_PROXY "\x11", IPV4), "2 relayed 192.0.2.1:56324 192.0.2.2:443"},
    {V2(V2_PROXY "\x12", IPV4), "2 relayed 192.0.2.1:56324 192.0.2.2:443"},
    {V2(V2_PROXY "\x21", IPV6), "2 relayed [2001:db8::1]:56324 [2001:db8::2]:443"},
    {V2(V2_PROXY "\x22", IPV6), "2 relayed [2001:db8::1]:56324 [2001:db8::2]:443"},
    {V2(V2_PROXY "\x21", "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1" NET6 "\2\xdc\4\1\xbb"),
     "2 relayed 192.0.2.1:56324 [2001:db8::2]:443"},
    {V2(V2_PROXY "\x31", UNIX_PATH UNIX_WITH_REST), "2 relayed unix unix from=/run/client to=/run/server"},
    {V2(V2_PROXY "\x32", UNIX_UNNAMED UNIX_ABSTRACT), "2 relayed unix unix from= to=@abstract"},
    {V2(V2_PROXY "\x31", UNIX_LONGEST UNIX_PATH),
     "2 relayed unix unix from=" CHARS27 CHARS27 CHARS27 CHARS27 " to=/run/client"},
    {V2(V2_PROXY "\x31", UNIX_UNNAMED UNIX_UNNAMED "\2\0\1a"), "2 relayed unix unix from= to= authority=a"},
    /* Addresses that no client has. */
    {V2(V2_PROXY "\x11", "\xe0\0\0\1\xff\xff\xff\xff\xdc\4\1\xbb"),
     "2 relayed 224.0.0.1:56324 255.255.255.255:443"},
    /* LOCAL, of any family: the rest is skipped, whatever it is. */
    {V2(V2_LOCAL "\0", ""), "2 local"},
    {V2(V2_LOCAL "\x11", IPV4), "2 local"},
    {V2(V2_LOCAL "\xff", "xx"), "2 local"},
    {V2(V2_LOCAL "\0", "\3\0\4nope"), "2 local"},
    /* What is not specified: no addresses, or none that count, and then TLVs. */
    {V2(V2_PROXY "\0", ""), "2 unknown"},
    {V2(V2_PROXY "\1", ""), "2 unknown"},
    {V2(V2_PROXY "\2", "\4\0\1x"), "2 unknown"},
    {V2(V2_PROXY "\0", "\2\0\1a\3\0\4\x21\x57\x53\x87"), "2 unknown checksum authority=a"},
    {V2(V2_PROXY "\x10", IPV4 "\2\0\1a"), "2 unknown authority=a"},
    {V2(V2_PROXY "\x30", UNIX_PATH UNIX_PATH), "2 unknown"},

    /* TLVs */
    {V2(V2_PROXY "\x11", IPV4 "\1\0\5h2\0\1\2"), "2 relayed 192.0.2.1:56324 192.0.2.2:443 alpn=h2@\1\2"},
    {V2(V2_PROXY "\x21", IPV6 "\2\0\x0b"
                              "example.org"),
     "2 relayed [2001:db8::1]:56324 [2001:db8::2]:443 authority=example.org"},
    {V2(V2_PROXY "\x11", IPV4 "\5\0\0\4\0\0"), "2 relayed 192.0.2.1:56324 192.0.2.2:443 id="},
    {V2(V2_PROXY "\x11", IPV4 "\5\0\x80" CHARS27 CHARS27 CHARS27 CHARS27 "01234567890123456789"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 id=" CHARS27 CHARS27 CHARS27 CHARS27 "01234567890123456789"},
    /* What has no meaning here: NOOP, NETNS, types of applications, of experiments and of the future. */
    {V2(V2_PROXY "\x11", IPV4 "\4\0\3abc\x30\0\4blue\xe0\0\1x\xf0\0\0\xff\0\1y\x21\0\1z"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443"},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\5\1\0\0\0\0"), "2 relayed 192.0.2.1:56324 192.0.2.2:443 tls 1 0"},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\x22\7\0\0\0\x12\x21\0\7TLSv1.3\x23\0\2xx\x22\0\5"
                              "alice\x26\0\0\x23\0\0"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 tls 7 18 version=TLSv1.3 cn=alice"},
    /* The first counts. */
    {V2(V2_PROXY "\x11", IPV4 "\2\0\1a\2\0\1b\2\0\1c"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 authority=a"},
    {V2(V2_PROXY "\x11", IPV4 "\2\0\0\2\0\1b"), "2 relayed 192.0.2.1:56324 192.0.2.2:443 authority="},
    {V2(V2_PROXY "\x11", IPV4 "\1\0\1a\1\0\1b\5\0\1x\5\0\1y"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 alpn=a id=x"},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\5\1\0\0\0\0\x20\0\x9\2\0\0\0\1\x21\0\1b"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 tls 1 0"},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\x0d\1\0\0\0\0\x21\0\1a\x21\0\1b"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 tls 1 0 version=a"},
    /* Checksums. */
    {V2(V2_PROXY "\x11", IPV4 "\3\0\4\xd6\xc8\xc7\x5f"), "2 relayed 192.0.2.1:56324 192.0.2.2:443 checksum"},
    {V2(V2_PROXY "\x11", IPV4 "\5\0\7id-0001\3\0\4\x0c\xb5\x19\xfb\4\0\1x"),
     "2 relayed 192.0.2.1:56324 192.0.2.2:443 checksum id=id-0001"},
};

#define NO_HEADER "no PROXY protocol header"
#define NO_PROTOCOL "neither TCP4, TCP6 nor UNKNOWN"
#define TOO_LONG "a line of more than 107 bytes"
#define NO_CRLF "a line that does not end with CR LF"
#define SOURCE "a bad source address"
#define DESTINATION "a bad destination address"
#define SOURCE_PORT "a bad source port"
#define DESTINATION_PORT "a bad destination port"
#define TLV_TOO_LONG "a TLV that ends after the header"
#define TLS_TOO_LONG "an SSL TLV whose parts are longer than itself"
#define TOO_SHORT "a header that is too short for its addresses"

/* `certain`: after how many bytes it can only be wrong; 0: with the last. */
static const struct {
    struct span begin, rest;
    size_t certain;
    const char *error;
} bad[] = {
    /* Other protocols. */
    {AS_IS("GET / HTTP/1.1\r\n"), 1, NO_HEADER},
    {AS_IS("\x16\x03\x01\x02\0"), 1, NO_HEADER},
    {AS_IS("\n"), 1, NO_HEADER},
    {AS_IS("\0"), 1, NO_HEADER},
    {AS_IS("POST / HTTP/1.1\r\n"), 2, NO_HEADER},
    {AS_IS("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), 1, NO_HEADER},
    {AS_IS(" PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), 1, NO_HEADER},
    {AS_IS("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n"), 6, NO_HEADER},
    {AS_IS("PROXY\r\n"), 6, NO_HEADER},
    {AS_IS("\r\n\r\n\0\r\nQUIT\r"), 12, NO_HEADER},
    {AS_IS("\r\n\r\n\r\n"), 5, NO_HEADER},

    {AS_IS("PROXY \r\n"), 7, NO_PROTOCOL},
    {AS_IS("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), 7, NO_PROTOCOL},
    {AS_IS("PROXY TCP 1.2.3.4 1.2.3.4 1 2\r\n"), 10, NO_PROTOCOL},
    {AS_IS("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), 10, NO_PROTOCOL},
    {AS_IS("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n"), 7, NO_PROTOCOL},
    {AS_IS("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), 8, NO_PROTOCOL},
    {AS_IS("PROXY TCP4\r\n"), 11, NO_PROTOCOL},
    {AS_IS("PROXY UNKNOWN_\r\n"), 14, NO_PROTOCOL},
    {AS_IS("PROXY UNKNOWN\n"), 14, NO_PROTOCOL},
    {AS_IS("PROXY UNIX\r\n"), 9, NO_PROTOCOL},

    {AS_IS("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), 12, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), 17, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n"), 21, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"), 21, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 1..2.3.4 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 .1.2.3.4 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4. 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 16909060 1.2.3.4 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP4 -1.2.3.4 1.2.3.4 1 2\r\n"), 12, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.0x4 1.2.3.4 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP4 localhost 1.2.3.4 1 2\r\n"), 12, SOURCE},
    {AS_IS("PROXY TCP4 ::1 ::1 1 2\r\n"), 12, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP4 1.2.3.4\n"), 19, NO_CRLF},
    {AS_IS("PROXY TCP4 111.111.111.1111"), 27, SOURCE},
    {AS_IS("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP6 fe80::1%1 ::1 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP6 [::1] ::1 1 2\r\n"), 12, SOURCE},
    {AS_IS("PROXY TCP6 1::2::3 ::1 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n"), 25, SOURCE},
    {AS_IS("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n"), 29, SOURCE},
    {AS_IS("PROXY TCP6 12345::1 ::1 1 2\r\n"), 20, SOURCE},
    {AS_IS("PROXY TCP6 ::1.2.3 ::1 1 2\r\n"), 19, SOURCE},
    {AS_IS("PROXY TCP6 " FFFF ":ffff:ff"), 57, SOURCE},

    {AS_IS("PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n"), 20, DESTINATION},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n"), 25, DESTINATION},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4\r\n"), 27, DESTINATION},
    {AS_IS("PROXY TCP4 1.2.3.4 ::1 1 2\r\n"), 20, DESTINATION},
    {AS_IS("PROXY TCP6 ::1 1.2.3.4 1 2\r\n"), 23, DESTINATION},
    {AS_IS("PROXY TCP6 ::1 ::g 1 2\r\n"), 18, DESTINATION},
    {AS_IS("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.25 " FFFF ":ffff:f"), 102, DESTINATION},
    {AS_IS("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255 "
           "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255 1 2\r\n"),
     102, TOO_LONG},

    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n"), 28, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"), 33, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), 30, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), 28, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"), 28, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 http 2\r\n"), 28, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 123456"), 33, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), 29, SOURCE_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n"), 30, DESTINATION_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), 31, DESTINATION_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), 31, DESTINATION_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n"), 35, DESTINATION_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n"), 32, DESTINATION_PORT},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), 31, NO_CRLF},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n"), 32, NO_CRLF},
    {AS_IS("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx"), 32, NO_CRLF},

    {AS_IS("PROXY UNKNOWN " FFFF " " FFFF " 65535 65535 \r\n"), 106, TOO_LONG},
    {AS_IS("PROXY UNKNOWN " FFFF " " FFFF " 65535 65535\r\r\n"), 107, TOO_LONG},

    {AS_IS(SIGNATURE "\x11\x11\0\0"), 13, "a version other than 2 after its signature"},
    {AS_IS(SIGNATURE "\x31\x11\0\0"), 13, "a version other than 2 after its signature"},
    {AS_IS(SIGNATURE "\x01\x11\0\0"), 13, "a version other than 2 after its signature"},
    {AS_IS(SIGNATURE "\x22\x11\0\0"), 13, "neither LOCAL nor PROXY"},
    {AS_IS(SIGNATURE "\x2f\x11\0\0"), 13, "neither LOCAL nor PROXY"},
    {V2(V2_PROXY "\x41", IPV4), 14, "an unknown address family"},
    {V2(V2_PROXY "\xf0", IPV4), 14, "an unknown address family"},
    {V2(V2_PROXY "\x13", IPV4), 14, "an unknown transport protocol"},
    {V2(V2_PROXY "\x0f", IPV4), 14, "an unknown transport protocol"},
    {V2(V2_PROXY "\x11", ""), 16, TOO_SHORT},
    {V2(V2_PROXY "\x11", "\xc0\0\2\1\xc0\0\2\2\xdc\4\1"), 16, TOO_SHORT},
    {V2(V2_PROXY "\x21", IPV4), 16, TOO_SHORT},
    {V2(V2_PROXY "\x22", IPV4 IPV4 "\0\0\0\0\0\0\0\0\0\0\0"), 16, TOO_SHORT},
    {V2(V2_PROXY "\x31", UNIX_PATH), 16, TOO_SHORT},
    {V2(V2_PROXY "\x10", ""), 16, TOO_SHORT},

    {V2(V2_PROXY "\x11", IPV4 "\4"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\4\0"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\4\0\1"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\4\xff\xff" CHARS27), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\4\0\2ab\4"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x21", IPV6 "\4\0\2ab\4\0\3ab"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\0", "\4"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\2", "\4\0\2a"), 0, TLV_TOO_LONG},
    {V2(V2_PROXY "\x10", IPV4 "\4\0\1"), 0, TLV_TOO_LONG},
    /* Out of HAProxy's tests. */
    {AS_IS(V2_PROXY "\x11\0\x14\x7f\0\0\1\x7f\0\0\1\0\x2a\5\x39\2\0\x0a"
                    "1234512345"),
     36, TLV_TOO_LONG},
    {AS_IS(V2_PROXY "\x11\0\x14\x7f\0\0\1\x7f\0\0\1\0\x2a\5\x39\2\0\4"
                    "1234\r"),
     36, TLV_TOO_LONG},

    {V2(V2_PROXY "\x11", IPV4 "\5\0\x81" CHARS27 CHARS27 CHARS27 CHARS27 "012345678901234567890"), 0,
     "a unique id of more than 128 bytes"},
    {V2(V2_PROXY "\x11", IPV4 "\3\0\3abc"), 0, "a checksum that is not 4 bytes long"},
    {V2(V2_PROXY "\x11", IPV4 "\3\0\5abcde"), 0, "a checksum that is not 4 bytes long"},
    {V2(V2_PROXY "\x11", IPV4 "\3\0\0"), 0, "a checksum that is not 4 bytes long"},
    {V2(V2_PROXY "\x11", IPV4 "\3\0\4\0\0\0\0\3\0\4\0\0\0\0"), 0, "two checksums"},
    {V2(V2_PROXY "\x11", IPV4 "\3\0\4\0\0\0\0"), 0, "a wrong checksum"},
    {V2(V2_PROXY "\0", "\3\0\4\0\0\0\0"), 0, "a wrong checksum"},
    {V2(V2_PROXY "\x10", IPV4 "\3\0\4\0\0\0\0"), 0, "a wrong checksum"},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\0"), 0, TLS_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\4\1\0\0\0"), 0, TLS_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\6\1\0\0\0\0\x21"), 0, TLS_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\7\1\0\0\0\0\x21\0"), 0, TLS_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\x8\1\0\0\0\0\x21\0\1"
                              "\4\0\0"),
     0, TLS_TOO_LONG},
    {V2(V2_PROXY "\x11", IPV4 "\x20\0\x5\1\0\0\0\0\x20\0\x8\1\0\0\0\0\x21\0\1"), 0, TLS_TOO_LONG},
};

/* The header of a row, followed by `more` bytes of data. */
static struct span make(struct span begin, struct span rest, size_t more)
{
    static uint8_t bytes[1024];
    size_t length = begin.length;
    memcpy(bytes, begin.bytes, begin.length);
    if (rest.bytes) {
        bytes[length++] = (uint8_t)(rest.length >> 8);
        bytes[length++] = (uint8_t)rest.length;
        memcpy(bytes + length, rest.bytes, rest.length);
        length += rest.length;
    }
    memset(bytes + length, '\n', more);
    return (struct span){bytes, length + more};
}

TEST_EACH(complete, good)
{
    struct proxy_header header;
    struct span bytes = make(c->begin, c->rest, 0);
    ck_assert_int_eq(parse(bytes, &header), PROXY_HEADER_COMPLETE);
    ck_assert_uint_eq(header.length, bytes.length);
    ck_assert_str_eq(describe(&header), c->expected);
}

TEST_EACH(data_follows, good)
{
    struct proxy_header header;
    struct span bytes = make(c->begin, c->rest, 200);
    ck_assert_int_eq(parse(bytes, &header), PROXY_HEADER_COMPLETE);
    ck_assert_uint_eq(header.length, bytes.length - 200);
    ck_assert_str_eq(describe(&header), c->expected);
}

/* Cut anywhere, it wants more, and never more than it has. */
TEST_EACH(cut, good)
{
    struct proxy_header header;
    struct span bytes = make(c->begin, c->rest, 0);
    for (size_t cut = 0; cut < bytes.length; cut++) {
        ck_assert_int_eq(parse(span_first(bytes, cut), &header), PROXY_HEADER_INCOMPLETE);
        ck_assert_uint_gt(header.length, cut);
        ck_assert_uint_le(header.length, bytes.length);
    }
}

/* Whoever receives as many bytes as it wants has the header and none of the data. */
TEST_EACH(as_many_as_wanted, good)
{
    struct proxy_header header;
    struct span bytes = make(c->begin, c->rest, 200);
    size_t have = 0;
    unsigned turns = 0;
    while (parse(span_first(bytes, have), &header) == PROXY_HEADER_INCOMPLETE) {
        have = header.length;
        turns++;
    }
    ck_assert_uint_eq(header.length, have);
    ck_assert_uint_eq(have, bytes.length - 200);
    ck_assert_uint_le(turns, c->rest.bytes ? 3 : 50);
}

TEST_EACH(malformed, bad)
{
    struct proxy_header header;
    struct span bytes = make(c->begin, c->rest, 0);
    size_t certain = c->certain > 0 ? c->certain : bytes.length;
    ck_assert_uint_le(certain, bytes.length);
    for (size_t cut = 0; cut < certain; cut++)
        ck_assert_msg(parse(span_first(bytes, cut), &header) == PROXY_HEADER_INCOMPLETE &&
                          header.length > cut,
                      "after %zu bytes: %s", cut, header.error);
    for (size_t cut = certain; cut <= bytes.length; cut++) {
        ck_assert_msg(parse(span_first(bytes, cut), &header) == PROXY_HEADER_MALFORMED, "not after %zu bytes",
                      cut);
        ck_assert_str_eq(header.error, c->error);
    }
}

/* Of a byte that is not the version's, the command's or the length's each bit counts. */
TEST(checksum_covers_every_byte)
{
    struct proxy_header header;
    struct span row =
        make((struct span)BYTES(V2_PROXY "\x11"), (struct span)BYTES(IPV4 "\3\0\4\0\0\0\0\4\0\2ab"), 0);
    uint8_t bytes[64];
    ck_assert_uint_le(row.length, sizeof bytes);
    memcpy(bytes, row.bytes, row.length);
    uint32_t crc = crc32c(0, row);
    for (unsigned i = 0; i < 4; i++)
        bytes[31 + i] = (uint8_t)(crc >> (24 - 8 * i));
    ck_assert_int_eq(parse((struct span){bytes, row.length}, &header), PROXY_HEADER_COMPLETE);
    for (size_t bit = 16 * 8; bit < row.length * 8; bit++) {
        if (bit / 8 >= 28 && bit / 8 < 31) /* it would not be a checksum any more */
            continue;
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(parse((struct span){bytes, row.length}, &header), PROXY_HEADER_MALFORMED);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Of the greatest length: one TLV, and as many as there can be. */
static void fill_longest(uint8_t *bytes, size_t tlv)
{
    memset(bytes, 0, PROXY_HEADER_V2_MAX);
    memcpy(bytes, V2_PROXY "\x11\xff\xff" IPV4, 28);
    for (size_t at = 28; at < PROXY_HEADER_V2_MAX;) {
        size_t rest = PROXY_HEADER_V2_MAX - at;
        size_t size = rest < 2 * tlv ? rest : tlv;
        bytes[at] = 4;
        bytes[at + 1] = (uint8_t)((size - 3) >> 8);
        bytes[at + 2] = (uint8_t)(size - 3);
        at += size;
    }
}

TEST_TIMES(longest, 2)
{
    static uint8_t bytes[PROXY_HEADER_V2_MAX + 1];
    struct proxy_header header;
    fill_longest(bytes, variant == 0 ? 3 : PROXY_HEADER_V2_MAX);
    /* In place: copies would take a while. */
    for (size_t cut = 0; cut < PROXY_HEADER_V2_MAX;
         cut += cut < 100 || cut > PROXY_HEADER_V2_MAX - 100 ? 1 : 100) {
        ck_assert_int_eq(proxy_header_parse((struct span){bytes, cut}, &header), PROXY_HEADER_INCOMPLETE);
        ck_assert_uint_eq(header.length, cut == 0 ? 15 : cut < 16 ? 16 : PROXY_HEADER_V2_MAX);
    }
    ck_assert_int_eq(proxy_header_parse((struct span){bytes, sizeof bytes}, &header), PROXY_HEADER_COMPLETE);
    ck_assert_uint_eq(header.length, PROXY_HEADER_V2_MAX);
}

static struct address ip(const char *text, uint16_t port)
{
    struct address address;
    ck_assert_int_eq(address_parse(text, port, &address), 0);
    return address;
}

static const struct {
    const char *from, *to; /* NULL: a Unix client */
    uint16_t from_port, to_port;
    const char *v1;
    struct span v2, rest;
    const char *both;
} written[] = {
    {"192.0.2.1", "192.0.2.2", 56324, 443, "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
     V2(V2_PROXY "\x11", IPV4), "relayed 192.0.2.1:56324 192.0.2.2:443"},
    {"2001:db8::1", "2001:db8::2", 56324, 443, "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n",
     V2(V2_PROXY "\x21", IPV6), "relayed [2001:db8::1]:56324 [2001:db8::2]:443"},
    {"192.0.2.1", "2001:db8::2", 56324, 443, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 443\r\n",
     V2(V2_PROXY "\x21", "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1" NET6 "\2\xdc\4\1\xbb"),
     "relayed 192.0.2.1:56324 [2001:db8::2]:443"},
    {FFFF, FFFF, 65535, 65535, "PROXY TCP6 " FFFF " " FFFF " 65535 65535\r\n",
     V2(V2_PROXY "\x21", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                         "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
     "relayed [" FFFF "]:65535 [" FFFF "]:65535"},
    {NULL, "192.0.2.2", 0, 443, "PROXY UNKNOWN\r\n", V2(V2_LOCAL "\0", ""), NULL},
    {"192.0.2.2", NULL, 443, 0, "PROXY UNKNOWN\r\n", V2(V2_LOCAL "\0", ""), NULL},
};

static void check_written(unsigned version, const struct address *from, const struct address *to,
                          struct span expected, const char *described)
{
    struct proxy_header header;
    uint8_t *out = malloc(PROXY_HEADER_WRITE_SIZE);
    char text[128];
    ck_assert_ptr_nonnull(out);
    size_t length = proxy_header_write(version, from, to, out);
    ck_assert_uint_eq(length, expected.length);
    ck_assert_mem_eq(out, expected.bytes, length);
    ck_assert_int_eq(parse((struct span){out, length}, &header), PROXY_HEADER_COMPLETE);
    snprintf(text, sizeof text, "%u %s", version, described ? described : version == 1 ? "unknown" : "local");
    ck_assert_str_eq(describe(&header), text);
    free(out);
}

TEST_EACH(writes, written)
{
    const struct address none = {.family = AF_UNIX};
    struct address from = c->from ? ip(c->from, c->from_port) : none,
                   to = c->to ? ip(c->to, c->to_port) : none;
    check_written(1, &from, &to, (struct span){(const uint8_t *)c->v1, strlen(c->v1)}, c->both);
    check_written(2, &from, &to, make(c->v2, c->rest, 0), c->both);
}
