/* Sockets of the service manager as listeners. */
#include "faults.h"
#include "passed.h"
#include "serve/listener.h"
#include "socket_directory.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>

static const struct socket_settings usual = {
    .backlog = 16, .keepalive_sec = 60, .user_timeout_msec = 60000, .unsent_limit = 262144};

static struct listen_address at(const char *text, uint16_t port)
{
    struct listen_address listen_address = {.port = port};
    ck_assert_int_eq(address_parse(text, port, &listen_address.at), 0);
    return listen_address;
}

static bool is_at(const struct listener *listener, const char *text, uint16_t port)
{
    const struct listen_address any = {.any = true, .port = port},
                                one = strcmp(text, "*") == 0 ? any : at(text, port);
    return listener_is_at(listener, &one);
}

static struct listener *adopt(int managers)
{
    struct listener *listener = NULL;
    int fd = as_passed(managers);
    int r = listener_adopt(fd, "test.socket", &listener);
    ck_assert_msg(r == 0, "%s", strerror(-r));
    ck_assert_int_eq(listener->source.fd, fd);
    return listener;
}

static void expect_refused(int managers, int error)
{
    struct listener *listener = NULL;
    int fd = as_passed(managers);
    unsigned before = open_descriptors();
    int r = listener_adopt(fd, "test.socket", &listener);
    ck_assert_msg(r == -error, "%s and not %s", strerror(-r), strerror(error));
    ck_assert_ptr_null(listener);
    ck_assert_uint_eq(open_descriptors(), before); /* still the caller's */
    close(fd);
    close(managers);
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

START_TEST(is_served_like_our_own)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    uint16_t port = port_of(managers);
    struct listener *listener = adopt(managers);
    char name[64];
    snprintf(name, sizeof name, "127.0.0.1:%u", port);
    ck_assert_str_eq(listener->name, name);
    ck_assert_str_eq(listener->passed_as, "test.socket");
    ck_assert_uint_eq(listener->port, port);
    ck_assert_uint_gt(listener->id, 0);
    ck_assert(fcntl(listener->source.fd, F_GETFL) & O_NONBLOCK);
    ck_assert(is_at(listener, "127.0.0.1", port));
    ck_assert(!is_at(listener, "127.0.0.2", port));
    ck_assert(!is_at(listener, "127.0.0.1", 0)); /* that asks for a port of its own */
    ck_assert(!is_at(listener, "*", port));

    ck_assert_int_eq(listener_configure(listener, 0, &usual), 0);
    int client_fd = connect_to(port), fd;
    struct address client;
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert_int_eq(listener_accept(listener, &fd, &client), 0);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 60000);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 262144);
    close(fd);
    close(client_fd);
    listener_close(listener);
    close(managers);
}
END_TEST

START_TEST(goes_on_listening_without_us)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    struct listener *listener = adopt(managers);
    listener_stop_handshakes(listener);
    int during = connect_to(port_of(managers));
    expect_in_backlog(managers, during);
    listener_close(listener);
    int afterwards = connect_to(port_of(managers));
    expect_in_backlog(managers, afterwards);
    close(during);
    close(afterwards);
    close(managers);
}
END_TEST

START_TEST(sharing_is_the_managers)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    struct listener *listener = adopt(managers);
    listener_share(listener, true);
    ck_assert_int_eq(get_socket_option(managers, SOL_SOCKET, SO_REUSEPORT), 0);
    set_socket_option(managers, SOL_SOCKET, SO_REUSEPORT, 1);
    listener_share(listener, false);
    ck_assert_int_eq(get_socket_option(managers, SOL_SOCKET, SO_REUSEPORT), 1);
    listener_close(listener);
    close(managers);
}
END_TEST

START_TEST(wildcards)
{
    if (!has_ipv6())
        return;
    uint16_t port = free_port();
    char name[64];
    int both = passed_ip("::", port, false);
    struct listener *listener = adopt(both);
    snprintf(name, sizeof name, "*:%u", port);
    ck_assert_str_eq(listener->name, name);
    ck_assert(is_at(listener, "*", port));
    ck_assert(!is_at(listener, "::", port)); /* that is IPv6 alone */
    ck_assert(!is_at(listener, "0.0.0.0", port));
    listener_close(listener);
    close(both);

    int six = passed_ip("::", port, true);
    listener = adopt(six);
    snprintf(name, sizeof name, "[::]:%u", port);
    ck_assert_str_eq(listener->name, name);
    ck_assert(is_at(listener, "::", port));
    ck_assert(!is_at(listener, "*", port));
    listener_close(listener);
    close(six);

    int four = passed_ip("0.0.0.0", port, false);
    listener = adopt(four);
    ck_assert(is_at(listener, "0.0.0.0", port));
    ck_assert(!is_at(listener, "*", port));
    ck_assert(!listener->without_v6);
    listener_close(listener);
    close(four);
}
END_TEST

START_TEST(wildcard_on_a_host_without_ipv6)
{
    int managers = passed_ip("0.0.0.0", 0, false);
    uint16_t port = port_of(managers);
    int fd = as_passed(managers);
    struct listener *listener = NULL;
    fault_arm("access", ENOENT, 1);
    int r = listener_adopt(fd, "test.socket", &listener);
    fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert(listener->without_v6);
    ck_assert(is_at(listener, "*", port));
    ck_assert(is_at(listener, "0.0.0.0", port));
    ck_assert(!is_at(listener, "127.0.0.1", port));
    listener_close(listener);
    close(managers);
}
END_TEST

START_TEST(mapped_ipv4_is_ipv4)
{
    if (!has_ipv6())
        return;
    int managers = passed_ip("::ffff:127.0.0.1", 0, false);
    struct listener *listener = adopt(managers);
    ck_assert(is_at(listener, "127.0.0.1", port_of(managers)));
    ck_assert_int_eq(strncmp(listener->name, "127.0.0.1:", 10), 0);
    int client_fd = connect_to(port_of(managers)), fd;
    struct address client;
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert_int_eq(listener_accept(listener, &fd, &client), 0);
    ck_assert_uint_eq(client.family, AF_INET);
    close(fd);
    close(client_fd);
    listener_close(listener);
    close(managers);
}
END_TEST

/* A link-local address is one of its interface. Passes over hosts that have none. */
START_TEST(scope_counts)
{
    struct ifaddrs *all;
    ck_assert_int_eq(getifaddrs(&all), 0);
    for (const struct ifaddrs *item = all; item; item = item->ifa_next) {
        struct sockaddr_in6 name;
        if (!item->ifa_addr || item->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(&name, item->ifa_addr, sizeof name);
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (name.sin6_scope_id != 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0 &&
            listen(fd, 1) == 0) {
            struct listener *listener = adopt(fd);
            struct listen_address same = {.port = port_of(fd)}, other;
            address_from_sockaddr((struct sockaddr *)&name, &same.at);
            other = same;
            other.at.scope++;
            ck_assert(listener_is_at(listener, &same));
            ck_assert(!listener_is_at(listener, &other));
            listener_close(listener);
        }
        close(fd);
    }
    freeifaddrs(all);
}
END_TEST

START_TEST(path_is_the_managers)
{
    make_directory();
    int managers = passed_path(path);
    ck_assert_int_eq(chmod(path, 0604), 0);
    struct listener *listener = adopt(managers);
    const struct listen_address here = {.path = path, .mode = 0660}, elsewhere = {.path = "/run/other"};
    ck_assert_str_eq(listener->name, path);
    ck_assert(listener_is_at(listener, &here));
    ck_assert(!listener_is_at(listener, &elsewhere));
    ck_assert(!is_at(listener, "*", 0));

    ck_assert_int_eq(listener_configure(listener, 0660, &usual), 0);
    struct stat there;
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0604);
    listener_stop_handshakes(listener);
    listener_close(listener);
    ck_assert_int_eq(access(path, F_OK), 0);

    /* The service may be in a mount namespace in which the path is not there. */
    listener = adopt(managers);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(listener_is_at(listener, &here));
    ck_assert_int_eq(listener_configure(listener, 0660, &usual), 0);
    listener_close(listener);
    close(managers);
    remove_directory();
}
END_TEST

START_TEST(longest_path)
{
    char longest[sizeof((struct sockaddr_un *)0)->sun_path + 1] = "";
    make_directory();
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest, path, strlen(path));
    int managers = bound_unix(SOCK_STREAM, longest, sizeof longest - 1); /* without a NUL */
    struct listener *listener = adopt(managers);
    ck_assert_str_eq(listener->name, longest);
    listener_close(listener);
    close(managers);
    ck_assert_int_eq(unlink(longest), 0);
    remove_directory();
}
END_TEST

START_TEST(what_cannot_be_served)
{
    make_directory();
    expect_refused(open("/dev/null", O_RDONLY | O_CLOEXEC), ENOTSOCK);
    expect_refused(bound_unix(SOCK_DGRAM, path, strlen(path)), ESOCKTNOSUPPORT);
    ck_assert_int_eq(unlink(path), 0);
    expect_refused(bound_unix(SOCK_SEQPACKET, path, strlen(path)), ESOCKTNOSUPPORT);
    ck_assert_int_eq(unlink(path), 0);
    expect_refused(bound_unix(SOCK_STREAM, "\0tcpechod-test-abstract", 23), EDESTADDRREQ);
    expect_refused(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ESOCKTNOSUPPORT);
    expect_refused(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EINVAL);
    expect_refused(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), EAFNOSUPPORT);
    int client, server;
    tcp_pair(0, &client, &server); /* Accept=yes passes such */
    expect_refused(server, EINVAL);
    close(client);
    remove_directory();
}
END_TEST

START_TEST(failing_calls)
{
    static const struct {
        const char *call;
        int error;
    } cases[] = {{"getsockopt", ENOBUFS}, {"getsockname", ENOBUFS}, {"fcntl", EPERM},
                 {"calloc", ENOMEM},      {"strdup", ENOMEM},       {"strndup", ENOMEM}};
    make_directory();
    int managers[] = {has_ipv6() ? passed_ip("::", 0, false) : passed_ip("127.0.0.1", 0, false),
                      passed_path(path)};
    unsigned long failed = 0;
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t which = 0; which < COUNT_OF(managers); which++) {
            int fd = as_passed(managers[which]);
            struct listener *listener = NULL;
            unsigned long hits;
            unsigned long nth = 0;
            do {
                ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0); /* as it comes */
                fault_arm(cases[i].call, cases[i].error, ++nth);
                int r = listener_adopt(fd, "test.socket", &listener);
                hits = fault_disarm();
                ck_assert_msg(r == (hits > 0 ? -cases[i].error : 0), "%s: %d", cases[i].call, r);
                failed += hits;
            } while (hits > 0);
            listener_close(listener);
        }
    ck_assert_uint_eq(failed, (has_ipv6() ? 5 : 4) + 4 + 2 + 2 * 2 + 2 + 2 + 1);
    close(managers[0]);
    close(managers[1]);
    remove_directory();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("listener_adopt");
    tcase_add_test(tests, is_served_like_our_own);
    tcase_add_test(tests, goes_on_listening_without_us);
    tcase_add_test(tests, sharing_is_the_managers);
    tcase_add_test(tests, wildcards);
    tcase_add_test(tests, wildcard_on_a_host_without_ipv6);
    tcase_add_test(tests, mapped_ipv4_is_ipv4);
    tcase_add_test(tests, scope_counts);
    tcase_add_test(tests, path_is_the_managers);
    tcase_add_test(tests, longest_path);
    tcase_add_test(tests, what_cannot_be_served);
    tcase_add_test(tests, failing_calls);
    return run_case(tests);
}
