/* Sockets of the service manager as listeners. */
#include "endpoints.h"
#include "faults.h"
#include "passed.h"
#include "socket_directory.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>

FIXTURE(make_directory, remove_directory)

static struct listener *adopt_under(const char *rules, int managers)
{
    struct listener *listener = NULL;
    int fd = as_passed(managers);
    fault_rules(rules);
    int r = listener_adopt(fd, "test.socket", &listener);
    fault_disarm();
    ck_assert_msg(r == 0, "%s", strerror(-r));
    ck_assert_int_eq(listener->source.fd, fd);
    ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    return listener;
}

static struct listener *adopt(int managers)
{
    return adopt_under("", managers);
}

TEST(is_served_like_our_own)
{
    int managers = passed_ip("127.0.0.1", 0, false);
    uint16_t port = port_of(managers);
    struct listener *listener = adopt(managers);
    ck_assert_str_eq(listener->passed_as, "test.socket");
    ck_assert_uint_eq(listener->port, port);
    ck_assert_uint_gt(listener->id, 0);

    ck_assert_int_eq(listener_configure(listener, 0, &usual), 0);
    int client_fd = connect_to(port);
    struct address client;
    int fd = accept_one(listener, &client);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 60000);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 262144);
    close(fd);
    close(client_fd);
    listener_close(listener);
    close(managers);
}

TEST(goes_on_listening_without_us)
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

TEST(sharing_is_the_managers)
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

static const struct {
    const char *bound;
    bool v6_only;
    const char *rules, *name, *served, *also;
} places[] = {
    {"127.0.0.1", false, "", "127.0.0.1", "127.0.0.1"},
    {"::ffff:127.0.0.1", false, "", "127.0.0.1", "127.0.0.1"},
    {"::", false, "", "*", "*"},
    {"::", true, "", "[::]", "::"},
    {"0.0.0.0", false, "", "0.0.0.0", "0.0.0.0"},
    {"0.0.0.0", false, "access:ENOENT:1", "0.0.0.0", "0.0.0.0", "*"}, /* a host without IPv6 */
};

TEST_EACH(knows_its_place, places)
{
    static const char *const all[] = {"127.0.0.1", "127.0.0.2", "0.0.0.0", "*", "::"};
    if (strchr(c->bound, ':') && !has_ipv6())
        return;
    int managers = passed_ip(c->bound, 0, c->v6_only);
    uint16_t port = port_of(managers);
    struct listener *listener = adopt_under(c->rules, managers);
    char name[64];
    snprintf(name, sizeof name, "%s:%u", c->name, port);
    ck_assert_str_eq(listener->name, name);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        bool wanted = strcmp(all[i], c->served) == 0 || (c->also && strcmp(all[i], c->also) == 0);
        ck_assert_msg(is_at(listener, all[i], port) == wanted, "%s", all[i]);
    }
    ck_assert(!is_at(listener, c->served, 0)); /* that asks for a port of its own */
    ck_assert(listener->without_v6 == (c->also != NULL));
    if (strcmp(c->served, "127.0.0.1") == 0) {
        struct address client;
        int client_fd = connect_to(port);
        close(accept_one(listener, &client));
        ck_assert_uint_eq(client.family, AF_INET);
        close(client_fd);
    }
    listener_close(listener);
    close(managers);
}

/* A link-local address is one of its interface. Passes over hosts that have none. */
TEST(scope_counts)
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

TEST(path_is_the_managers)
{
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
}

TEST(longest_path)
{
    char longest[sizeof((struct sockaddr_un *)0)->sun_path + 1] = "";
    memset(longest, 'x', sizeof longest - 1);
    memcpy(longest, path, strlen(path));
    int managers = bound_unix(SOCK_STREAM, longest, sizeof longest - 1); /* without a NUL */
    struct listener *listener = adopt(managers);
    ck_assert_str_eq(listener->name, longest);
    listener_close(listener);
    close(managers);
    ck_assert_int_eq(unlink(longest), 0);
}

/* ---- one that a process before has made and left to this one ---- */

static struct listener *adopt_own(int fd)
{
    struct listener *listener = NULL;
    ck_assert_int_eq(listener_adopt(as_passed(fd), NULL, &listener), 0);
    ck_assert_ptr_null(listener->passed_as);
    ck_assert(listener_is_own(listener));
    ck_assert(fcntl(listener->source.fd, F_GETFL) & O_NONBLOCK);
    return listener;
}

TEST(own_port)
{
    int before = passed_ip("127.0.0.1", 0, false);
    uint16_t port = port_of(before);
    struct listener *listener = adopt_own(before);
    ck_assert(is_at(listener, "127.0.0.1", port));
    ck_assert_uint_eq(listener->port, port);
    listener_stop_handshakes(listener);
    ck_assert_int_eq(get_socket_option(before, IPPROTO_IP, IP_MINTTL), 255);
    close(before);
    listener_close(listener);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(port);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, sizeof name), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    close(fd);
}

/* Its path is ours, with its mode, and goes with it. */
TEST(own_path)
{
    int before = passed_path(path);
    struct listener *listener = adopt_own(before);
    const struct listen_address here = {.path = path, .mode = 0640};
    ck_assert_str_eq(listener->name, path);
    ck_assert(listener_is_at(listener, &here));
    ck_assert_int_eq(listener_configure(listener, 0640, &usual), 0);
    struct stat there;
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0640);
    listener_close(listener);
    ck_assert_int_ne(access(path, F_OK), 0);

    close(before);
    before = passed_path(path);
    listener = adopt_own(before);
    listener_stop_handshakes(listener);
    ck_assert_int_ne(access(path, F_OK), 0);
    listener_close(listener);
    close(before);
}

/* And a path that is left is left. */
TEST(own_path_is_left_again)
{
    int before = passed_path(path);
    struct listener *listener = adopt_own(before);
    listener_leave(listener);
    listener_stop_handshakes(listener);
    listener_close(listener);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(before);
}

/* Somebody has removed it meanwhile, and somebody else made another there: that is none of ours. */
TEST(own_path_that_is_gone)
{
    int before = passed_path(path);
    ck_assert_int_eq(unlink(path), 0);
    struct listener *listener = adopt_own(before);
    const struct listen_address here = {.path = path, .mode = 0640};
    ck_assert(!listener_is_at(listener, &here));
    int other = passed_path(path);
    listener_close(listener);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(other);
    close(before);
}

static void expect_refused(int managers, int error)
{
    struct listener *listener = NULL;
    unsigned before = open_descriptors();
    int r = listener_adopt(managers, "test.socket", &listener);
    ck_assert_msg(r == -error, "%s and not %s", strerror(-r), strerror(error));
    ck_assert_ptr_null(listener);
    ck_assert_uint_eq(open_descriptors(), before); /* still the caller's */
    close(managers);
}

TEST(what_cannot_be_served)
{
    expect_refused(open("/dev/null", O_RDONLY | O_CLOEXEC), ENOTSOCK);
    expect_refused(bound_unix(SOCK_DGRAM, path, strlen(path)), ESOCKTNOSUPPORT);
    ck_assert_int_eq(unlink(path), 0);
    expect_refused(bound_unix(SOCK_SEQPACKET, path, strlen(path)), ESOCKTNOSUPPORT);
    expect_refused(bound_unix(SOCK_STREAM, "\0tcpechod-test-abstract", 23), EDESTADDRREQ);
    expect_refused(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), ESOCKTNOSUPPORT);
    expect_refused(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EINVAL);
    expect_refused(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), EAFNOSUPPORT);
    int client, server;
    tcp_pair(0, &client, &server); /* Accept=yes passes such */
    expect_refused(server, EINVAL);
    close(client);
}

static const struct {
    const char *call;
    int error;
    unsigned of_ip, of_path; /* how many such calls there are */
} calls[] = {{"getsockopt", ENOBUFS, 5, 4}, {"getsockname", ENOBUFS, 1, 1}, {"fcntl", EPERM, 2, 2},
             {"calloc", ENOMEM, 1, 1},      {"strdup", ENOMEM, 1, 1},       {"strndup", ENOMEM, 0, 1}};

static void expect_failures(int managers, const char *call, int error, unsigned count)
{
    struct listener *listener = NULL;
    int fd = as_passed(managers);
    unsigned long nth = 0, hits;
    do {
        ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0); /* as it comes */
        fault_arm(call, error, ++nth);
        int r = listener_adopt(fd, "test.socket", &listener);
        hits = fault_disarm();
        ck_assert_int_eq(r, hits > 0 ? -error : 0);
    } while (hits > 0);
    ck_assert_uint_eq(nth - 1, count);
    listener_close(listener);
    close(managers);
}

TEST_EACH(failing_calls, calls)
{
    bool six = has_ipv6(); /* whose IPV6_V6ONLY is asked for */
    expect_failures(passed_ip(six ? "::" : "127.0.0.1", 0, false), c->call, c->error,
                    c->of_ip - (!six && strcmp(c->call, "getsockopt") == 0));
    expect_failures(passed_path(path), c->call, c->error, c->of_path);
}
