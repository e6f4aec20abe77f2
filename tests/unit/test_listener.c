#include "serve/listener.h"

#include "endpoints.h"
#include "faults.h"
#include "serve/services.h"
#include "socket_directory.h"

#include <netinet/tcp.h>
#include <sys/un.h>

FIXTURE(make_directory, remove_directory)

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

static void expect_failure_under(const char *rules, struct listen_address listen_address, int error)
{
    unsigned before = open_descriptors();
    struct listener *listener = NULL;
    fault_rules(rules);
    int r = listener_open(&listen_address, &usual, false, &listener);
    fault_disarm();
    ck_assert_msg(r == -error, "%s and not %s", strerror(-r), strerror(error));
    ck_assert_ptr_null(listener);
    ck_assert_uint_eq(open_descriptors(), before);
}

static void expect_failure(struct listen_address listen_address, int error)
{
    expect_failure_under("", listen_address, error);
}

static int connect_at(const char *address, uint16_t port, int flags)
{
    struct sockaddr_storage name;
    struct address parsed;
    ck_assert_int_eq(address_parse(address, port, &parsed), 0);
    socklen_t length = address_to_sockaddr(&parsed, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    ck_assert_int_ge(fd, 0);
    int r = connect(fd, (struct sockaddr *)&name, length);
    ck_assert(r == 0 || ((flags & SOCK_NONBLOCK) != 0 && errno == EINPROGRESS));
    return fd;
}

static void expect_accepted(struct listener *listener, const char *address, sa_family_t family)
{
    struct address client;
    int client_fd = connect_at(address, listener->port, 0);
    close(accept_one(listener, &client));
    ck_assert_uint_eq(client.family, family);
    close(client_fd);
}

static void expect_path_served(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
}

static void expect_flags(int fd)
{
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(port_zero_is_named)
{
    struct listener *one = open_or_fail(at("127.0.0.1", 0)), *two = open_or_fail(at("127.0.0.1", 0));
    char expected[64];
    snprintf(expected, sizeof expected, "127.0.0.1:%u", port_of(one->source.fd));
    ck_assert_str_eq(one->name, expected);
    ck_assert_uint_eq(one->port, port_of(one->source.fd));
    ck_assert_uint_ne(one->port, two->port);
    ck_assert_uint_gt(one->id, 0);
    ck_assert_uint_gt(two->id, one->id);
    ck_assert(is_at(one, "127.0.0.1", 0)); /* what was asked for stays known */
    expect_flags(one->source.fd);
    listener_close(one);
    listener_close(two);
    listener_close(NULL);
}

TEST(accepts_with_the_address)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    struct address client;
    int fd = -1;
    ck_assert_int_eq(listener_accept(listener, &fd, &client), -EAGAIN);
    int socket_fd = connect_to(listener->port);
    fd = accept_one(listener, &client);
    ck_assert(address_is_loopback(&client));
    ck_assert_uint_eq(client.port, port_of(socket_fd));
    expect_flags(fd);
    close(fd);
    close(socket_fd);
    listener_close(listener);
}

static const struct socket_settings inherited[] = {
    {.backlog = 4, .keepalive_sec = 77, .user_timeout_msec = 4321, .unsent_limit = 54321},
    {.backlog = 4},
};

/* Also what is configured anew. */
TEST(accepted_inherit_options)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    for (size_t i = 0; i < COUNT_OF(inherited); i++) {
        const struct socket_settings *wanted = &inherited[i];
        struct address client;
        ck_assert_int_eq(listener_configure(listener, 0, wanted), 0);
        int socket_fd = connect_to(listener->port);
        int fd = accept_one(listener, &client);
        ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        ck_assert_int_eq(get_socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), wanted->keepalive_sec > 0);
        if (wanted->keepalive_sec > 0)
            ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), wanted->keepalive_sec);
        ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), wanted->user_timeout_msec);
        ck_assert_int_eq(get_socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), wanted->unsent_limit);
        close(fd);
        close(socket_fd);
    }
    listener_close(listener);
}

TEST(wildcard_takes_both_families)
{
    struct listener *listener = open_or_fail(at("*", 0));
    char expected[16];
    snprintf(expected, sizeof expected, "*:%u", port_of(listener->source.fd));
    ck_assert_str_eq(listener->name, expected);
    expect_accepted(listener, "127.0.0.1", AF_INET); /* and not ::ffff:127.0.0.1 */
    if (has_ipv6()) {
        ck_assert(!listener->without_v6);
        expect_accepted(listener, "::1", AF_INET6);
    }
    listener_close(listener);
}

TEST(wildcard_without_ipv6)
{
    struct listen_address any = {.any = true};
    struct listener *listener = NULL;
    fault_arm("socket_inet6", EAFNOSUPPORT, 0);
    int r = listener_open(&any, &usual, false, &listener);
    fault_disarm();
    ck_assert_int_eq(r, 0);
    ck_assert(listener->without_v6);
    ck_assert_int_eq(strncmp(listener->name, "*:", 2), 0);
    expect_accepted(listener, "127.0.0.1", AF_INET);
    listener_close(listener);
}

static const struct {
    const char *rules, *address;
    int error;
} no_sockets[] = {
    {"socket_inet6:EAFNOSUPPORT", "::1", EAFNOSUPPORT},
    /* As RestrictAddressFamilies=AF_UNIX has it. */
    {"socket_inet:EAFNOSUPPORT,socket_inet6:EAFNOSUPPORT", "127.0.0.1", EPFNOSUPPORT},
    {"socket_inet:EAFNOSUPPORT,socket_inet6:EAFNOSUPPORT", "::1", EPFNOSUPPORT},
    {"socket_inet:EAFNOSUPPORT,socket_inet6:EAFNOSUPPORT", "*", EPFNOSUPPORT},
    /* Nobody knows, then. */
    {"socket_inet:EMFILE,socket_inet6:EAFNOSUPPORT", "::1", EMFILE},
    {"socket_inet:EMFILE,socket_inet6:EAFNOSUPPORT", "*", EMFILE},
    {"", "192.0.2.1", EADDRNOTAVAIL}, /* documentation only, RFC 5737 */
};

TEST_EACH(no_socket, no_sockets)
{
    expect_failure_under(c->rules, at(c->address, 0), c->error);
}

TEST(ipv6_address_is_ipv6_only)
{
    if (!has_ipv6())
        return;
    struct listener *six = open_or_fail(at("::", 0));
    ck_assert_int_eq(get_socket_option(six->source.fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    ck_assert_int_eq(strncmp(six->name, "[::]:", 5), 0);
    expect_accepted(six, "::1", AF_INET6);
    listener_close(six);
}

TEST(address_in_use)
{
    struct listener *first = open_or_fail(at("127.0.0.1", 0));
    uint16_t port = first->port;
    expect_failure(at("127.0.0.1", port), EADDRINUSE);
    expect_failure(at("*", port), EADDRINUSE);
    struct address client;
    int socket_fd = connect_to(port);
    close(accept_one(first, &client)); /* the server's end closes first, and so is in TIME_WAIT */
    expect_end(socket_fd);
    close(socket_fd);
    listener_close(first);
    listener_close(open_or_fail(at("127.0.0.1", port)));
}

static const struct {
    const char *call;
    int error;
    bool of_path;
} calls[] = {
    {"bind", EACCES, false},       {"socket", EMFILE, false},       {"listen", EADDRINUSE, false},
    {"setsockopt", ENOMEM, false}, {"getsockname", ENOBUFS, false}, {"calloc", ENOMEM, false},
    {"bind", EACCES, true},        {"socket", EMFILE, true},        {"listen", EADDRINUSE, true},
    {"calloc", ENOMEM, true},      {"fchmod", EPERM, true},         {"strdup", ENOMEM, true},
};

/* Every call on the way may fail, and then nothing is left, nor the path. */
TEST_EACH(failing_calls, calls)
{
    struct listen_address listen_address = c->of_path ? at_path() : at(has_ipv6() ? "*" : "127.0.0.1", 0);
    unsigned before = open_descriptors();
    unsigned long nth = 0, hits;
    do { /* each of several calls of one name */
        struct listener *listener = NULL;
        fault_arm(c->call, c->error, ++nth);
        int r = listener_open(&listen_address, &usual, true, &listener);
        hits = fault_disarm();
        ck_assert_int_eq(r, hits > 0 ? -c->error : 0);
        ck_assert((listener == NULL) == (hits > 0));
        listener_close(listener);
        ck_assert_uint_eq(open_descriptors(), before);
        ck_assert_int_ne(access(path, F_OK), 0);
    } while (hits > 0);
    ck_assert_uint_ge(nth, 2);
}

static unsigned mode_of_path(void)
{
    struct stat there;
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert(S_ISSOCK(there.st_mode));
    return there.st_mode & 07777;
}

/* With its mode, whatever the umask. */
TEST(path_appears_and_goes)
{
    struct address client;
    mode_t before = umask(0777);
    struct listener *listener = open_or_fail(at_path());
    umask(before);
    ck_assert_str_eq(listener->name, path);
    ck_assert_uint_eq(mode_of_path(), 0640);
    expect_path_served();
    close(accept_one(listener, &client));
    ck_assert_uint_eq(client.family, AF_UNIX);
    ck_assert_int_eq(listener_configure(listener, 0600, &usual), 0);
    ck_assert_uint_eq(mode_of_path(), 0600);
    expect_failure(at_path(), EADDRINUSE); /* whatever lives stays */
    expect_path_served();
    listener_share(listener, true); /* means nothing to a path */
    listener_stop_handshakes(listener);
    ck_assert_int_ne(access(path, F_OK), 0);
    listener_close(listener);
}

/* Another process goes on with it. */
TEST(left_path_stays)
{
    struct listener *listener = open_or_fail(at_path());
    int other = fcntl(listener->source.fd, F_DUPFD_CLOEXEC, 0);
    ck_assert(listener_is_own(listener));
    listener_leave(listener);
    ck_assert(!listener_is_own(listener));
    listener_stop_handshakes(listener);
    expect_path_served();
    listener_close(listener);
    expect_path_served();
    ck_assert_uint_eq(mode_of_path(), 0640);
    close(other);
}

TEST(left_port_stays)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    uint16_t port = listener->port;
    int other = fcntl(listener->source.fd, F_DUPFD_CLOEXEC, 0);
    listener_leave(listener);
    listener_stop_handshakes(listener);
    ck_assert_int_eq(get_socket_option(other, IPPROTO_IP, IP_MINTTL), 0);
    int waiting = connect_to(port);
    listener_close(listener);
    int late = connect_to(port);
    for (int i = 0; i < 2; i++) {
        int fd = accept4(other, NULL, NULL, SOCK_CLOEXEC);
        send_text(fd, "hello");
        expect_text(i == 0 ? waiting : late, "hello");
        close(fd);
    }
    close(waiting);
    close(late);
    close(other);
}

static void leave_stale_socket(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
}

TEST(stale_socket_is_replaced)
{
    leave_stale_socket();
    struct listener *listener = open_or_fail(at_path());
    expect_path_served();
    listener_close(listener);
}

TEST(other_files_stay)
{
    struct stat there;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "keep", 4), 4);
    close(fd);
    expect_failure(at_path(), EEXIST);
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_int_eq(there.st_size, 4);
    ck_assert_uint_eq(there.st_mode & 07777, 0600);

    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    expect_failure(at_path(), EEXIST);
    ck_assert_int_eq(lstat(path, &there), 0);
    ck_assert(S_ISLNK(there.st_mode));
}

TEST(somebody_elses_path_stays)
{
    struct listener *first = open_or_fail(at_path());
    char aside[128];
    snprintf(aside, sizeof aside, "%s/aside", directory);
    ck_assert_int_eq(rename(path, aside), 0);
    struct listener *second = open_or_fail(at_path());
    listener_close(first);
    expect_path_served();
    ck_assert_int_eq(unlink(path), 0); /* gone already: nothing to remove, and no complaint */
    listener_close(second);
    ck_assert_int_eq(unlink(aside), 0);
}

TEST(path_lengths)
{
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
    expect_failure((struct listen_address){.path = "/nonexistent/directory/s", .mode = 0666}, ENOENT);
}

/* Any process, ours or not, that has no part in the sharing. Returns 0 or an errno. */
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

TEST(overlap_only_while_shared)
{
    uint16_t port = free_port();
    struct listener *first = open_or_fail(at("127.0.0.1", port)), *second = NULL;
    struct listen_address any = at("*", port);
    ck_assert_int_eq(listener_open(&any, &usual, true, &second), -EADDRINUSE);

    listener_share(first, true);
    /* SO_REUSEPORT comes after SO_REUSEADDR and, with IPv6, IPV6_V6ONLY. */
    fault_rules(has_ipv6() ? "setsockopt:ENOPROTOOPT:3" : "setsockopt:ENOPROTOOPT:2");
    int r = listener_open(&any, &usual, true, &second);
    fault_disarm();
    ck_assert_int_eq(r, -ENOPROTOOPT);
    ck_assert_int_eq(listener_open(&any, &usual, true, &second), 0);
    listener_share(first, false);
    listener_share(second, false);
    ck_assert_int_eq(bind_wildcard(port, false), EADDRINUSE);
    listener_close(first);
    ck_assert_int_eq(bind_wildcard(port, false), EADDRINUSE);
    expect_accepted(second, "127.0.0.1", AF_INET);
    listener_close(second);
    ck_assert_int_eq(bind_wildcard(port, false), 0);
}

/* A reload that needed no overlap leaves no way for others to join in, not even with SO_REUSEPORT. */
TEST(nobody_joins_afterwards)
{
    struct listen_address listen_address = at("127.0.0.1", 0);
    struct listener *old = open_or_fail(listen_address), *new = NULL;
    listener_share(old, true);
    ck_assert_int_eq(listener_open(&listen_address, &usual, true, &new), 0);
    listener_share(old, false);
    listener_share(new, false);
    ck_assert_int_eq(bind_wildcard(old->port, true), EADDRINUSE);
    ck_assert_int_eq(bind_wildcard(new->port, true), EADDRINUSE);
    listener_close(old);
    listener_close(new);
}

TEST(knows_its_place)
{
    struct listener *v4 = open_or_fail(at("127.0.0.1", 0)), *wildcard = open_or_fail(at("*", 0)),
                    *local = open_or_fail(at_path());
    static const struct {
        const char *address;
        uint16_t port;
        bool is_v4, is_wildcard;
    } places[] = {{"127.0.0.1", 0, true, false},  {"127.0.0.1", 1, false, false},
                  {"127.0.0.2", 0, false, false}, {"::1", 0, false, false},
                  {"*", 0, false, true},          {"*", 1, false, false}};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        ck_assert(is_at(v4, places[i].address, places[i].port) == places[i].is_v4);
        ck_assert(is_at(wildcard, places[i].address, places[i].port) == places[i].is_wildcard);
        ck_assert(!is_at(local, places[i].address, places[i].port));
    }
    const struct listen_address other_mode = {.path = path, .mode = 0600},
                                other_path = {.path = "/run/other"};
    ck_assert(listener_is_at(local, &other_mode));
    ck_assert(!listener_is_at(local, &other_path));
    ck_assert(!listener_is_at(wildcard, &other_mode));
    listener_close(v4);
    listener_close(wildcard);
    listener_close(local);
}

static const struct {
    const char *rules;
    int result;
    const char *lacks;
} options[] = {
    {"setsockopt:EDOM:1", -EDOM, ""},
    {"listen:EADDRINUSE:1", -EADDRINUSE, ""},
    /* As MPTCP has not all options of TCP. */
    {"setsockopt:EOPNOTSUPP:2,setsockopt:ENOPROTOOPT:5", 0, "SO_OOBINLINE, TCP_USER_TIMEOUT"},
    {"setsockopt:ENOPROTOOPT", 0,
     "TCP_NODELAY, SO_OOBINLINE, SO_KEEPALIVE, TCP_KEEPIDLE, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT"},
};

TEST_EACH(configured_again, options)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    ck_assert_str_eq(listener->lacks, "");
    for (int again = 0; again < 2; again++) {
        fault_rules(c->rules);
        int r = listener_configure(listener, 0, &usual);
        fault_disarm();
        ck_assert_int_eq(r, c->result);
        ck_assert_str_eq(listener->lacks, c->lacks);
    }
    expect_accepted(listener, "127.0.0.1", AF_INET); /* it goes on listening */
    listener_close(listener);
}

TEST(owns_its_config)
{
    char name[] = "somewhere";
    const struct service_config from = {.service = service_find("echo"), .listener = name};
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    struct service_config *first = service_config_new(&from), *second = service_config_new(&from);
    listener_set_config(listener, service_config_ref(first));
    ck_assert_ptr_eq(listener->config, first);
    listener_set_config(listener, service_config_ref(second));
    ck_assert_uint_eq(atomic_load(&first->references), 1);
    listener_close(listener);
    ck_assert_uint_eq(atomic_load(&second->references), 1);
    service_config_unref(first);
    service_config_unref(second);
}

static const int passed_over[] = {ECONNABORTED, EINTR,  EPERM,        EPROTO,      ENETDOWN, ENOPROTOOPT,
                                  EHOSTDOWN,    ENONET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
static const int short_of[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
static const int broken[] = {EBADF, EINVAL, ENOTSOCK};

static void expect_class(int error, int expected)
{
    struct listener *listener = open_or_fail(at("127.0.0.1", 0));
    struct address client;
    int fd = -7;
    fault_arm("accept4", error, 1);
    int r = listener_accept(listener, &fd, &client);
    fault_disarm();
    ck_assert_int_eq(r, -expected);
    ck_assert_int_eq(fd, -7);
    listener_close(listener);
}

TEST_EACH(client_that_is_gone, passed_over)
{
    expect_class(*c, ECONNABORTED);
}

TEST_EACH(shortage, short_of)
{
    expect_class(*c, EMFILE);
}

TEST_EACH(broken_socket, broken)
{
    expect_class(*c, *c);
}

static const char *const loopbacks[] = {"127.0.0.1", "::1"};

TEST_EACH(stopped_handshakes, loopbacks)
{
    if (strchr(*c, ':') && !has_ipv6())
        return;
    struct listener *listener = open_or_fail(at(*c, 0));
    struct address client;
    int early = connect_at(*c, listener->port, 0);
    ck_assert(becomes_readable(listener->source.fd));
    listener_stop_handshakes(listener);

    int late = connect_at(*c, listener->port, SOCK_NONBLOCK);
    struct pollfd item = {.fd = late, .events = POLLOUT};
    ck_assert_int_eq(poll(&item, 1, 0), 0); /* on loopback it would be complete, or refused, by now */

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

TEST(ids_go_on_after_those_of_another_process)
{
    struct listener *first = listener_new();
    listener_restore_last_id(first->id + 10);
    listener_restore_last_id(first->id + 5); /* none is given twice */
    struct listener *second = listener_new();
    ck_assert_uint_eq(second->id, first->id + 11);
    ck_assert_uint_eq(listener_last_id(), second->id);
    listener_close(first);
    listener_close(second);
}
