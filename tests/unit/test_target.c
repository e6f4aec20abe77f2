#include "client/net/target.h"

#include "capture.h"
#include "client/process/exit_status.h"
#include "faults.h"

#include <sys/un.h>

static struct target target;

static void expect_target(const char *host, const char *port, const char *first)
{
    char text[ENDPOINT_TEXT_SIZE];
    ck_assert_int_eq(target_resolve(host, port, AF_UNSPEC, "", &target), 0);
    ck_assert_uint_ge(target.count, 1);
    ck_assert_str_eq(endpoint_format(&target.items[0], text), first);
    target_clear(&target);
    ck_assert_ptr_null(target.items);
}

TEST(addresses)
{
    char text[TARGET_TEXT_SIZE];
    expect_target("127.0.0.1", NULL, "127.0.0.1:7007");
    expect_target("127.0.0.1", "7", "127.0.0.1:7");
    expect_target("127.0.0.1", "echo", "127.0.0.1:7");
    expect_target("::1", "65535", "[::1]:65535");
    expect_target("[::1]", "1", "[::1]:1");
    expect_target("[fd00::1]:7", NULL, "[fd00::1]:7");
    expect_target("127.0.0.1:8", NULL, "127.0.0.1:8");
    expect_target("127.0.0.1:echo", NULL, "127.0.0.1:7");
    expect_target("tcp://127.0.0.1:8", NULL, "127.0.0.1:8");
    expect_target("TCP://[::1]:8/", NULL, "[::1]:8");
    expect_target("tcp://127.0.0.1", "9", "127.0.0.1:9");
    expect_target("fd00::1:7", NULL, "[fd00::1:7]:7007"); /* an address all of it */
    ck_assert_int_eq(target_resolve("::1", "7", AF_UNSPEC, "", &target), 0);
    ck_assert_str_eq(target_format(&target, text), "::1 port 7");
    target_clear(&target);
}

TEST(paths)
{
    char text[TARGET_TEXT_SIZE], path[200] = "/";
    expect_target("/run/echo.sock", NULL, "/run/echo.sock");
    expect_target("./x", NULL, "./x");
    memset(path + 1, 'x', 106);
    expect_target(path, NULL, path); /* the longest */
    ck_assert_int_eq(target_resolve("/x", NULL, AF_UNSPEC, "", &target), 0);
    ck_assert_str_eq(target_format(&target, text), "/x");
    ck_assert_int_eq(target.items[0].address.ss_family, AF_UNIX);
    target_clear(&target);
}

TEST(a_name)
{
    ck_assert_int_eq(target_resolve("localhost", "7", AF_UNSPEC, "", &target), 0);
    for (size_t i = 0; i < target.count; i++)
        ck_assert_int_ne(target.items[i].address.ss_family, AF_UNIX);
    target_clear(&target);
}

TEST(local)
{
    char text[ENDPOINT_TEXT_SIZE];
    ck_assert_int_eq(target_resolve_local("7777", AF_UNSPEC, &target), 0);
    ck_assert_str_eq(target_format(&target, text), "port 7777");
    target_clear(&target);
    ck_assert_int_eq(target_resolve_local("127.0.0.1:0", AF_UNSPEC, &target), 0);
    ck_assert_str_eq(endpoint_format(&target.items[0], text), "127.0.0.1:0");
    target_clear(&target);
}

#define LONG_NAME                                                                                            \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"   \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"   \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct {
    const char *host, *port;
    int status;
    const char *told;
} refused[] = {
    {"", "7", EXIT_USAGE, "\"\": not the name of a host"},
    {LONG_NAME, "7", EXIT_USAGE, "xxx: not the name of a host"},
    {"/" LONG_NAME, NULL, EXIT_USAGE, "...: the path of a socket has at most 107 bytes"},
    {"/x", "7", EXIT_USAGE, "/x: a path has no port"},
    {"127.0.0.1", "0", EXIT_USAGE, "0: a port is 1 to 65535 or the name of a service"},
    {"127.0.0.1", "65536", EXIT_USAGE, "65536: a port is 1 to 65535"},
    {"127.0.0.1", "", EXIT_USAGE, "\"\": a port is 1 to 65535"},
    {"127.0.0.1", "99999999999999999999999", EXIT_USAGE, ": a port is 1 to 65535"},
    {"127.0.0.1", "no-such-service", EXIT_UNKNOWN_NAME, "no-such-service: no such service in /etc/services"},
    {"no-such-host.invalid", "7", EXIT_UNKNOWN_NAME, "cannot find no-such-host.invalid: "},
    {"no-such-host.invalid:7", NULL, EXIT_UNKNOWN_NAME, "cannot find no-such-host.invalid: "},
    {"no-such-host.invalid:7", "8", EXIT_USAGE,
     "no-such-host.invalid:7: has its port already, and 8 is another argument"},
    {"[::1]:7", "8", EXIT_USAGE, "[::1]:7: has its port already"},
    {"127.0.0.1:", NULL, EXIT_USAGE, "\"\": a port is 1 to 65535"},
    {":7", NULL, EXIT_USAGE, "\"\": not the name of a host"},
    {"http://localhost:7", NULL, EXIT_USAGE, "http://localhost:7: only tcp://HOST:PORT is supported"},
    {"fe80::1%nope", "7", EXIT_UNKNOWN_NAME, "there is no interface nope"},
};

TEST_EACH(refusals, refused)
{
    capture(LOG_LEVEL_DEBUG);
    int status = target_resolve(c->host, c->port, AF_UNSPEC, "", &target);
    const char *told = written();
    ck_assert_int_eq(status, c->status);
    expect_in(told, c->told);
    ck_assert_ptr_null(target.items);
}

TEST(local_refusal)
{
    capture(LOG_LEVEL_DEBUG);
    int status = target_resolve_local("65536", AF_UNSPEC, &target);
    expect_in(written(), "65536: a port is 0 (a free one) to 65535 or the name of a service");
    ck_assert_int_eq(status, EXIT_USAGE);
}

TEST_TIMES(no_memory, 2)
{
    static const char *const hosts[] = {"127.0.0.1", "/run/x"};
    static const char *const calls[] = {"calloc", "strdup"};
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        capture(LOG_LEVEL_DEBUG);
        fault_arm(calls[variant], ENOMEM, 0);
        int status = target_resolve(hosts[i], NULL, AF_UNSPEC, "", &target);
        fault_disarm();
        ck_assert_str_eq(written(), "tcpecho: Cannot allocate memory\n");
        ck_assert_int_eq(status, EXIT_SYSTEM);
    }
}
