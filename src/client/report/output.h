/* stdout, which may be a pipe that is full, a terminal that is held, or a socket: a writer is not stopped
 * by it, but decides how long to wait. One thread. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct output {
    int fd;    /* stdout, or `owned` */
    int owned; /* a description of stdout that is ours and does not block; or -1 */
    bool is_socket;
    FILE *stream; /* for the lines of a report: waits for room */
    int interrupt_fd;
    int error; /* the first errno of the stream */
};

/* Its stream waits for room for as long as it takes, but no longer than a moment once there was a signal
 * (client/process/interrupt.h; -1: nobody waits for one), since nobody seems to read. Returns 0 or a negative
 * errno. Either way it is to be closed. */
int output_open(struct output *output, int interrupt_fd);
void output_close(struct output *output); /* also for CLEANUP(), and of one that is all zeros */

/* As write(2), without waiting where that can be had. */
ssize_t output_write(const struct output *output, const void *bytes, size_t length);

/* Writes out what the stream has kept. Returns 0 or a negative errno: -EPIPE: nobody reads any more; -EINTR:
 * there was a signal, and no room for what was left to say. */
int output_finish(struct output *output);

/* The exit status that a result of output_finish or of print_finish (base/streams.h) comes to: success also
 * when nobody reads any more, or EXIT_FILE after one line on stderr. -EINTR ends the program by its signal.
 */
int output_exit_status(int r);
