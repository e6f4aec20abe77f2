#include "base/address.h"
#include "common.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

START_TEST(parses_and_formats)
{
    static const struct {
        const char *in, *full, *prefix;
    } cases[] = {
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
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address address = parse(cases[i].in, 7);
        expect_shown(&address, ADDRESS_FULL, cases[i].full);
        expect_shown(&address, ADDRESS_PREFIX, cases[i].prefix);
        expect_shown(&address, ADDRESS_NONE, "-");
    }
}
END_TEST

START_TEST(refuses_what_is_no_address)
{
    static const char *const wrong[] = {
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
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct address address = {.port = 4711};
        ck_assert_msg(address_parse(wrong[i], 7, &address) == -EINVAL, "%s", wrong[i]);
        ck_assert_uint_eq(address.port, 4711);
    }
}
END_TEST

START_TEST(sockaddr_there_and_back)
{
    static const char *const texts[] = {"192.0.2.1", "2001:db8::1", "fe80::1%lo"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct address address = parse(texts[i], 7007), back;
        struct sockaddr_storage storage;
        socklen_t length = address_to_sockaddr(&address, &storage);
        ck_assert_uint_eq(length, i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        address_from_sockaddr((const struct sockaddr *)&storage, &back);
        ck_assert(address_equal_ip(&address, &back));
        ck_assert_uint_eq(back.port, 7007);
    }
}
END_TEST

START_TEST(sockaddr_of_others)
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
END_TEST

START_TEST(longest_text_fits)
{
    struct address address = parse("fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
    address.scope = UINT32_MAX;
    expect_shown(&address, ADDRESS_FULL, "[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
}
END_TEST

START_TEST(compares)
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
    ck_assert(address_is_any(&a));
    ck_assert(address_is_any(&b));
    ck_assert(!address_is_any(&c));
}
END_TEST

START_TEST(knows_loopback)
{
    static const char *const yes[] = {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"};
    static const char *const no[] = {"128.0.0.1", "126.255.255.255", "::",     "::2",
                                     "0.0.0.0",   "fe80::1",         "7f00::1"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        struct address address = parse(yes[i], 0);
        ck_assert_msg(address_is_loopback(&address), "%s", yes[i]);
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        struct address address = parse(no[i], 0);
        ck_assert_msg(!address_is_loopback(&address), "%s", no[i]);
    }
}
END_TEST

START_TEST(knows_link_local)
{
    static const char *const yes[] = {"fe80::1", "fe80::1%lo", "febf::1", "ff02::1"};
    static const char *const no[] = {"fec0::1",     "fe7f::1",     "::1",
                                     "2001:db8::1", "169.254.1.1", "254.128.0.0"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        struct address address = parse(yes[i], 7);
        ck_assert_msg(address_is_link_local(&address), "%s", yes[i]);
    }
    for (size_t i = 0; i < COUNT_OF(no); i++) {
        struct address address = parse(no[i], 7);
        ck_assert_msg(!address_is_link_local(&address), "%s", no[i]);
    }
}
END_TEST

START_TEST(masks)
{
    static const struct {
        const char *in;
        unsigned bits;
        const char *out;
    } cases[] = {
        {"192.0.2.255", 32, "192.0.2.255:0"},  {"192.0.2.255", 128, "192.0.2.255:0"},
        {"192.0.2.255", 25, "192.0.2.128:0"},  {"192.0.2.255", 24, "192.0.2.0:0"},
        {"255.255.2.255", 9, "255.128.0.0:0"}, {"255.255.2.255", 0, "0.0.0.0:0"},
        {"ffff::ffff", 128, "[ffff::ffff]:0"}, {"ffff::ffff", 127, "[ffff::fffe]:0"},
        {"ffff::ffff", 1, "[8000::]:0"},       {"fe80::1%lo", 64, "[fe80::]:0"},
        {"ffff::ffff", 500, "[ffff::ffff]:0"}, {"fe80::1%lo", 128, "[fe80::1%lo]:0"},
        {"fe80::1%lo", 127, "[fe80::]:0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address address = parse(cases[i].in, 7);
        address_mask(&address, cases[i].bits);
        expect_shown(&address, ADDRESS_FULL, cases[i].out);
    }
}
END_TEST

START_TEST(prefix_parses)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
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
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prefix prefix = network(cases[i].in);
        char text[ADDRESS_TEXT_SIZE];
        ck_assert_str_eq(prefix_format(&prefix, text), cases[i].out);
    }
}
END_TEST

START_TEST(prefix_refuses)
{
    static const struct {
        const char *in;
        int error;
    } cases[] = {
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
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prefix prefix = {.length = 77};
        ck_assert_msg(prefix_parse(cases[i].in, &prefix) == cases[i].error, "%s", cases[i].in);
        ck_assert_uint_eq(prefix.length, 77);
    }
}
END_TEST

START_TEST(prefix_holds)
{
    static const struct {
        const char *network, *address;
        bool inside;
    } cases[] = {
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
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prefix prefix = network(cases[i].network);
        struct address address = parse(cases[i].address, 7);
        ck_assert_msg(prefix_contains(&prefix, &address) == cases[i].inside, "%s in %s", cases[i].address,
                      cases[i].network);
    }
}
END_TEST

START_TEST(lists_hold)
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
END_TEST

START_TEST(kinds_that_no_client_reaches)
{
    static const struct {
        const char *text;
        bool multicast, broadcast, link_local;
    } cases[] = {
        {"224.0.0.0", true, false, false},        {"239.255.255.255", true, false, false},
        {"ff02::1", true, false, true},           {"::ffff:224.0.0.1", true, false, false},
        {"255.255.255.255", false, true, false},  {"fe80::1", false, false, true},
        {"febf::1", false, false, true},          {"fec0::1", false, false, false},
        {"223.255.255.255", false, false, false}, {"240.0.0.1", false, false, false},
        {"0.0.0.0", false, false, false},         {"::", false, false, false},
        {"169.254.0.1", false, false, false},     {"fe00::1", false, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address address;
        ck_assert_int_eq(address_parse(cases[i].text, 7, &address), 0);
        ck_assert_msg(address_is_multicast(&address) == cases[i].multicast, "%s", cases[i].text);
        ck_assert_msg(address_is_broadcast(&address) == cases[i].broadcast, "%s", cases[i].text);
        ck_assert_msg(address_is_link_local(&address) == cases[i].link_local, "%s", cases[i].text);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("address");
    tcase_add_test(tests, parses_and_formats);
    tcase_add_test(tests, refuses_what_is_no_address);
    tcase_add_test(tests, sockaddr_there_and_back);
    tcase_add_test(tests, sockaddr_of_others);
    tcase_add_test(tests, longest_text_fits);
    tcase_add_test(tests, compares);
    tcase_add_test(tests, knows_loopback);
    tcase_add_test(tests, knows_link_local);
    tcase_add_test(tests, masks);
    tcase_add_test(tests, prefix_parses);
    tcase_add_test(tests, prefix_refuses);
    tcase_add_test(tests, prefix_holds);
    tcase_add_test(tests, lists_hold);
    tcase_add_test(tests, kinds_that_no_client_reaches);
    return run_case(tests);
}
