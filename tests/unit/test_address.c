#include "base/address.h"
#include "common.h"

#include <sys/un.h>

static struct address parse(const char *text, uint16_t port)
{
    struct address address;
    ck_assert_msg(address_parse(text, port, &address) == 0, "%s", text);
    return address;
}

static struct prefix network(const char *text)
{
    struct prefix prefix;
    ck_assert_msg(prefix_parse(text, &prefix) == 0, "%s", text);
    return prefix;
}

static void expect_shown(const struct address *address, enum address_detail detail, const char *expected)
{
    char text[ADDRESS_TEXT_SIZE];
    ck_assert_ptr_eq(address_format(address, detail, text), text);
    ck_assert_str_eq(text, expected);
}

static const struct {
    const char *in, *full, *prefix;
} shown[] = {
    {"192.0.2.77", "192.0.2.77:7", "192.0.2.0/24"},
    {"0.0.0.0", "0.0.0.0:7", "0.0.0.0/24"},
    {"2001:db8:1:2::5", "[2001:db8:1:2::5]:7", "2001:db8:1::/48"},
    {"2001:DB8:0:0::1", "[2001:db8::1]:7", "2001:db8::/48"},
    {"::", "[::]:7", "::/48"},
    {"::ffff:192.0.2.77", "192.0.2.77:7", "192.0.2.0/24"},
    {"::ffff:c000:24d", "192.0.2.77:7", "192.0.2.0/24"},
    {"fe80::1", "[fe80::1]:7", "fe80::/48"},
    {"fe80::1%lo", "[fe80::1%lo]:7", "fe80::/48"},
    {"ff02::1%1", "[ff02::1%lo]:7", "ff02::/48"},
    {"fe80::1%2000000001", "[fe80::1%2000000001]:7", "fe80::/48"},
};

TEST_EACH(parses_and_formats, shown)
{
    struct address address = parse(c->in, 7);
    expect_shown(&address, ADDRESS_FULL, c->full);
    expect_shown(&address, ADDRESS_PREFIX, c->prefix);
    expect_shown(&address, ADDRESS_NONE, "-");

    char ip[ADDRESS_TEXT_SIZE], with_port[2 * ADDRESS_TEXT_SIZE];
    ck_assert_ptr_eq(address_format_ip(&address, ip), ip);
    snprintf(with_port, sizeof with_port, strchr(ip, ':') ? "[%s]:7" : "%s:7", ip);
    ck_assert_str_eq(with_port, c->full);
}

static const char *const no_addresses[] = {
    "",
    "localhost",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4 ",
    " 1.2.3.4",
    "1.2.3.4%lo",
    ":",
    "[::1]",
    "::1%lo",
    "2001:db8::1%1",
    "::ffff:1.2.3.4%lo",
    "fe80::1%",
    "fe80::1%no-such-interface",
    "fe80::1%0",
    "fe80::1%01",
    "fe80::1%-1",
    "fe80::1%99999999999999999999999",
    "fe80::1%4294967296",
    "1111:2222:3333:4444:5555:6666:7777:8888:9999",
    "1111:2222:3333:4444:5555:6666:7777:8888:1111:2222:3333:4444",
};

TEST_EACH(refuses_what_is_no_address, no_addresses)
{
    struct address address = {.port = 4711};
    ck_assert_int_eq(address_parse(*c, 7, &address), -EINVAL);
    ck_assert_uint_eq(address.port, 4711);
}

TEST(sockaddr_there_and_back)
{
    static const char *const texts[] = {"192.0.2.1", "2001:db8::1", "fe80::1%lo"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct address address = parse(texts[i], 7007), back;
        struct sockaddr_storage storage;
        socklen_t length = address_to_sockaddr(&address, &storage);
        ck_assert_uint_eq(length, i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        address_from_sockaddr((const struct sockaddr *)&storage, &back);
        ck_assert(address_equal_ip(&address, &back));
        ck_assert_uint_eq(back.port, 7007);
    }
}

TEST(sockaddr_of_others)
{
    struct address address;
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(7), .sin6_scope_id = 3};
    ck_assert_int_eq(inet_pton(AF_INET6, "::ffff:192.0.2.9", &mapped.sin6_addr), 1);
    address_from_sockaddr((const struct sockaddr *)&mapped, &address);
    ck_assert_uint_eq(address.family, AF_INET);
    ck_assert_uint_eq(address.scope, 0);
    expect_shown(&address, ADDRESS_FULL, "192.0.2.9:7");

    struct sockaddr_un un = {.sun_family = AF_UNIX};
    address_from_sockaddr((const struct sockaddr *)&un, &address);
    ck_assert_uint_eq(address.family, AF_UNIX);
    expect_shown(&address, ADDRESS_FULL, "unix");
    expect_shown(&address, ADDRESS_PREFIX, "unix");
    expect_shown(&address, ADDRESS_NONE, "-");
    ck_assert(!address_is_any(&address));
    ck_assert(!address_is_loopback(&address));
}

TEST(longest_text_fits)
{
    struct address address = parse("fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
    address.scope = UINT32_MAX;
    expect_shown(&address, ADDRESS_FULL, "[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
}

TEST(compares)
{
    struct address a = parse("192.0.2.1", 1), b = parse("::ffff:192.0.2.1", 2), c = parse("192.0.2.2", 1);
    ck_assert(address_equal_ip(&a, &b));
    ck_assert(!address_equal_ip(&a, &c));
    a = parse("fe80::1%lo", 1);
    b = parse("fe80::1", 1);
    ck_assert(!address_equal_ip(&a, &b));
    a = parse("::", 1);
    b = parse("0.0.0.0", 1);
    ck_assert(!address_equal_ip(&a, &b));
}

static const struct {
    const char *in;
    unsigned bits;
    const char *out;
} masked[] = {
    {"192.0.2.255", 32, "192.0.2.255:0"},  {"192.0.2.255", 128, "192.0.2.255:0"},
    {"192.0.2.255", 25, "192.0.2.128:0"},  {"192.0.2.255", 24, "192.0.2.0:0"},
    {"255.255.2.255", 9, "255.128.0.0:0"}, {"255.255.2.255", 0, "0.0.0.0:0"},
    {"ffff::ffff", 128, "[ffff::ffff]:0"}, {"ffff::ffff", 127, "[ffff::fffe]:0"},
    {"ffff::ffff", 1, "[8000::]:0"},       {"fe80::1%lo", 64, "[fe80::]:0"},
    {"ffff::ffff", 500, "[ffff::ffff]:0"}, {"fe80::1%lo", 128, "[fe80::1%lo]:0"},
    {"fe80::1%lo", 127, "[fe80::]:0"},
};

TEST_EACH(masks, masked)
{
    struct address address = parse(c->in, 7);
    address_mask(&address, c->bits);
    expect_shown(&address, ADDRESS_FULL, c->out);
}

static const struct {
    const char *in, *out;
} prefixes[] = {
    {"10.0.0.0/8", "10.0.0.0/8"},
    {"192.0.2.1", "192.0.2.1/32"},
    {"0.0.0.0/0", "0.0.0.0/0"},
    {"2001:db8::/32", "2001:db8::/32"},
    {"::1", "::1/128"},
    {"::/0", "::/0"},
    {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
    {"::ffff:0:0/96", "0.0.0.0/0"},
    {"::ffff:10.1.2.3", "10.1.2.3/32"},
    {"fe80::/10", "fe80::/10"},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"},
};

TEST_EACH(prefix_parses, prefixes)
{
    struct prefix prefix = network(c->in);
    char text[ADDRESS_TEXT_SIZE];
    ck_assert_str_eq(prefix_format(&prefix, text), c->out);
}

static const struct {
    const char *in;
    int error;
} no_prefixes[] = {
    {"", -EINVAL},
    {"/8", -EINVAL},
    {"10.0.0.0/", -EINVAL},
    {"10.0.0.0/33", -EINVAL},
    {"10.0.0.0/08", -EINVAL},
    {"10.0.0.0/+8", -EINVAL},
    {"10.0.0.0/8 ", -EINVAL},
    {"10.0.0.0/8/8", -EINVAL},
    {"10.0.0.0/99999999999999999999999", -EINVAL},
    {"10/8", -EINVAL},
    {"::/129", -EINVAL},
    {"fe80::%lo/64", -EINVAL},
    {"everyone", -EINVAL},
    {"1111:2222:3333:4444:5555:6666:7777:8888:1111:2222:3333:4444/8", -EINVAL},
    {"10.0.0.1/8", -EDOM},
    {"192.0.2.129/25", -EDOM},
    {"2001:db8::1/32", -EDOM},
    {"1.0.0.0/0", -EDOM},
    {"::ffff:10.0.0.0/95", -EDOM},
    {"::ffff:10.0.0.0/8", -EDOM},
};

TEST_EACH(prefix_refuses, no_prefixes)
{
    struct prefix prefix = {.length = 77};
    ck_assert_int_eq(prefix_parse(c->in, &prefix), c->error);
    ck_assert_uint_eq(prefix.length, 77);
}

static const struct {
    const char *network, *address;
    bool inside;
} held[] = {
    {"10.0.0.0/8", "10.255.255.255", true},
    {"10.0.0.0/8", "11.0.0.0", false},
    {"10.0.0.0/8", "::ffff:10.1.1.1", true},
    {"192.0.2.128/25", "192.0.2.129", true},
    {"192.0.2.128/25", "192.0.2.127", false},
    {"192.0.2.1", "192.0.2.1", true},
    {"192.0.2.1", "192.0.2.0", false},
    {"0.0.0.0/0", "255.255.255.255", true},
    {"0.0.0.0/0", "::1", false},
    {"::/0", "::1", true},
    {"::/0", "127.0.0.1", false},
    {"2001:db8::/33", "2001:db8:7fff::", true},
    {"2001:db8::/33", "2001:db8:8000::", false},
    {"::1", "::1", true},
    {"::1", "::", false},
    {"fe80::/10", "fe80::1%lo", true},
};

TEST_EACH(prefix_holds, held)
{
    struct prefix prefix = network(c->network);
    struct address address = parse(c->address, 7);
    ck_assert(prefix_contains(&prefix, &address) == c->inside);
}

TEST(lists_hold)
{
    struct prefix items[] = {network("10.0.0.0/8"), network("2001:db8::/32")};
    struct prefix_list list = {items, 2}, empty = {0};
    struct address in4 = parse("10.1.1.1", 7), in6 = parse("2001:db8::9", 7), out = parse("192.0.2.1", 7);
    struct address local = {.family = AF_UNIX};
    struct prefix nothing = {0};
    ck_assert(prefix_list_contains(&list, &in4));
    ck_assert(prefix_list_contains(&list, &in6));
    ck_assert(!prefix_list_contains(&list, &out));
    ck_assert(!prefix_list_contains(&list, &local));
    ck_assert(!prefix_list_contains(&empty, &in4));
    nothing.base.family = AF_UNIX;
    ck_assert(!prefix_contains(&nothing, &local));
}

enum {
    MULTICAST = 1,
    BROADCAST = 2,
    LINK_LOCAL = 4,
    LOOPBACK = 8,
    ANY = 16,
};

static const struct {
    const char *text;
    int kinds;
} of_kinds[] = {
    {"224.0.0.0", MULTICAST},
    {"239.255.255.255", MULTICAST},
    {"ff02::1", MULTICAST | LINK_LOCAL},
    {"::ffff:224.0.0.1", MULTICAST},
    {"255.255.255.255", BROADCAST},
    {"fe80::1", LINK_LOCAL},
    {"fe80::1%lo", LINK_LOCAL},
    {"febf::1", LINK_LOCAL},
    {"127.0.0.1", LOOPBACK},
    {"127.255.255.255", LOOPBACK},
    {"::1", LOOPBACK},
    {"::ffff:127.0.0.1", LOOPBACK},
    {"0.0.0.0", ANY},
    {"::", ANY},
    {"fec0::1", 0},
    {"fe7f::1", 0},
    {"fe00::1", 0},
    {"223.255.255.255", 0},
    {"240.0.0.1", 0},
    {"169.254.0.1", 0},
    {"254.128.0.0", 0},
    {"128.0.0.1", 0},
    {"126.255.255.255", 0},
    {"::2", 0},
    {"7f00::1", 0},
    {"2001:db8::1", 0},
};

TEST_EACH(kinds, of_kinds)
{
    struct address address = parse(c->text, 7);
    ck_assert(address_is_multicast(&address) == !!(c->kinds & MULTICAST));
    ck_assert(address_is_broadcast(&address) == !!(c->kinds & BROADCAST));
    ck_assert(address_is_link_local(&address) == !!(c->kinds & LINK_LOCAL));
    ck_assert(address_is_loopback(&address) == !!(c->kinds & LOOPBACK));
    ck_assert(address_is_any(&address) == !!(c->kinds & ANY));
}
