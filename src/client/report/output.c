#include "client/report/output.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/streams.h"
#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "client/report/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A reader that is only slow takes what is left in this time. */
#define LAST_USEC USEC_PER_SEC

/* The mode of a description belongs to all processes that share it, so one of our own is opened; where that
 * cannot be had, stdout itself has to do. */
static int own_description(const struct stat *status)
{
    if (S_ISFIFO(status->st_mode) || isatty(STDOUT_FILENO) == 1)
        return open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return -1;
}

void output_close(struct output *output)
{
    if (output->stream)
        fclose(output->stream);
    if (output->owned > 0)
        close(output->owned);
    *output = (struct output){0};
}

ssize_t output_write(const struct output *output, const void *bytes, size_t length)
{
    return output->is_socket ? send(output->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                             : write(output->fd, bytes, length);
}

/* Returns 0 or a negative errno; -EINTR: there was a signal, and it is time to go. */
static int wait_for_room(const struct output *output)
{
    uint64_t deadline = USEC_NEVER;
    for (;;) {
        struct pollfd items[] = {{.fd = output->fd, .events = POLLOUT},
                                 {.fd = output->interrupt_fd, .events = POLLIN}};
        bool is_last = interrupt_number() != 0;
        if (is_last && deadline == USEC_NEVER)
            deadline = clock_monotonic_usec() + LAST_USEC;
        int msec = clock_wait_msec(deadline);
        if (msec == 0)
            return -EINTR;
        int count = poll(items, is_last ? 1 : 2, msec);
        if (count < 0 && errno != EINTR)
            return -errno;
        if (count > 0 && items[0].revents != 0)
            return 0;
    }
}

/* Of a stream of fopencookie(3), for which fewer bytes than it has are a failure. */
static ssize_t write_all(void *cookie, const char *bytes, size_t length)
{
    struct output *output = cookie;
    size_t done = 0;
    while (done < length && output->error == 0) {
        ssize_t n = output_write(output, bytes + done, length - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN || errno == EINTR)
            output->error = -wait_for_room(output);
        else
            output->error = errno;
    }
    errno = output->error;
    return (ssize_t)done;
}

int output_open(struct output *output, int interrupt_fd)
{
    const cookie_io_functions_t functions = {.write = write_all};
    struct stat status = {0};
    bool is_known = fstat(STDOUT_FILENO, &status) == 0;
    int owned = is_known ? own_description(&status) : -1;
    *output = (struct output){
        .fd = owned >= 0 ? owned : STDOUT_FILENO,
        .owned = owned,
        .is_socket = is_known && S_ISSOCK(status.st_mode),
        .interrupt_fd = interrupt_fd,
        .stream = fopencookie(output, "w", functions),
    };
    return output->stream ? 0 : -ENOMEM;
}

int output_finish(struct output *output)
{
    int r = print_finish(output->stream);
    return output->error != 0 ? -output->error : r;
}

int output_exit_status(int r)
{
    if (r == -EINTR)
        interrupt_die();
    if (r == 0 || r == -EPIPE)
        return EXIT_SUCCESS;
    print_error("cannot write to stdout: %s", strerror(-r));
    return EXIT_FILE;
}
