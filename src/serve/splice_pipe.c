#include "serve/splice_pipe.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/* As much as the default unsent_limit. */
#define PIPE_SIZE (256 * 1024)

/* What the kernel gives to everybody. A user with many pipes gets smaller ones (pipe(7)), which cost more
 * calls than they save copies. */
#define LEAST_PIPE_SIZE (64 * 1024)

void splice_pipe_init(struct splice_pipe *splice_pipe)
{
    int fds[2] = {-1, -1};
    bool is_made = pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0;
    *splice_pipe = (struct splice_pipe){.read_fd = fds[0], .write_fd = fds[1]};
    if (is_made && fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE) < 0 &&
        fcntl(fds[0], F_GETPIPE_SZ) < LEAST_PIPE_SIZE)
        splice_pipe_deinit(splice_pipe);
}

void splice_pipe_deinit(struct splice_pipe *splice_pipe)
{
    fd_close(&splice_pipe->read_fd);
    fd_close(&splice_pipe->write_fd);
}

/* Not an error of the connection. EINVAL: a socket without splice; ENOSYS, EPERM, EACCES: a kernel, a filter
 * for system calls or a security module without it. */
static bool is_for_copying(int error)
{
    return error == EAGAIN || error == EINTR || error == EINVAL || error == ENOSYS || error == EPERM ||
           error == EACCES || error == ENOMEM;
}

static ssize_t move(int from, int to, size_t length)
{
    ssize_t moved = splice(from, NULL, to, NULL, length, SPLICE_F_NONBLOCK);
    if (moved < 0)
        return is_for_copying(errno) ? 0 : -errno;
    return moved;
}

ssize_t splice_pipe_take(struct splice_pipe *splice_pipe, int fd, size_t size)
{
    return splice_pipe->write_fd < 0 ? 0 : move(fd, splice_pipe->write_fd, size);
}

ssize_t splice_pipe_give(struct splice_pipe *splice_pipe, int fd, size_t length)
{
    return move(splice_pipe->read_fd, fd, length);
}

int splice_pipe_empty(struct splice_pipe *splice_pipe, uint8_t *bytes, size_t length)
{
    while (length > 0) {
        ssize_t got = read(splice_pipe->read_fd, bytes, length);
        if (got <= 0) {
            int r = got < 0 ? -errno : -EIO;
            /* Nothing may be left to the next connection. */
            splice_pipe_deinit(splice_pipe);
            return r;
        }
        bytes += got;
        length -= (size_t)got;
    }
    return 0;
}
