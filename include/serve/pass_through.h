/* Bytes from a client back to it without a copy: the kernel moves its own pages from the socket into a pipe
 * and out again (splice(2)). It pays for bytes that come in bulk; small ones are cheaper copied.
 *
 * One for a worker, whose thread uses it; the pipe is empty between turns. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pass_through {
    int read_fd, write_fd;
};

/* Without a pipe of a useful size (pipe2(2), F_SETPIPE_SZ), nothing passes through, and all is copied. */
void pass_through_init(struct pass_through *pass_through);
void pass_through_deinit(struct pass_through *pass_through);

/* Takes at most `size` bytes from a socket that does not block into the pipe. Returns how many; 0 when
 * recv(2) has to tell what is the matter: nothing is there, the end is, an urgent byte, or a kernel or filter
 * that does not allow it; or a negative errno when the connection is lost. */
ssize_t pass_through_take(struct pass_through *pass_through, int fd, size_t size);

/* Gives the `length` bytes that are in the pipe to the socket. Returns how many it took, which may be none,
 * or a negative errno when the connection is lost. */
ssize_t pass_through_give(struct pass_through *pass_through, int fd, size_t length);

/* Copies the `length` bytes that are left in the pipe. Returns 0, or a negative errno with the pipe closed:
 * nothing passes through it any more. */
int pass_through_empty(struct pass_through *pass_through, uint8_t *bytes, size_t length);
