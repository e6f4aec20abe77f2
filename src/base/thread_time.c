#include "base/thread_time.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

int thread_time_read(struct thread_time *out)
{
    CLEANUP(fd_close) int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char text[80];
    ssize_t length = read(fd, text, sizeof text - 1);
    if (length < 0)
        return -errno;
    text[length] = '\0';
    struct thread_time time;
    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &time.ran_nsec, &time.waited_nsec, &time.runs) != 3)
        return -EIO;
    *out = time;
    return 0;
}
