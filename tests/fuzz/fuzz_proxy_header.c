/* The header of the PROXY protocol: any bytes, or a version 2 whose length and checksum are right, since
 * hardly any input would have them. What is said of the first bytes holds for all. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "base/proxy_header.h"

#define BODY_MAX ((size_t)4096)
#define CUTS 6

/* So that a sanitizer sees any look beyond the end. */
static enum proxy_header_state parse(struct span bytes, struct proxy_header *out)
{
    uint8_t *copy = fuzz_copy(bytes);
    enum proxy_header_state state = proxy_header_parse((struct span){copy, bytes.length}, out);
    free(copy);
    return state;
}

static void check_within(struct span part, struct span header)
{
    if (!part.bytes)
        return;
    FUZZ_CHECK(part.bytes >= header.bytes && part.bytes <= header.bytes + header.length);
    FUZZ_CHECK(part.length <= (size_t)(header.bytes + header.length - part.bytes));
}

static bool is_same(const struct proxy_endpoint *a, const struct proxy_endpoint *b)
{
    return address_equal_ip(&a->address, &b->address) && a->address.port == b->address.port;
}

/* What it says can be written, and read again. */
static void check_written(const struct proxy_header *header, unsigned version)
{
    uint8_t *out = malloc(PROXY_HEADER_WRITE_SIZE);
    struct proxy_header again;
    FUZZ_CHECK(out);
    size_t length = proxy_header_write(version, &header->source.address, &header->destination.address, out);
    FUZZ_CHECK(parse((struct span){out, length}, &again) == PROXY_HEADER_COMPLETE);
    FUZZ_CHECK(again.length == length && again.version == version);
    FUZZ_CHECK(again.is_relayed == (header->source.address.family != AF_UNIX));
    if (again.is_relayed)
        FUZZ_CHECK(is_same(&again.source, &header->source) &&
                   is_same(&again.destination, &header->destination));
    free(out);
}

static void check_complete(struct span bytes, const struct proxy_header *header)
{
    char text[ADDRESS_TEXT_SIZE];
    FUZZ_CHECK(header->length <= bytes.length && !header->error);
    FUZZ_CHECK(header->length >= (header->version == 1 ? 15 : 16));
    FUZZ_CHECK(header->version == 2 || header->length <= PROXY_HEADER_V1_MAX);
    const struct span all = span_first(bytes, header->length);
    const struct span parts[] = {header->source.path,    header->destination.path, header->alpn,
                                 header->authority,      header->unique_id,        header->tls_version,
                                 header->tls_common_name};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        check_within(parts[i], all);
    FUZZ_CHECK(header->unique_id.length <= 128 && header->source.path.length <= 108);
    FUZZ_CHECK(!header->is_relayed || header->source.address.family != AF_UNSPEC);
    if (header->is_relayed) {
        FUZZ_CHECK(address_format(&header->source.address, ADDRESS_FULL, text)[0] != '\0');
        check_written(header, 1);
        check_written(header, 2);
    }
}

/* Of the bytes up to a cut, given what the whole is. */
static void check_cut(struct span bytes, size_t cut, enum proxy_header_state state,
                      const struct proxy_header *whole)
{
    struct proxy_header header;
    switch (parse(span_first(bytes, cut), &header)) {
    case PROXY_HEADER_INCOMPLETE:
        FUZZ_CHECK(header.length > cut && header.length <= PROXY_HEADER_V2_MAX && !header.error);
        FUZZ_CHECK(state != PROXY_HEADER_COMPLETE || header.length <= whole->length);
        FUZZ_CHECK(state != PROXY_HEADER_INCOMPLETE || header.length <= whole->length);
        break;
    case PROXY_HEADER_COMPLETE:
        FUZZ_CHECK(state == PROXY_HEADER_COMPLETE && header.length == whole->length && cut >= whole->length);
        FUZZ_CHECK(is_same(&header.source, &whole->source) &&
                   is_same(&header.destination, &whole->destination));
        break;
    case PROXY_HEADER_MALFORMED:
        FUZZ_CHECK(state == PROXY_HEADER_MALFORMED && strcmp(header.error, whole->error) == 0);
        break;
    }
}

/* `first` says which of the cuts are tried. */
static void check(struct span bytes, size_t first)
{
    struct proxy_header header;
    size_t step = 1 + bytes.length / CUTS;
    enum proxy_header_state state = proxy_header_parse(bytes, &header);
    for (size_t cut = first % step; cut <= bytes.length; cut += step)
        check_cut(bytes, cut, state, &header);
    if (state == PROXY_HEADER_COMPLETE) {
        check_complete(bytes, &header);
        check_cut(bytes, header.length - 1, state, &header);
    }
}

static void put_u16(uint8_t *out, size_t number)
{
    out[0] = (uint8_t)(number >> 8);
    out[1] = (uint8_t)number;
}

/* PROXY, of the family and protocol that the input says, with its addresses and, where the input wants it, a
 * checksum as the first TLV. Returns the length. */
static size_t make_v2(struct span input, uint8_t *out)
{
    static const struct {
        uint8_t byte;
        size_t size;
    } kinds[] = {{0x11, 12}, {0x21, 36},  {0x31, 216}, {0x12, 12},
                 {0x22, 36}, {0x32, 216}, {0x10, 12},  {0x00, 0}};
    uint8_t choice = fuzz_byte(&input);
    size_t kind = choice % 8, length = 16, checksum = 0;
    memcpy(out, PROXY_HEADER_SIGNATURE "\x21", 13);
    out[13] = kinds[kind].byte;
    if (choice & 8) {
        memset(out + length, 0, kinds[kind].size);
        struct span addresses = fuzz_bytes(&input, fuzz_number(&input, kinds[kind].size));
        if (addresses.length > 0)
            memcpy(out + length, addresses.bytes, addresses.length);
        length += kinds[kind].size;
        if (choice & 16) {
            memcpy(out + length, "\3\0\4\0\0\0\0", 7);
            checksum = length + 3;
            length += 7;
        }
    }
    memcpy(out + length, input.bytes, input.length);
    length += input.length;
    put_u16(out + 14, length - 16);
    if (checksum > 0) {
        uint32_t crc = crc32c(0, (struct span){out, length});
        put_u16(out + checksum, crc >> 16);
        put_u16(out + checksum + 2, crc);
    }
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = span_first((struct span){bytes, length}, BODY_MAX);
    uint8_t choice = fuzz_byte(&input);
    if (choice % 2 == 0) {
        check(input, choice / 2);
        return 0;
    }
    uint8_t *header = malloc(16 + 216 + 7 + BODY_MAX);
    FUZZ_CHECK(header);
    if (input.length > 0)
        check((struct span){header, make_v2(input, header)}, choice / 2);
    free(header);
    return 0;
}
