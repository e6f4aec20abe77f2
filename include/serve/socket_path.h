/* The path of a Unix socket: bound, changed and removed so that two daemons never share one, and that nothing
 * but our own socket is touched, although others may be able to write to the directory.
 *
 * To look at what is there, to remove it and to bind are three steps, so they are taken under a lock: a
 * file beside the path (its name and SOCKET_PATH_LOCK), which exists for that moment alone. The lock is an
 * open file description's (fcntl(2)) and ends with its process; a file that a crash has left does no harm.
 * Main thread, which waits for the lock. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#define SOCKET_PATH_LOCK ".tcpechod-lock"

/* Binds `fd`, an AF_UNIX socket, and listens. The path has this mode from its first moment, whatever the
 * umask. A socket that a dead process has left there is replaced. Returns 0 with *inode filled in, for the
 * functions below, or a negative errno: -EADDRINUSE (a process serves it), -EEXIST (a file that is no
 * socket), -EPERM (a socket of another user, who may not be asked, or which may not be removed), -EBUSY (the
 * lock was held for 5 s, or its name is taken by something else), -ESTALE (it was replaced at once),
 * -ENAMETOOLONG, and others of open(2), fcntl(2), bind(2) and unlink(2). */
int socket_path_bind(int fd, const char *path, mode_t mode, int backlog, struct stat *inode);

/* Whether the path still leads to that socket, which must be open. */
bool socket_path_is(const char *path, const struct stat *inode);

/* Returns 0 or a negative errno: -ENOENT (the path leads elsewhere), -EPERM (it is not ours alone),
 * -EOPNOTSUPP (it takes /proc, proc(5)), and others of open(2) and chmod(2). */
int socket_path_set_mode(const char *path, const struct stat *inode, mode_t mode);

/* Removes the path, if it leads to that socket. When the lock cannot be had it stays, and is replaced by the
 * next start. */
void socket_path_remove(const char *path, const struct stat *inode);
