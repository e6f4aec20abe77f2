#include "base/thread_time.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

int thread_time_open(void)
{
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int thread_time_read(int fd, struct thread_time *out)
{
    char text[80];
    ssize_t length = pread(fd, text, sizeof text - 1, 0);
    if (length < 0)
        return -errno;
    text[length] = '\0';
    struct thread_time time;
    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &time.ran_nsec, &time.waited_nsec, &time.runs) != 3)
        return -EIO;
    *out = time;
    return 0;
}
