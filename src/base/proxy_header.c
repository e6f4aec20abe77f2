#include "base/proxy_header.h"

#include "base/crc32c.h"
#include "base/units.h"

#include <netinet/in.h>
#include <string.h>

#define NO_HEADER "no PROXY protocol header"
#define NO_PROTOCOL "neither TCP4, TCP6 nor UNKNOWN"
#define TOO_LONG "a line of more than 107 bytes"
#define NO_CRLF "a line that does not end with CR LF"
#define TLV_TOO_LONG "a TLV that ends after the header"
#define TLS_TOO_LONG "an SSL TLV whose parts are longer than itself"

static enum proxy_header_state incomplete(struct proxy_header *out, size_t length)
{
    *out = (struct proxy_header){.length = length};
    return PROXY_HEADER_INCOMPLETE;
}

static enum proxy_header_state malformed(struct proxy_header *out, const char *error)
{
    *out = (struct proxy_header){.error = error};
    return PROXY_HEADER_MALFORMED;
}

/* As far as there are bytes. */
static bool may_begin_with(struct span bytes, const char *text, size_t length)
{
    struct span begin = span_first(bytes, length);
    return begin.length == 0 || memcmp(begin.bytes, text, begin.length) == 0;
}

/* Version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" */

#define V1_SHORTEST (sizeof "PROXY UNKNOWN\r\n" - 1)
#define ADDRESS_LONGEST 45 /* six groups of hexadecimal digits and an IPv4 address */

struct field {
    const char *error;
    const char *characters;
    size_t shortest, longest;
};

#define DIGITS "0123456789"
#define PORTS {"a bad source port", DIGITS, 1, 5}, {"a bad destination port", DIGITS, 1, 5}
#define FIELDS 4

static const struct field fields_v4[FIELDS] = {
    {"a bad source address", DIGITS ".", 7, 15},
    {"a bad destination address", DIGITS ".", 7, 15},
    PORTS,
};

static const struct field fields_v6[FIELDS] = {
    {"a bad source address", DIGITS "abcdefABCDEF:.", 2, ADDRESS_LONGEST},
    {"a bad destination address", DIGITS "abcdefABCDEF:.", 2, ADDRESS_LONGEST},
    PORTS,
};

static size_t field_length(struct span rest, const struct field *field)
{
    size_t length = 0, count = strlen(field->characters);
    while (length < rest.length && memchr(field->characters, rest.bytes[length], count))
        length++;
    return length;
}

/* The least that comes after the field with this index. */
static size_t least_after(const struct field *fields, size_t index)
{
    size_t length = 2; /* CR LF */
    while (++index < FIELDS)
        length += 1 + fields[index].shortest;
    return length;
}

/* Returns false when it is none. */
static bool read_address(const char *text, bool is_v6, struct address *out)
{
    return (strchr(text, ':') != NULL) == is_v6 && address_parse(text, 0, out) == 0;
}

static bool read_port(const char *text, uint16_t *out)
{
    uint64_t port;
    if (units_parse_number(text, UINT16_MAX, &port) < 0)
        return false;
    *out = (uint16_t)port;
    return true;
}

static bool read_field(struct proxy_header *out, size_t index, bool is_v6, struct span field)
{
    char text[ADDRESS_LONGEST + 1] = "";
    memcpy(text, field.bytes, field.length);
    switch (index) {
    case 0:
        return read_address(text, is_v6, &out->source.address);
    case 1:
        return read_address(text, is_v6, &out->destination.address);
    case 2:
        return read_port(text, &out->source.address.port);
    default:
        return read_port(text, &out->destination.address.port);
    }
}

/* `start` is the length of what comes before the addresses. */
static enum proxy_header_state parse_addresses(struct span bytes, size_t start, bool is_v6,
                                               struct proxy_header *out)
{
    const struct field *fields = is_v6 ? fields_v6 : fields_v4;
    size_t at = start;
    for (size_t i = 0; i < FIELDS; i++) {
        struct span rest = span_from(bytes, at);
        size_t length = field_length(rest, &fields[i]);
        size_t least = length < fields[i].shortest ? fields[i].shortest : length;
        size_t room = PROXY_HEADER_V1_MAX - least_after(fields, i) - at;
        if (length > room && room < fields[i].longest)
            return malformed(out, TOO_LONG);
        if (length > fields[i].longest)
            return malformed(out, fields[i].error);
        if (length == rest.length)
            return incomplete(out, at + least + least_after(fields, i));
        if (!read_field(out, i, is_v6, span_first(rest, length)))
            return malformed(out, fields[i].error);
        if (rest.bytes[length] != (i + 1 < FIELDS ? ' ' : '\r'))
            return malformed(out, rest.bytes[length] == '\n' ? NO_CRLF : fields[i].error);
        at += length + 1;
    }
    if (at == bytes.length)
        return incomplete(out, at + 1);
    if (bytes.bytes[at] != '\n')
        return malformed(out, NO_CRLF);
    out->is_relayed = true;
    out->length = at + 1;
    return PROXY_HEADER_COMPLETE;
}

/* Whatever stands before the first CRLF is ignored. */
static enum proxy_header_state parse_unknown(struct span bytes, size_t start, struct proxy_header *out)
{
    struct span line = span_first(bytes, PROXY_HEADER_V1_MAX), end;
    if (start < line.length && line.bytes[start] != ' ' && line.bytes[start] != '\r')
        return malformed(out, NO_PROTOCOL);
    if (span_find_first(line, (struct span){(const uint8_t *)"\r\n", 2}, &out->length)) {
        out->length += 2;
        return PROXY_HEADER_COMPLETE;
    }
    end = span_from(line, line.length - 1);
    size_t least = line.length + (end.bytes[0] == '\r' ? 1 : 2);
    return least > PROXY_HEADER_V1_MAX ? malformed(out, TOO_LONG) : incomplete(out, least);
}

static enum proxy_header_state parse_v1(struct span bytes, struct proxy_header *out)
{
    static const char names[][sizeof "PROXY UNKNOWN"] = {"PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"};
    out->version = 1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(names[i]);
        if (!may_begin_with(bytes, names[i], length))
            continue;
        if (bytes.length < length)
            return incomplete(out, V1_SHORTEST);
        return i == 2 ? parse_unknown(bytes, length, out) : parse_addresses(bytes, length, i == 1, out);
    }
    return malformed(out, may_begin_with(bytes, "PROXY ", 6) ? NO_PROTOCOL : NO_HEADER);
}

/* Version 2 */

#define V2_BEGIN 16
#define V2_SIGNATURE (sizeof PROXY_HEADER_SIGNATURE - 1)
#define UNIX_PATH 108

enum tlv_type {
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    TLV_SSL_VERSION = 0x21, /* within SSL */
    TLV_SSL_CN = 0x22,      /* likewise */
};

#define TLV_BEGIN 3
#define SSL_BEGIN 5
#define CHECKSUM_SIZE 4
#define UNIQUE_ID_MAX 128

static uint16_t read_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)read_u16(bytes) << 16 | read_u16(bytes + 2);
}

/* Takes the first TLV from the others. Returns false when it is longer than all of them. */
static bool take_tlv(struct span *tlvs, uint8_t *type, struct span *value)
{
    if (tlvs->length < TLV_BEGIN)
        return false;
    size_t length = read_u16(tlvs->bytes + 1);
    if (length > tlvs->length - TLV_BEGIN)
        return false;
    *type = tlvs->bytes[0];
    *value = span_first(span_from(*tlvs, TLV_BEGIN), length);
    *tlvs = span_from(*tlvs, TLV_BEGIN + length);
    return true;
}

/* The first one counts. */
static void note(struct span *to, struct span value)
{
    if (!to->bytes)
        *to = value;
}

static bool parse_ssl(struct span value, struct proxy_header *out)
{
    if (value.length < SSL_BEGIN)
        return false;
    out->has_tls = true;
    out->tls_client = value.bytes[0];
    out->tls_verify = read_u32(value.bytes + 1);
    struct span parts = span_from(value, SSL_BEGIN), part;
    while (parts.length > 0) {
        uint8_t type;
        if (!take_tlv(&parts, &type, &part))
            return false;
        if (type == TLV_SSL_VERSION)
            note(&out->tls_version, part);
        else if (type == TLV_SSL_CN)
            note(&out->tls_common_name, part);
    }
    return true;
}

/* Returns what is wrong, or NULL. Sets *checksum to where that is. */
static const char *parse_tlv(uint8_t type, struct span value, struct span *checksum, struct proxy_header *out)
{
    struct proxy_header ignored = {0};
    switch (type) {
    case TLV_ALPN:
        note(&out->alpn, value);
        return NULL;
    case TLV_AUTHORITY:
        note(&out->authority, value);
        return NULL;
    case TLV_UNIQUE_ID:
        note(&out->unique_id, value);
        return value.length > UNIQUE_ID_MAX ? "a unique id of more than 128 bytes" : NULL;
    case TLV_CRC32C:
        if (checksum->bytes)
            return "two checksums";
        *checksum = value;
        return value.length != CHECKSUM_SIZE ? "a checksum that is not 4 bytes long" : NULL;
    case TLV_SSL:
        return parse_ssl(value, out->has_tls ? &ignored : out) ? NULL : TLS_TOO_LONG;
    default:
        return NULL;
    }
}

/* The checksum counts as zero for itself. */
static bool is_right(struct span checksum, struct span header)
{
    static const uint8_t zero[CHECKSUM_SIZE];
    size_t at = (size_t)(checksum.bytes - header.bytes);
    uint32_t crc = crc32c(0, span_first(header, at));
    crc = crc32c(crc, (struct span){zero, sizeof zero});
    crc = crc32c(crc, span_from(header, at + CHECKSUM_SIZE));
    return crc == read_u32(checksum.bytes);
}

/* The TLVs begin at `start`. Returns what is wrong, or NULL. */
static const char *parse_tlvs(struct span header, size_t start, struct proxy_header *out)
{
    struct span checksum = {NULL, 0}, rest = span_from(header, start), value;
    while (rest.length > 0) {
        uint8_t type;
        if (!take_tlv(&rest, &type, &value))
            return TLV_TOO_LONG;
        const char *error = parse_tlv(type, value, &checksum, out);
        if (error)
            return error;
    }
    out->has_checksum = checksum.bytes != NULL;
    return out->has_checksum && !is_right(checksum, header) ? "a wrong checksum" : NULL;
}

static struct address read_ip(int family, const uint8_t *ip, const uint8_t *port)
{
    struct address address;
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, ip, sizeof in.sin_addr);
        memcpy(&in.sin_port, port, sizeof in.sin_port);
        address_from_sockaddr((const struct sockaddr *)&in, &address);
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        memcpy(&in6.sin6_addr, ip, sizeof in6.sin6_addr);
        memcpy(&in6.sin6_port, port, sizeof in6.sin6_port);
        address_from_sockaddr((const struct sockaddr *)&in6, &address);
    }
    return address;
}

/* A path ends with its first NUL; an abstract name, which begins with one, has no end but that of the field,
 * and is padded. */
static struct proxy_endpoint read_unix(const uint8_t *bytes)
{
    size_t length = strnlen((const char *)bytes, UNIX_PATH);
    if (length == 0) {
        length = UNIX_PATH;
        while (length > 0 && bytes[length - 1] == 0)
            length--;
    }
    return (struct proxy_endpoint){.address = {.family = AF_UNIX}, .path = {bytes, length}};
}

struct family {
    int family;
    size_t ip; /* the size of an address */
    size_t both;
};

static const struct family families[] = {
    {AF_UNSPEC, 0, 0}, {AF_INET, 4, 12}, {AF_INET6, 16, 36}, {AF_UNIX, UNIX_PATH, 216}};

static void read_endpoints(const struct family *family, const uint8_t *bytes, struct proxy_header *out)
{
    const uint8_t *second = bytes + family->ip, *ports = second + family->ip;
    out->is_relayed = true;
    if (family->family == AF_UNIX) {
        out->source = read_unix(bytes);
        out->destination = read_unix(second);
    } else {
        out->source.address = read_ip(family->family, bytes, ports);
        out->destination.address = read_ip(family->family, second, ports + 2);
    }
}

static enum proxy_header_state parse_v2(struct span bytes, struct proxy_header *out)
{
    size_t have = bytes.length;
    unsigned command = have > 12 ? bytes.bytes[12] : 0x20, kind = have > 13 ? bytes.bytes[13] : 0;
    if (command >> 4 != 2)
        return malformed(out, "a version other than 2 after its signature");
    if ((command & 15) > 1)
        return malformed(out, "neither LOCAL nor PROXY");
    out->version = 2;
    out->is_local = (command & 15) == 0;
    if (!out->is_local && (kind >> 4 >= sizeof families / sizeof families[0]))
        return malformed(out, "an unknown address family");
    if (!out->is_local && (kind & 15) > 2)
        return malformed(out, "an unknown transport protocol");
    if (have < V2_BEGIN)
        return incomplete(out, V2_BEGIN);

    size_t length = V2_BEGIN + read_u16(bytes.bytes + 14);
    const struct family *family = &families[out->is_local ? 0 : kind >> 4];
    if (length < V2_BEGIN + family->both)
        return malformed(out, "a header that is too short for its addresses");
    if (have < length)
        return incomplete(out, length);
    out->length = length;
    if (out->is_local)
        return PROXY_HEADER_COMPLETE;
    if (family->both > 0 && (kind & 15) > 0)
        read_endpoints(family, bytes.bytes + V2_BEGIN, out);
    const char *error = parse_tlvs(span_first(bytes, length), V2_BEGIN + family->both, out);
    return error ? malformed(out, error) : PROXY_HEADER_COMPLETE;
}

enum proxy_header_state proxy_header_parse(struct span bytes, struct proxy_header *out)
{
    *out = (struct proxy_header){0};
    if (bytes.length == 0)
        return incomplete(out, V1_SHORTEST);
    if (may_begin_with(bytes, PROXY_HEADER_SIGNATURE, V2_SIGNATURE))
        return parse_v2(bytes, out);
    return parse_v1(bytes, out);
}
