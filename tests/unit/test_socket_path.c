#include "serve/socket_path.h"

#include "common.h"
#include "faults.h"
#include "socket_directory.h"

#include <pthread.h>
#include <sys/un.h>

#define BACKLOG 4

static char lock_name[128];

static void prepare(void)
{
    make_directory();
    snprintf(lock_name, sizeof lock_name, "%s%s", path, SOCKET_PATH_LOCK);
}

static void clean_up(void)
{
    unlink(lock_name);
    remove_directory();
}

static int unix_socket(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static struct sockaddr_un name_of(const char *where)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, where);
    return name;
}

/* As another program leaves it: bound, and listening if asked. Returns the socket. */
static int foreign_socket(int type, const char *where, bool listens)
{
    struct sockaddr_un name = name_of(where);
    int fd = unix_socket(type);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    if (listens)
        ck_assert_int_eq(listen(fd, BACKLOG), 0);
    return fd;
}

/* Returns the socket that listens, or a negative errno. */
static int bind_path(mode_t mode, struct stat *inode)
{
    *inode = (struct stat){0};
    int fd = unix_socket(SOCK_STREAM);
    int r = socket_path_bind(fd, path, mode, BACKLOG, inode);
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static void expect_failure(int error)
{
    struct stat inode;
    unsigned before = open_descriptors();
    int r = bind_path(0600, &inode);
    ck_assert_msg(r == -error, "%s and not %s", strerror(-r), strerror(error));
    ck_assert_uint_eq(open_descriptors(), before);
}

static unsigned mode_of(const char *file)
{
    struct stat there;
    ck_assert_int_eq(lstat(file, &there), 0);
    return there.st_mode & 07777;
}

START_TEST(nothing_is_left_beside_it)
{
    struct stat inode;
    int fd = bind_path(0640, &inode);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(access(lock_name, F_OK), 0);
    ck_assert(socket_path_is(path, &inode));
    ck_assert_uint_eq(mode_of(path), 0640);
    socket_path_remove(path, &inode);
    ck_assert(!socket_path_is(path, &inode));
    close(fd);
}
END_TEST

/* bind(2) alone makes it: there is no moment with another mode, and no name that could be another's. */
START_TEST(mode_is_that_of_the_first_moment)
{
    static const mode_t modes[] = {0, 0600, 0666, 0777};
    mode_t before = umask(027);
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct stat inode;
        fault_rules("chmod:EPERM,listen:EPROTO");
        int r = bind_path(modes[i], &inode);
        fault_disarm();
        ck_assert_int_eq(r, -EPROTO);
        ck_assert_uint_eq(mode_of(path), modes[i]);
        ck_assert_int_eq(unlink(path), 0);
    }
    ck_assert_uint_eq(umask(before), 027);
}
END_TEST

START_TEST(stale_lock_does_no_harm)
{
    int stale = open(lock_name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(stale, 0);
    close(stale);
    struct stat inode;
    int fd = bind_path(0600, &inode);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(access(lock_name, F_OK), 0);
    close(fd);
}
END_TEST

static int hold_lock(void)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(lock_name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &whole), 0);
    return fd;
}

static void *let_go(void *holder)
{
    const struct timespec while_another_waits = {.tv_nsec = 100000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &while_another_waits, NULL);
    unlink(lock_name);
    close(*(int *)holder);
    return NULL;
}

START_TEST(waits_for_the_lock)
{
    pthread_t thread;
    struct stat inode;
    int holder = hold_lock();
    ck_assert_int_eq(pthread_create(&thread, NULL, let_go, &holder), 0);
    int fd = bind_path(0600, &inode);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_ge(fd, 0);
    close(fd);
}
END_TEST

/* Whoever holds it may be about to bind. */
START_TEST(does_nothing_without_the_lock)
{
    struct stat inode;
    int fd = bind_path(0600, &inode);
    ck_assert_int_ge(fd, 0);
    int holder = hold_lock();
    socket_path_remove(path, &inode);
    ck_assert(socket_path_is(path, &inode));
    close(fd);
    expect_failure(EBUSY);
    ck_assert(socket_path_is(path, &inode));
    close(holder);
}
END_TEST

START_TEST(names_that_are_no_lock)
{
    ck_assert_int_eq(mkdir(lock_name, 0700), 0);
    expect_failure(EBUSY);
    ck_assert_int_eq(rmdir(lock_name), 0);

    ck_assert_int_eq(mkfifo(lock_name, 0600), 0);
    expect_failure(EBUSY);
    ck_assert_int_eq(unlink(lock_name), 0);

    close(foreign_socket(SOCK_STREAM, lock_name, false));
    expect_failure(EBUSY);
    ck_assert_int_eq(unlink(lock_name), 0);

    char target[128];
    snprintf(target, sizeof target, "%s/target", directory);
    ck_assert_int_eq(symlink(target, lock_name), 0);
    expect_failure(ELOOP);
    ck_assert_int_ne(access(target, F_OK), 0); /* and nothing is made elsewhere */
}
END_TEST

START_TEST(what_is_served_stays)
{
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        int fd = foreign_socket(types[i], path, types[i] != SOCK_DGRAM);
        expect_failure(EADDRINUSE);
        ck_assert_int_eq(access(path, F_OK), 0);
        close(fd);
        int own = bind_path(0600, &(struct stat){0}); /* now it is stale */
        ck_assert_int_ge(own, 0);
        close(own);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

START_TEST(full_backlog_is_served)
{
    struct sockaddr_un name = name_of(path);
    int server = foreign_socket(SOCK_STREAM, path, true), clients[BACKLOG + 1];
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        clients[i] = unix_socket(SOCK_STREAM);
        ck_assert_int_eq(connect(clients[i], (struct sockaddr *)&name, sizeof name), 0);
    }
    expect_failure(EADDRINUSE);
    for (size_t i = 0; i < COUNT_OF(clients); i++)
        close(clients[i]);
    close(server);
}
END_TEST

START_TEST(failing_calls_replace_nothing)
{
    static const struct {
        const char *rules;
        int error;
    } cases[] = {
        {"open:EACCES:1", EACCES},
        {"open:EROFS:1", EROFS},
        {"fstat:EIO:1", EIO},
        {"lstat:EIO:1", EIO},
        {"fcntl:ENOLCK:1", ENOLCK},
        {"fchmod:EPERM:1", EPERM},
        {"bind:ENOSPC:1", ENOSPC},
        {"lstat:EIO:2", EIO},
        {"socket:EMFILE:2", EMFILE},
        {"connect:EACCES:1", EPERM},
        {"connect:EAGAIN:1", EADDRINUSE},
        {"connect:ENOMEM:1", ENOMEM},
        {"unlink:EPERM:1", EPERM},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stat before, after, inode;
        close(foreign_socket(SOCK_STREAM, path, false));
        ck_assert_int_eq(lstat(path, &before), 0);
        fault_rules(cases[i].rules);
        int r = bind_path(0600, &inode);
        unsigned long hits = fault_disarm();
        ck_assert_uint_eq(hits, 1);
        ck_assert_msg(r == -cases[i].error, "%s: %s", cases[i].rules, strerror(-r));
        ck_assert_int_eq(lstat(path, &after), 0);
        ck_assert_uint_eq(before.st_ino, after.st_ino);
        ck_assert_int_eq(unlink(path), 0);
    }
}
END_TEST

START_TEST(failing_calls_afterwards)
{
    static const struct {
        const char *rules;
        int error;
    } cases[] = {{"bind:ENOSPC:2", ENOSPC}, {"lstat:EIO:3", EIO}, {"listen:EADDRINUSE:1", EADDRINUSE}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stat inode;
        close(foreign_socket(SOCK_STREAM, path, false));
        fault_rules(cases[i].rules);
        int r = bind_path(0600, &inode);
        fault_disarm();
        ck_assert_msg(r == -cases[i].error, "%s: %s", cases[i].rules, strerror(-r));
        unlink(path);
    }
}
END_TEST

START_TEST(gone_between_the_steps)
{
    struct stat inode;
    close(foreign_socket(SOCK_STREAM, path, false));
    fault_rules("connect:ENOENT:1,unlink:ENOENT:1"); /* as if somebody had removed it */
    int r = bind_path(0600, &inode);
    fault_disarm();
    ck_assert_int_eq(r, -EADDRINUSE); /* since in truth it is still there */
}
END_TEST

/* As somebody who may write to the directory could do it, before the mode is changed. */
START_TEST(mode_follows_no_link)
{
    struct stat inode;
    char victim[128], aside[128];
    snprintf(victim, sizeof victim, "%s/victim", directory);
    snprintf(aside, sizeof aside, "%s/aside", directory);
    int file = open(victim, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    int fd = bind_path(0600, &inode);
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0666), 0);
    ck_assert_uint_eq(mode_of(path), 0666);

    ck_assert_int_eq(rename(path, aside), 0);
    ck_assert_int_eq(symlink(victim, path), 0);
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0644), -ENOENT);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(symlink(aside, path), 0); /* also one to our own */
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0644), -ENOENT);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(link(victim, path), 0);
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0644), -ENOENT);
    ck_assert_uint_eq(mode_of(victim), 0600);
    ck_assert_uint_eq(mode_of(aside), 0666);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0644), -ENOENT);

    ck_assert_int_eq(unlink(aside), 0);
    ck_assert_int_eq(unlink(victim), 0);
    close(file);
    close(fd);
}
END_TEST

/* One that was put there before it was looked at first: with a name elsewhere, or of another user. */
START_TEST(mode_of_a_strange_socket)
{
    struct stat inode;
    char other[128];
    snprintf(other, sizeof other, "%s/other", directory);
    int fd = foreign_socket(SOCK_STREAM, other, true);
    ck_assert_int_eq(chmod(other, 0600), 0);
    ck_assert_int_eq(link(other, path), 0);
    ck_assert_int_eq(lstat(path, &inode), 0);
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0600), 0); /* nothing to do */
    ck_assert_int_eq(socket_path_set_mode(path, &inode, 0666), -EPERM);
    ck_assert_uint_eq(mode_of(other), 0600);
    ck_assert_int_eq(unlink(other), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(lchown(path, 65534, 65534), 0);
        ck_assert_int_eq(socket_path_set_mode(path, &inode, 0666), -EPERM);
        ck_assert_uint_eq(mode_of(path), 0600);
    }
    close(fd);
}
END_TEST

START_TEST(mode_that_cannot_be_set)
{
    static const struct {
        const char *rules;
        int error;
    } cases[] = {{"open:EMFILE:1", EMFILE},
                 {"fstat:EIO:1", EIO},
                 {"chmod:EROFS:1", EROFS},
                 {"chmod:ENOENT:1", EOPNOTSUPP}}; /* without /proc */
    struct stat inode;
    int fd = bind_path(0600, &inode);
    unsigned before = open_descriptors();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        fault_rules(cases[i].rules);
        int r = socket_path_set_mode(path, &inode, 0666);
        fault_disarm();
        ck_assert_msg(r == -cases[i].error, "%s: %s", cases[i].rules, strerror(-r));
        ck_assert_uint_eq(open_descriptors(), before);
        ck_assert_uint_eq(mode_of(path), 0600);
    }
    close(fd);
}
END_TEST

START_TEST(removes_nothing_else)
{
    struct stat inode;
    int fd = bind_path(0600, &inode);
    ck_assert_int_eq(unlink(path), 0);
    int other = foreign_socket(SOCK_STREAM, path, true);
    socket_path_remove(path, &inode);
    ck_assert_int_eq(access(path, F_OK), 0);
    socket_path_remove(path, &(struct stat){0});
    ck_assert_int_eq(access(path, F_OK), 0);
    close(other);
    close(fd);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("socket_path");
    tcase_add_checked_fixture(tests, prepare, clean_up);
    tcase_add_test(tests, nothing_is_left_beside_it);
    tcase_add_test(tests, mode_is_that_of_the_first_moment);
    tcase_add_test(tests, stale_lock_does_no_harm);
    tcase_add_test(tests, waits_for_the_lock);
    tcase_add_test(tests, does_nothing_without_the_lock);
    tcase_add_test(tests, names_that_are_no_lock);
    tcase_add_test(tests, what_is_served_stays);
    tcase_add_test(tests, full_backlog_is_served);
    tcase_add_test(tests, failing_calls_replace_nothing);
    tcase_add_test(tests, failing_calls_afterwards);
    tcase_add_test(tests, gone_between_the_steps);
    tcase_add_test(tests, mode_follows_no_link);
    tcase_add_test(tests, mode_of_a_strange_socket);
    tcase_add_test(tests, mode_that_cannot_be_set);
    tcase_add_test(tests, removes_nothing_else);
    return run_case(tests);
}
