/* Bytes from a client back to it without a copy: the kernel moves its own pages from the socket into a pipe
 * and out again (splice(2)). It pays for bytes that come in bulk; small ones are cheaper copied.
 *
 * One for a worker, whose thread uses it; the pipe is empty between turns. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct splice_pipe {
    int read_fd, write_fd;
};

/* Without a pipe of a useful size (pipe2(2), F_SETPIPE_SZ), nothing is spliced, and all is copied. */
void splice_pipe_init(struct splice_pipe *splice_pipe);
void splice_pipe_deinit(struct splice_pipe *splice_pipe);

/* Takes at most `size` bytes from a socket that does not block into the pipe. Returns how many; 0 when
 * recv(2) has to tell what is the matter: nothing is there, the end is, an urgent byte, or a kernel or filter
 * that does not allow it; or a negative errno when the connection is lost. */
ssize_t splice_pipe_take(struct splice_pipe *splice_pipe, int fd, size_t size);

/* Gives the `length` bytes that are in the pipe to the socket. Returns how many it took, which may be none,
 * or a negative errno when the connection is lost. */
ssize_t splice_pipe_give(struct splice_pipe *splice_pipe, int fd, size_t length);

/* Copies the `length` bytes that are left in the pipe. Returns 0, or a negative errno with the pipe closed:
 * nothing is spliced any more. */
int splice_pipe_empty(struct splice_pipe *splice_pipe, uint8_t *bytes, size_t length);
