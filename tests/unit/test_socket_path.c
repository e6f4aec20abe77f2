#include "serve/socket_path.h"

#include "base/clock.h"
#include "common.h"
#include "faults.h"
#include "socket_directory.h"

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

FIXTURE(prepare, clean_up)

TEST(nothing_is_left_beside_it)
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

static const mode_t modes[] = {0, 0600, 0666, 0777};

/* bind(2) alone makes it: there is no moment with another mode, and no name that could be another's. */
TEST_EACH(mode_is_that_of_the_first_moment, modes)
{
    struct stat inode;
    mode_t before = umask(027);
    fault_rules("chmod:EPERM,listen:EPROTO");
    int r = bind_path(*c, &inode);
    fault_disarm();
    ck_assert_int_eq(r, -EPROTO);
    ck_assert_uint_eq(mode_of(path), *c);
    ck_assert_uint_eq(umask(before), 027);
}

TEST(stale_lock_does_no_harm)
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

static int hold_lock(void)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(lock_name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &whole), 0);
    return fd;
}

TEST(waits_for_the_lock)
{
    struct stat inode;
    fault_rules("fcntl:EAGAIN:1-3");
    int fd = bind_path(0600, &inode);
    ck_assert_uint_eq(fault_disarm(), 3);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

/* Whoever holds it may be about to bind. */
TEST(does_nothing_without_the_lock)
{
    struct stat inode;
    int fd = bind_path(0600, &inode);
    ck_assert_int_ge(fd, 0);
    int holder = hold_lock();
    clock_move_at_each_look(100 * USEC_PER_MSEC); /* the time that it is waited for */
    socket_path_remove(path, &inode);
    ck_assert(socket_path_is(path, &inode));
    close(fd);
    expect_failure(EBUSY);
    ck_assert(socket_path_is(path, &inode));
    close(holder);
}

TEST(names_that_are_no_lock)
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

static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};

TEST_EACH(what_is_served_stays, types)
{
    int fd = foreign_socket(*c, path, *c != SOCK_DGRAM);
    expect_failure(EADDRINUSE);
    ck_assert_int_eq(access(path, F_OK), 0);
    close(fd);
    int own = bind_path(0600, &(struct stat){0}); /* now it is stale */
    ck_assert_int_ge(own, 0);
    close(own);
}

TEST(full_backlog_is_served)
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

static const struct {
    const char *rules;
    int error;
    bool is_replaced; /* the stale socket, by then */
} failures[] = {
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
    {"bind:ENOSPC:2", ENOSPC, true},
    {"lstat:EIO:3", EIO, true},
    {"listen:EADDRINUSE:1", EADDRINUSE, true},
};

TEST_EACH(failing_calls, failures)
{
    struct stat before, after, inode;
    close(foreign_socket(SOCK_STREAM, path, false));
    ck_assert_int_eq(lstat(path, &before), 0);
    unsigned descriptors = open_descriptors();
    fault_rules(c->rules);
    int r = bind_path(0600, &inode);
    ck_assert_uint_eq(fault_disarm(), 1);
    ck_assert_int_eq(r, -c->error);
    ck_assert_uint_eq(open_descriptors(), descriptors);
    bool is_same = lstat(path, &after) == 0 && before.st_ino == after.st_ino &&
                   before.st_ctim.tv_nsec == after.st_ctim.tv_nsec;
    ck_assert(is_same == !c->is_replaced);
}

TEST(gone_between_the_steps)
{
    struct stat inode;
    close(foreign_socket(SOCK_STREAM, path, false));
    fault_rules("connect:ENOENT:1,unlink:ENOENT:1"); /* as if somebody had removed it */
    int r = bind_path(0600, &inode);
    fault_disarm();
    ck_assert_int_eq(r, -EADDRINUSE); /* since in truth it is still there */
}

/* As somebody who may write to the directory could do it, before the mode is changed. */
TEST(mode_follows_no_link)
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

/* One that was put there before it was looked at first: with a name elsewhere, or of another user. */
TEST(mode_of_a_strange_socket)
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

static const struct {
    const char *rules;
    int error;
} mode_failures[] = {{"open:EMFILE:1", EMFILE},
                     {"fstat:EIO:1", EIO},
                     {"chmod:EROFS:1", EROFS},
                     {"chmod:ENOENT:1", EOPNOTSUPP}}; /* without /proc */

TEST_EACH(mode_that_cannot_be_set, mode_failures)
{
    struct stat inode;
    int fd = bind_path(0600, &inode);
    unsigned before = open_descriptors();
    fault_rules(c->rules);
    int r = socket_path_set_mode(path, &inode, 0666);
    fault_disarm();
    ck_assert_int_eq(r, -c->error);
    ck_assert_uint_eq(open_descriptors(), before);
    ck_assert_uint_eq(mode_of(path), 0600);
    close(fd);
}

TEST(removes_nothing_else)
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
