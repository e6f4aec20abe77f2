#include "daemon/passed_sockets.h"

#include "capture.h"
#include "faults.h"
#include "passed.h"
#include "serve/listener.h"

#include <sys/wait.h>

static struct passed_sockets passed;
static struct list listeners;
static const char *logged;

static void set_environment(const char *count, const char *names)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", count, 1);
    if (names)
        setenv("LISTEN_FDNAMES", names, 1);
    else
        unsetenv("LISTEN_FDNAMES");
}

static int receive(const char *rules)
{
    memset(&passed, 0xff, sizeof passed);
    capture(LOG_LEVEL_DEBUG);
    fault_rules(rules);
    int r = passed_sockets_receive(&passed, NULL);
    fault_disarm();
    logged = written();
    ck_assert_ptr_null(getenv("LISTEN_PID"));
    ck_assert_ptr_null(getenv("LISTEN_FDS"));
    ck_assert_ptr_null(getenv("LISTEN_FDNAMES"));
    return r;
}

/* The numbers from 3 on are in use by the test; a child may take them. Returns its failure, or NULL. */
static const char *receive_two(const char *names, const char *first, const char *second)
{
    int one = fcntl(passed_ip("127.0.0.1", 0, false), F_DUPFD_CLOEXEC, 100);
    if (dup2(one, 3) != 3 || dup2(one, 4) != 4)
        return "dup2";
    set_environment("2", names);
    if (passed_sockets_receive(&passed, NULL) != 0)
        return "receive";
    if (passed.count != 2 || passed.items[0].fd != 3 || passed.items[1].fd != 4)
        return "descriptors";
    if (strcmp(passed.items[0].name, first) != 0 || strcmp(passed.items[1].name, second) != 0)
        return "names";
    if (!(fcntl(3, F_GETFD) & FD_CLOEXEC) || !(fcntl(4, F_GETFD) & FD_CLOEXEC))
        return "FD_CLOEXEC";
    if (getenv("LISTEN_FDS"))
        return "environment";
    passed_sockets_clear(&passed);
    if (fcntl(3, F_GETFD) != -1 || fcntl(4, F_GETFD) != -1 || passed.count != 0)
        return "clear";
    return NULL;
}

static void expect_two(const char *names, const char *first, const char *second)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const char *failure = receive_two(names, first, second);
        if (failure)
            dprintf(STDERR_FILENO, "%s\n", failure);
        _exit(failure != NULL);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

TEST(none)
{
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    ck_assert_int_eq(receive(""), 0);
    ck_assert_uint_eq(passed.count, 0);
    ck_assert_str_eq(logged, "");
    set_environment("2", NULL); /* those of another process */
    setenv("LISTEN_PID", "1", 1);
    ck_assert_int_eq(receive(""), 0);
    ck_assert_uint_eq(passed.count, 0);
    list_init(&listeners);
    ck_assert_int_eq(passed_sockets_adopt(&passed, &listeners, NULL), 0);
    passed_sockets_clear(&passed);
}

TEST(descriptors_and_names)
{
    expect_two("echo.socket:other", "echo.socket", "other");
    expect_two(NULL, "unknown", "unknown");
}

TEST(what_cannot_be_received)
{
    static const char *const counts[] = {"abc", "", "-1", "0", "2147483647", "99999999999999999999", "1 "};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        set_environment(counts[i], NULL);
        ck_assert_msg(receive("") < 0, "LISTEN_FDS=%s", counts[i]);
        expect_in(logged, "error: cannot take the passed sockets: LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES");
        ck_assert_uint_eq(passed.count, 0);
    }
    set_environment("1", NULL);
    setenv("LISTEN_PID", "me", 1);
    ck_assert_int_eq(receive(""), -EINVAL);
    set_environment("5000", NULL); /* above what is open */
    ck_assert_int_eq(receive(""), -EBADF);
    expect_in(logged, "fewer descriptors are open than LISTEN_FDS");
    ck_assert_int_eq(receive("sd_listen_fds_with_names:ENOMEM"), -ENOMEM);
    expect_in(logged, "error: cannot take the passed sockets: Cannot allocate memory");
}

static void table_of(const int *fds, size_t count)
{
    passed = (struct passed_sockets){calloc(count, sizeof *passed.items), count};
    for (size_t i = 0; i < count; i++) {
        char name[sizeof "unit" + 3 * sizeof i];
        snprintf(name, sizeof name, "unit%zu", i);
        passed.items[i] = (struct passed_socket){fds[i], strdup(name)};
    }
    list_init(&listeners);
}

static int adopt(const char *rules)
{
    capture(LOG_LEVEL_DEBUG);
    fault_rules(rules);
    int r = passed_sockets_adopt(&passed, &listeners, NULL);
    fault_disarm();
    logged = written();
    return r;
}

static unsigned close_listeners(void)
{
    unsigned count = 0;
    LIST_FOR_EACH(link, &listeners)
    {
        list_remove(link);
        listener_close(CONTAINER_OF(link, struct listener, link));
        count++;
    }
    return count;
}

TEST(listeners_of_all)
{
    unsigned before = open_descriptors();
    const int fds[] = {passed_ip("127.0.0.1", 0, false), passed_ip("127.0.0.1", 0, false)};
    table_of(fds, COUNT_OF(fds));
    ck_assert_int_eq(adopt(""), 0);
    ck_assert_str_eq(logged, "");
    const struct listener *first = CONTAINER_OF(listeners.next, struct listener, link);
    ck_assert_int_eq(first->source.fd, fds[0]);
    ck_assert_str_eq(first->passed_as, "unit0");
    passed_sockets_clear(&passed); /* they are the listeners' */
    ck_assert_int_eq(get_socket_option(fds[0], SOL_SOCKET, SO_ACCEPTCONN), 1);
    ck_assert_uint_eq(close_listeners(), 2);
    ck_assert_uint_eq(open_descriptors(), before);
}

TEST(every_wrong_one_is_named)
{
    unsigned before = open_descriptors();
    int pipe_ends[2], client, server;
    FILE *file = tmpfile();
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    tcp_pair(0, &client, &server);
    const int fds[] = {
        fcntl(fileno(file), F_DUPFD_CLOEXEC, 3),
        pipe_ends[0],
        open("/dev/null", O_RDONLY | O_CLOEXEC),
        open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
        socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0),
        bound_unix(SOCK_STREAM, "\0tcpechod-test-passed", 21),
        server,
        passed_ip("127.0.0.1", 0, false),
    };
    static const char *const told[] = {
        "as unit0, is a file; ",
        "as unit1, is a pipe; ",
        "as unit2, is a device; ",
        "as unit3, is no socket; ",
        "as unit4, is a datagram socket; ",
        "as unit5, is a sequential packet socket; ",
        "as unit6, is a socket of another family than IPv4, IPv6 and Unix; ",
        "as unit7, is a Unix socket without a path; ",
        "as unit8, is a socket that does not listen",
    };
    fclose(file);
    close(pipe_ends[1]);
    close(client);
    table_of(fds, COUNT_OF(fds));
    ck_assert_int_lt(adopt(""), 0);
    for (size_t i = 0; i < COUNT_OF(told); i++) {
        char descriptor[64];
        expect_in(logged, told[i]);
        snprintf(descriptor, sizeof descriptor, "error: cannot listen: descriptor %d, passed", fds[i]);
        expect_in(logged, descriptor);
    }
    expect_in(logged, "ListenStream=");
    ck_assert_ptr_null(strstr(logged, "unit9"));
    passed_sockets_clear(&passed);
    ck_assert_uint_eq(close_listeners(), 1);
    ck_assert_uint_eq(open_descriptors(), before);
}

TEST(failing_calls)
{
    const int fds[] = {passed_ip("127.0.0.1", 0, false)};
    table_of(fds, COUNT_OF(fds));
    ck_assert_int_eq(adopt("getsockname:ENOBUFS"), -ENOBUFS);
    expect_in(logged, "as unit0: No buffer space available");
    ck_assert(list_is_empty(&listeners));
    ck_assert_int_eq(adopt("calloc:ENOMEM"), -ENOMEM);
    expect_in(logged, "as unit0: Cannot allocate memory");
    passed_sockets_clear(&passed);

    const int files[] = {open("/dev/null", O_RDONLY | O_CLOEXEC),
                         socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    table_of(files, COUNT_OF(files));
    ck_assert_int_lt(adopt("fstat:EIO,getsockopt:EIO:6"), 0); /* of the second, the kind of socket */
    expect_in(logged, "as unit0, is no socket");
    expect_in(logged, "as unit1, is no stream socket");
    passed_sockets_clear(&passed);
}
