#include "serve/listener.h"

#include "common.h"
#include "faults.h"
#include "serve/services.h"
#include "socket_directory.h"

#include <netinet/tcp.h>
#include <sys/un.h>

static const struct socket_settings usual = {.backlog = 16, .keepalive_sec = 60, .user_timeout_msec = 60000};

static struct listen_address at(const char *text, uint16_t port)
{
    struct listen_address listen_address = {.port = port};
    ck_assert_int_eq(address_parse(text, port, &listen_address.at), 0);
    return listen_address;
}

static struct listen_address at_path(void)
{
    return (struct listen_address){.path = path, .mode = 0640};
}

static struct listener *open_or_fail(struct listen_address listen_address)
{
    struct listener *listener = NULL;
    int r = listener_open(&listen_address, &usual, false, &listener);
    ck_assert_msg(r == 0, "%s", strerror(-r));
    ck_assert_ptr_nonnull(listener);
    return listener;
}

static void expect_failure(struct listen_address listen_address, int error)
{
    unsigned before = open_descriptors();
    struct listener *listener = NULL;
    int r = listener_open(&listen_address, &usual, false, &listener);
    ck_assert_msg(r == -error, "%s and not %s", strerror(-r), strerror(error));
    ck_assert_ptr_null(listener);
    ck_assert_uint_eq(open_descriptors(), before);
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

static int connect_v6(uint16_t port)
{
    struct sockaddr_in6 name = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

/* Returns the connected socket, or a negative errno. */
static int try_path(const char *where)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

static int accept_one(struct listener *listener, struct address *client)
{
    int fd = -1;
    ck_assert(becomes_readable(listener->source.fd));
    ck_assert_int_eq(listener_accept(listener, &fd, client), 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(port_zero_is_named)
{
    struct listener *one = open_or_fail(at("127.0.0.1", 0)), *two = open_or_fail(at("127.0.0.1", 0));
    char expected[64];
    ck_assert_uint_ne(port_of(one->source.fd), 0);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", port_of(one->source.fd));
    ck_assert_str_eq(one->name, expected);
    ck_assert_uint_ne(port_of(one->source.fd), port_of(two->source.fd));
    ck_assert_uint_gt(one->id, 0);
    ck_assert_uint_gt(two->id, one->id);
    ck_assert_uint_eq(one->listen_address.port, 0); /* what was asked for stays known */
    ck_assert_int_eq(fcntl(one->source.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(one->source.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    listener_close(one);
    listener_close(two);
    listener_close(NULL);
}
END_TEST

START_TEST(accepts_with_the_address)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    struct address client;
    int fd = -1;
    ck_assert_int_eq(listener_accept(listener, &fd, &client), -EAGAIN);
    int socket_fd = connect_to(port_of(listener->source.fd));
    fd = accept_one(listener, &client);
    ck_assert_uint_eq(client.family, AF_INET);
    ck_assert(address_is_loopback(&client));
    ck_assert_uint_eq(client.port, port_of(socket_fd));
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close(fd);
    close(socket_fd);
    listener_close(listener);
}
END_TEST

START_TEST(accepted_inherit_options)
{
    const struct socket_settings settings = {
        .backlog = 4, .keepalive_sec = 77, .user_timeout_msec = 4321, .unsent_limit = 54321};
    const struct socket_settings off = {.backlog = 4};
    struct listen_address listen_address = at("127.0.0.1", 0);
    struct listener *listener = NULL;
    struct address client;
    ck_assert_int_eq(listener_open(&listen_address, &settings, false, &listener), 0);
    int socket_fd = connect_to(port_of(listener->source.fd));
    int fd = accept_one(listener, &client);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(get_socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 4321);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 54321);
    close(fd);
    close(socket_fd);

    ck_assert_int_eq(listener_configure(listener, 0, &off), 0);
    socket_fd = connect_to(port_of(listener->source.fd));
    fd = accept_one(listener, &client);
    ck_assert_int_eq(get_socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 0);
    close(fd);
    close(socket_fd);
    listener_close(listener);
}
END_TEST

START_TEST(wildcard_takes_both_families)
{
    struct listener *listener = open_or_fail((struct listen_address){.any = true});
    uint16_t port = port_of(listener->source.fd);
    char expected[16];
    struct address client;
    snprintf(expected, sizeof expected, "*:%u", port);
    ck_assert_str_eq(listener->name, expected);
    int v4 = connect_to(port);
    int fd = accept_one(listener, &client);
    ck_assert_uint_eq(client.family, AF_INET); /* and not ::ffff:127.0.0.1 */
    close(fd);
    close(v4);
    if (has_ipv6()) {
        ck_assert(!listener->without_v6);
        int v6 = connect_v6(port);
        fd = accept_one(listener, &client);
        ck_assert_uint_eq(client.family, AF_INET6);
        close(fd);
        close(v6);
    }
    listener_close(listener);
}
END_TEST

START_TEST(wildcard_without_ipv6)
{
    struct listen_address any = {.any = true};
    struct listener *listener = NULL;
    struct address client;
    fault_arm("socket_inet6", EAFNOSUPPORT, 0);
    int r = listener_open(&any, &usual, false, &listener);
    fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert(listener->without_v6);
    ck_assert_int_eq(strncmp(listener->name, "*:", 2), 0);
    int v4 = connect_to(port_of(listener->source.fd));
    close(accept_one(listener, &client));
    close(v4);
    listener_close(listener);

    fault_arm("socket_inet6", EAFNOSUPPORT, 0);
    struct listen_address six = at("::1", 0);
    r = listener_open(&six, &usual, false, &listener);
    fault_disarm();
    ck_assert_int_eq(r, -EAFNOSUPPORT);
}
END_TEST

/* As RestrictAddressFamilies=AF_UNIX has it. */
START_TEST(no_ip_socket_at_all)
{
    struct listen_address endpoints[] = {at("127.0.0.1", 0), at("::1", 0), {.any = true}};
    for (size_t i = 0; i < COUNT_OF(endpoints); i++) {
        fault_rules("socket_inet:EAFNOSUPPORT,socket_inet6:EAFNOSUPPORT");
        expect_failure(endpoints[i], EPFNOSUPPORT);
        fault_disarm();
    }
    fault_rules("socket_inet:EMFILE,socket_inet6:EAFNOSUPPORT"); /* nobody knows, then */
    expect_failure(endpoints[1], EMFILE);
    expect_failure(endpoints[2], EMFILE);
    fault_disarm();
}
END_TEST

START_TEST(ipv6_address_is_ipv6_only)
{
    if (!has_ipv6())
        return;
    struct listener *six = open_or_fail(at("::", 0));
    uint16_t port = port_of(six->source.fd);
    ck_assert_int_eq(get_socket_option(six->source.fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    ck_assert_int_eq(strncmp(six->name, "[::]:", 5), 0);
    int fd = connect_v6(port);
    struct address client;
    close(accept_one(six, &client));
    close(fd);
    listener_close(six);
}
END_TEST

START_TEST(address_in_use)
{
    struct listener *first = open_or_fail(at("127.0.0.1", 0));
    uint16_t port = port_of(first->source.fd);
    expect_failure(at("127.0.0.1", port), EADDRINUSE);
    expect_failure((struct listen_address){.any = true, .port = port}, EADDRINUSE);
    listener_close(first);
    listener_close(open_or_fail(at("127.0.0.1", port)));
}
END_TEST

START_TEST(binds_beside_time_wait)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    uint16_t port = port_of(listener->source.fd);
    struct address client;
    int socket_fd = connect_to(port);
    close(accept_one(listener, &client)); /* the server's end closes first, and so waits */
    expect_end(socket_fd);
    close(socket_fd);
    listener_close(listener);
    listener_close(open_or_fail(at("127.0.0.1", port)));
}
END_TEST

START_TEST(foreign_address)
{
    expect_failure(at("192.0.2.1", 0), EADDRNOTAVAIL); /* documentation only, RFC 5737 */
}
END_TEST

/* Every call on the way may fail, and then nothing is left, nor the path. */
START_TEST(failing_calls)
{
    static const struct {
        const char *call;
        int error;
        bool ip, unix_path;
    } cases[] = {
        {"bind", EACCES, true, true},          {"socket", EMFILE, true, true},
        {"listen", EADDRINUSE, true, true},    {"setsockopt", ENOMEM, true, false},
        {"getsockname", ENOBUFS, true, false}, {"calloc", ENOMEM, true, true},
        {"fchmod", EPERM, false, true},        {"strdup", ENOMEM, false, true},
    };
    make_directory();
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (int is_path = 0; is_path < 2; is_path++) {
            if (is_path ? !cases[i].unix_path : !cases[i].ip)
                continue;
            struct listen_address listen_address =
                is_path ? at_path() : (struct listen_address){.any = has_ipv6()};
            if (!is_path && !listen_address.any)
                listen_address = at("127.0.0.1", 0);
            struct listener *listener = NULL;
            unsigned before = open_descriptors();
            unsigned long nth = 0, hits;
            do { /* each of several calls of one name */
                fault_arm(cases[i].call, cases[i].error, ++nth);
                int r = listener_open(&listen_address, &usual, true, &listener);
                hits = fault_disarm();
                if (hits > 0) {
                    ck_assert_msg(r == -cases[i].error, "%s: %d", cases[i].call, r);
                    ck_assert_ptr_null(listener);
                }
                listener_close(listener);
                listener = NULL;
                ck_assert_uint_eq(open_descriptors(), before);
                ck_assert_int_ne(access(path, F_OK), 0);
            } while (hits > 0);
            ck_assert_uint_ge(nth, 2);
        }
    remove_directory();
}
END_TEST

START_TEST(path_appears_and_goes)
{
    make_directory();
    struct listener *listener = open_or_fail(at_path());
    struct stat there;
    ck_assert_str_eq(listener->name, path);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert(S_ISSOCK(there.st_mode));
    ck_assert_uint_eq(there.st_mode & 07777, 0640);
    int client_fd = try_path(path);
    ck_assert_int_ge(client_fd, 0);
    struct address client;
    int fd = accept_one(listener, &client);
    ck_assert_uint_ne(client.family, AF_INET);
    ck_assert_uint_ne(client.family, AF_INET6);
    close(fd);
    close(client_fd);

    ck_assert_int_eq(listener_configure(listener, 0600, &usual), 0);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0600);
    listener_share(listener, true); /* means nothing to a path */
    listener_stop_handshakes(listener);
    listener_close(listener);
    ck_assert_int_ne(access(path, F_OK), 0);
    remove_directory();
}
END_TEST

START_TEST(path_that_cannot_be_looked_at)
{
    struct listen_address listen_address = at_path();
    struct listener *listener = NULL;
    make_directory();
    fault_arm("lstat", EIO, 2); /* the first looks at the lock */
    int r = listener_open(&listen_address, &usual, false, &listener);
    fault_disarm();
    ck_assert_int_eq(r, -EIO);
    ck_assert_ptr_null(listener);
    remove_directory();
}
END_TEST

START_TEST(path_mode_ignores_umask)
{
    make_directory();
    mode_t before = umask(0777);
    struct listen_address listen_address = at_path();
    listen_address.mode = 0666;
    struct listener *listener = open_or_fail(listen_address);
    umask(before);
    struct stat there;
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert_uint_eq(there.st_mode & 07777, 0666);
    listener_close(listener);
    remove_directory();
}
END_TEST

static void leave_stale_socket(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
}

START_TEST(stale_socket_is_replaced)
{
    make_directory();
    leave_stale_socket();
    struct listener *listener = open_or_fail(at_path());
    int fd = try_path(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    listener_close(listener);
    remove_directory();
}
END_TEST

START_TEST(stale_socket_that_cannot_be_replaced)
{
    make_directory();
    static const struct {
        const char *rules;
        int error;
    } cases[] = {
        {"unlink:EACCES:1", EACCES}, {"bind:ENOSPC:2", ENOSPC},   {"connect:EAGAIN:1", EADDRINUSE},
        {"connect:EACCES:1", EPERM}, {"socket:EMFILE:2", EMFILE},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct listen_address listen_address = at_path();
        struct listener *listener = NULL;
        unlink(path);
        leave_stale_socket();
        unsigned before = open_descriptors();
        fault_rules(cases[i].rules);
        int r = listener_open(&listen_address, &usual, false, &listener);
        fault_disarm();
        ck_assert_msg(r == -cases[i].error, "%s: %s", cases[i].rules, strerror(-r));
        ck_assert_uint_eq(open_descriptors(), before);
    }
    remove_directory();
}
END_TEST

START_TEST(living_socket_stays)
{
    make_directory();
    struct listener *first = open_or_fail(at_path());
    expect_failure(at_path(), EADDRINUSE);
    int fd = try_path(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    listener_close(first);
    remove_directory();
}
END_TEST

START_TEST(other_files_stay)
{
    make_directory();
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "keep", 4), 4);
    close(fd);
    expect_failure(at_path(), EEXIST);
    struct stat there;
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_int_eq(there.st_size, 4);
    ck_assert_uint_eq(there.st_mode & 07777, 0600);

    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    expect_failure(at_path(), EEXIST);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert(S_ISLNK(there.st_mode));
    remove_directory();
}
END_TEST

START_TEST(somebody_elses_path_stays)
{
    make_directory();
    struct listener *first = open_or_fail(at_path());
    char aside[128];
    snprintf(aside, sizeof aside, "%s/aside", directory);
    ck_assert_int_eq(rename(path, aside), 0);
    struct listener *second = open_or_fail(at_path());
    listener_close(first);
    int fd = try_path(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(unlink(path), 0); /* gone already: nothing to remove, and no complaint */
    listener_close(second);
    ck_assert_int_eq(unlink(aside), 0);
    remove_directory();
}
END_TEST

START_TEST(path_lengths)
{
    make_directory();
    char longest[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, path, strlen(path));
    struct listen_address listen_address = {.path = longest, .mode = 0666};
    longest[sizeof longest - 1] = '\0';
    expect_failure(listen_address, ENAMETOOLONG);
    longest[sizeof longest - 2] = '\0';
    struct listener *listener = open_or_fail(listen_address);
    ck_assert_str_eq(listener->name, longest);
    listener_close(listener);
    ck_assert_int_ne(access(longest, F_OK), 0);
    remove_directory();
}
END_TEST

START_TEST(missing_directory)
{
    make_directory();
    remove_directory();
    expect_failure(at_path(), ENOENT);
}
END_TEST

/* Any process, ours or not, that has no part in the sharing. */
static int bind_wildcard(uint16_t port, bool reuse_port)
{
    struct sockaddr_in name = loopback(port);
    name.sin_addr.s_addr = htonl(INADDR_ANY);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    set_socket_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_socket_option(fd, SOL_SOCKET, SO_REUSEPORT, reuse_port);
    int r = bind(fd, (struct sockaddr *)&name, sizeof name);
    int error = errno;
    close(fd);
    return r == 0 ? 0 : error;
}

START_TEST(overlap_only_while_shared)
{
    uint16_t port = free_port();
    struct listener *first = open_or_fail(at("127.0.0.1", port)), *second = NULL;
    struct listen_address any = {.any = true, .port = port};
    ck_assert_int_eq(listener_open(&any, &usual, true, &second), -EADDRINUSE);

    listener_share(first, true);
    int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* SO_REUSEPORT comes behind SO_REUSEADDR and, with IPv6, IPV6_V6ONLY. */
    fault_rules(six < 0 ? "setsockopt:ENOPROTOOPT:2" : "setsockopt:ENOPROTOOPT:3");
    int r = listener_open(&any, &usual, true, &second);
    fault_disarm();
    ck_assert_int_eq(r, -ENOPROTOOPT);
    if (six >= 0)
        close(six);
    ck_assert_int_eq(listener_open(&any, &usual, true, &second), 0);
    listener_share(first, false);
    listener_share(second, false);
    ck_assert_int_eq(bind_wildcard(port, false), EADDRINUSE);
    listener_close(first);
    ck_assert_int_eq(bind_wildcard(port, false), EADDRINUSE);

    struct address client;
    int fd = connect_to(port);
    close(accept_one(second, &client));
    close(fd);
    listener_close(second);
    ck_assert_int_eq(bind_wildcard(port, false), 0);
}
END_TEST

/* A reload that needed no overlap leaves no way for others to join in, not even with SO_REUSEPORT. */
START_TEST(nobody_joins_afterwards)
{
    struct listen_address listen_address = at("127.0.0.1", 0);
    struct listener *old = open_or_fail(listen_address), *new = NULL;
    listener_share(old, true);
    ck_assert_int_eq(listener_open(&listen_address, &usual, true, &new), 0);
    listener_share(old, false);
    listener_share(new, false);
    ck_assert_int_eq(bind_wildcard(port_of(old->source.fd), true), EADDRINUSE);
    ck_assert_int_eq(bind_wildcard(port_of(new->source.fd), true), EADDRINUSE);
    listener_close(old);
    listener_close(new);
}
END_TEST

START_TEST(knows_its_place)
{
    make_directory();
    struct listener *v4 = open_or_fail(at("127.0.0.1", 0));
    struct listen_address same = at("127.0.0.1", 0), other_port = at("127.0.0.1", 1),
                          other_ip = at("127.0.0.2", 0);
    struct listen_address any = {.any = true}, six = at("::1", 0);
    ck_assert(listener_is_at(v4, &same));
    ck_assert(!listener_is_at(v4, &other_port));
    ck_assert(!listener_is_at(v4, &other_ip));
    ck_assert(!listener_is_at(v4, &six));
    ck_assert(!listener_is_at(v4, &any));

    struct listener *wildcard = open_or_fail(any);
    struct listen_address any_other_port = {.any = true, .port = 1};
    ck_assert(listener_is_at(wildcard, &any));
    ck_assert(!listener_is_at(wildcard, &any_other_port));
    ck_assert(!listener_is_at(wildcard, &same));

    struct listener *local = open_or_fail(at_path());
    struct listen_address other_mode = {.path = path, .mode = 0600},
                          other_path = {.path = "/run/other", .mode = 0640};
    ck_assert(listener_is_at(local, &other_mode));
    ck_assert(!listener_is_at(local, &other_path));
    ck_assert(!listener_is_at(local, &any));
    ck_assert(!listener_is_at(wildcard, &other_mode));
    listener_close(v4);
    listener_close(wildcard);
    listener_close(local);
    remove_directory();
}
END_TEST

START_TEST(configure_reports_failures)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    static const struct {
        const char *call;
        int error;
    } cases[] = {{"setsockopt", EDOM}, {"listen", EADDRINUSE}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        fault_arm(cases[i].call, cases[i].error, 1);
        int r = listener_configure(listener, 0, &usual);
        fault_disarm();
        ck_assert_int_eq(r, -cases[i].error);
    }
    int fd = connect_to(port_of(listener->source.fd)); /* it goes on listening */
    close(fd);
    listener_close(listener);
}
END_TEST

/* As MPTCP has not all options of TCP. */
START_TEST(options_that_the_socket_has_not)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    ck_assert_str_eq(listener->lacks, "");
    for (int again = 0; again < 2; again++) {
        fault_rules("setsockopt:EOPNOTSUPP:2,setsockopt:ENOPROTOOPT:5");
        int r = listener_configure(listener, 0, &usual);
        unsigned long hits = fault_disarm();
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(hits, 2);
        ck_assert_str_eq(listener->lacks, "SO_OOBINLINE, TCP_USER_TIMEOUT");
    }
    fault_rules("setsockopt:ENOPROTOOPT");
    int r = listener_configure(listener, 0, &usual);
    fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert_str_eq(listener->lacks,
                     "SO_OOBINLINE, TCP_USER_TIMEOUT, TCP_NODELAY, SO_KEEPALIVE, TCP_KEEPIDLE, "
                     "TCP_NOTSENT_LOWAT");
    listener_close(listener);
}
END_TEST

START_TEST(owns_config_and_rules)
{
    char name[] = "somewhere";
    const struct service_config from = {.service = service_find("echo"), .listener = name};
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    struct service_config *first = service_config_new(&from), *second = service_config_new(&from);
    struct admission_rules rules = {.per_source = 5, .scope = 3};
    rules.allow = (struct prefix_list){malloc(sizeof(struct prefix)), 1};
    rules.deny = (struct prefix_list){malloc(sizeof(struct prefix)), 1};
    listener_set_config(listener, service_config_ref(first), &rules);
    ck_assert_ptr_eq(listener->config, first);
    ck_assert_uint_eq(listener->rules.per_source, 5);
    ck_assert_uint_eq(listener->rules.allow.count, 1);
    ck_assert_ptr_null(rules.allow.items); /* taken over */
    ck_assert_ptr_null(rules.deny.items);

    struct admission_rules none = {0};
    listener_set_config(listener, service_config_ref(second), &none);
    ck_assert_uint_eq(atomic_load(&first->references), 1);
    ck_assert_uint_eq(listener->rules.deny.count, 0);
    listener_close(listener);
    ck_assert_uint_eq(atomic_load(&second->references), 1);
    service_config_unref(first);
    service_config_unref(second);
}
END_TEST

START_TEST(accept_errors_are_classed)
{
    static const struct {
        int error, class;
    } cases[] = {
        {EAGAIN, EAGAIN},
        {EMFILE, EMFILE},
        {ENFILE, EMFILE},
        {ENOBUFS, EMFILE},
        {ENOMEM, EMFILE},
        {ECONNABORTED, ECONNABORTED},
        {EINTR, ECONNABORTED},
        {EPERM, ECONNABORTED},
        {EPROTO, ECONNABORTED},
        {ENETDOWN, ECONNABORTED},
        {ENOPROTOOPT, ECONNABORTED},
        {EHOSTDOWN, ECONNABORTED},
        {ENONET, ECONNABORTED},
        {EHOSTUNREACH, ECONNABORTED},
        {ENETUNREACH, ECONNABORTED},
        {ETIMEDOUT, ECONNABORTED},
        {EBADF, EBADF},
        {EINVAL, EINVAL},
        {ENOTSOCK, ENOTSOCK},
    };
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct address client;
        int fd = -7;
        fault_arm("accept4", cases[i].error, 1);
        int r = listener_accept(listener, &fd, &client);
        fault_disarm();
        ck_assert_msg(r == -cases[i].class, "%s: %d", strerror(cases[i].error), r);
        ck_assert_int_eq(fd, -7);
    }
    listener_close(listener);
}
END_TEST

static void stop_handshakes(const char *address)
{
    struct listener *listener = open_or_fail(at(address, 0));
    struct address client, name;
    struct sockaddr_storage sockaddr;
    ck_assert_int_eq(address_parse(address, listener->port, &name), 0);
    socklen_t length = address_to_sockaddr(&name, &sockaddr);
    int early = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(early, (struct sockaddr *)&sockaddr, length), 0);
    ck_assert(becomes_readable(listener->source.fd));
    listener_stop_handshakes(listener);

    int late = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(connect(late, (struct sockaddr *)&sockaddr, length), -1);
    ck_assert_int_eq(errno, EINPROGRESS); /* on loopback it would be complete, or refused, by now */
    struct pollfd item = {.fd = late, .events = POLLOUT};
    ck_assert_int_eq(poll(&item, 1, 0), 0);

    /* Who had connected can be had, and is served. */
    int fd = accept_one(listener, &client);
    send_text(early, "question");
    expect_text(fd, "question");
    send_text(fd, "answer");
    expect_text(early, "answer");
    ck_assert_int_eq(get_socket_option(fd, IPPROTO_IP, IP_MINTTL), 0);
    close(fd);
    close(early);
    ck_assert_int_eq(listener_accept(listener, &fd, &client), -EAGAIN);
    close(late);
    listener_close(listener);
}

START_TEST(stopped_handshakes)
{
    stop_handshakes("127.0.0.1");
}
END_TEST

START_TEST(stopped_handshakes_of_ipv6)
{
    if (!has_ipv6())
        return;
    stop_handshakes("::1");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("listener");
    tcase_add_test(tests, port_zero_is_named);
    tcase_add_test(tests, accepts_with_the_address);
    tcase_add_test(tests, accepted_inherit_options);
    tcase_add_test(tests, wildcard_takes_both_families);
    tcase_add_test(tests, wildcard_without_ipv6);
    tcase_add_test(tests, no_ip_socket_at_all);
    tcase_add_test(tests, ipv6_address_is_ipv6_only);
    tcase_add_test(tests, address_in_use);
    tcase_add_test(tests, binds_beside_time_wait);
    tcase_add_test(tests, foreign_address);
    tcase_add_test(tests, failing_calls);
    tcase_add_test(tests, path_appears_and_goes);
    tcase_add_test(tests, path_that_cannot_be_looked_at);
    tcase_add_test(tests, path_mode_ignores_umask);
    tcase_add_test(tests, stale_socket_is_replaced);
    tcase_add_test(tests, stale_socket_that_cannot_be_replaced);
    tcase_add_test(tests, living_socket_stays);
    tcase_add_test(tests, other_files_stay);
    tcase_add_test(tests, somebody_elses_path_stays);
    tcase_add_test(tests, path_lengths);
    tcase_add_test(tests, missing_directory);
    tcase_add_test(tests, overlap_only_while_shared);
    tcase_add_test(tests, nobody_joins_afterwards);
    tcase_add_test(tests, knows_its_place);
    tcase_add_test(tests, configure_reports_failures);
    tcase_add_test(tests, options_that_the_socket_has_not);
    tcase_add_test(tests, owns_config_and_rules);
    tcase_add_test(tests, accept_errors_are_classed);
    tcase_add_test(tests, stopped_handshakes);
    tcase_add_test(tests, stopped_handshakes_of_ipv6);
    return run_case(tests);
}
