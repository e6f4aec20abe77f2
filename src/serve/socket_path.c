#include "serve/socket_path.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Its holder has a few system calls to make, on a machine that may be busy. */
#define BIND_WAIT_USEC (5 * USEC_PER_SEC)
#define REMOVE_WAIT_USEC (200 * USEC_PER_MSEC)
#define TRY_AGAIN_USEC (5 * USEC_PER_MSEC)

#define MODE_BITS 07777

struct lock {
    int fd;
    char name[sizeof((struct sockaddr_un *)0)->sun_path + sizeof SOCKET_PATH_LOCK];
};

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Returns 0, -EAGAIN when another process has the lock, or another negative errno. */
static int try_lock(struct lock *lock)
{
    CLEANUP(fd_close)
    int fd = open(lock->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ENXIO || errno == EISDIR ? -EBUSY : -errno;
    struct stat opened, named;
    if (fstat(fd, &opened) < 0)
        return -errno;
    if (!S_ISREG(opened.st_mode))
        return -EBUSY;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0)
        return errno == EACCES ? -EAGAIN : -errno;
    /* Who had it before has removed the file, and the next one may have made it anew. */
    if (lstat(lock->name, &named) < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    if (!is_same(&opened, &named))
        return -EAGAIN;
    lock->fd = TAKE_FD(fd);
    return 0;
}

static int lock_path(const char *path, uint64_t wait_usec, struct lock *lock)
{
    uint64_t until = clock_monotonic_usec() + wait_usec;
    int r;
    snprintf(lock->name, sizeof lock->name, "%s" SOCKET_PATH_LOCK, path);
    while ((r = try_lock(lock)) == -EAGAIN) {
        if (clock_monotonic_usec() >= until)
            return -EBUSY;
        clock_sleep(TRY_AGAIN_USEC);
    }
    return r;
}

static void unlock_path(struct lock *lock)
{
    unlink(lock->name); /* while it is ours */
    fd_close(&lock->fd);
}

/* bind(2) makes the file with the mode of the socket, less the umask. No other thread makes files. */
static int bind_with_mode(int fd, const struct sockaddr_un *name, mode_t mode)
{
    if (fchmod(fd, mode) < 0)
        return -errno;
    mode_t before = umask(0);
    int r = bind(fd, (const struct sockaddr *)name, sizeof *name) < 0 ? -errno : 0;
    umask(before);
    return r;
}

/* Returns 0 when no process has this socket, or a negative errno. */
static int check_unserved(const struct sockaddr_un *name)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)name, sizeof *name) == 0)
        return -EADDRINUSE;
    switch (errno) {
    case ECONNREFUSED:
    case ENOENT:
        return 0;
    case EAGAIN:     /* its backlog is full */
    case EPROTOTYPE: /* a datagram socket */
        return -EADDRINUSE;
    case EACCES:
        return -EPERM;
    default:
        return -errno;
    }
}

/* Only a socket is ever removed: the path may be a file that somebody needs. */
static int remove_stale(const struct sockaddr_un *name)
{
    struct stat there;
    if (lstat(name->sun_path, &there) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(there.st_mode))
        return -EEXIST;
    int r = check_unserved(name);
    if (r < 0)
        return r;
    return unlink(name->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* With the lock held until it listens: a socket that is only bound looks like one of a dead process. */
static int bind_locked(int fd, const struct sockaddr_un *name, mode_t mode, int backlog, struct stat *inode)
{
    int r = bind_with_mode(fd, name, mode);
    if (r == -EADDRINUSE) {
        r = remove_stale(name);
        if (r == 0)
            r = bind_with_mode(fd, name, mode);
    }
    if (r < 0)
        return r;
    struct stat bound;
    if (lstat(name->sun_path, &bound) < 0)
        return -errno;
    if (!S_ISSOCK(bound.st_mode))
        return -ESTALE;
    *inode = bound;
    return listen(fd, backlog) < 0 ? -errno : 0;
}

int socket_path_bind(int fd, const char *path, mode_t mode, int backlog, struct stat *inode)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof name.sun_path)
        return -ENAMETOOLONG;
    memcpy(name.sun_path, path, length + 1);
    struct lock lock;
    int r = lock_path(path, BIND_WAIT_USEC, &lock);
    if (r < 0)
        return r;
    r = bind_locked(fd, &name, mode, backlog, inode);
    unlock_path(&lock);
    return r;
}

bool socket_path_is(const char *path, const struct stat *inode)
{
    struct stat now;
    return inode->st_ino != 0 && lstat(path, &now) == 0 && is_same(&now, inode);
}

int socket_path_set_mode(const char *path, const struct stat *inode, mode_t mode)
{
    /* What is looked at is what is changed, whatever happens to the name in between. */
    CLEANUP(fd_close) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat there;
    if (fd < 0 || fstat(fd, &there) < 0)
        return -errno;
    if (!is_same(&there, inode))
        return -ENOENT;
    if ((there.st_mode & MODE_BITS) == mode)
        return 0;
    /* Somebody may have put another socket there before it was looked at first. */
    if (there.st_uid != geteuid() || there.st_nlink != 1)
        return -EPERM;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd); /* fchmod(2) takes no O_PATH */
    if (chmod(link, mode) == 0)
        return 0;
    return errno == ENOENT ? -EOPNOTSUPP : -errno;
}

void socket_path_remove(const char *path, const struct stat *inode)
{
    struct lock lock;
    if (!socket_path_is(path, inode) || lock_path(path, REMOVE_WAIT_USEC, &lock) < 0)
        return;
    if (socket_path_is(path, inode))
        unlink(path);
    unlock_path(&lock);
}
