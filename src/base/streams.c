#include "base/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int streams_hold_standard(void)
{
    static const int flags[] = {
        [STDIN_FILENO] = O_WRONLY, [STDOUT_FILENO] = O_RDONLY, [STDERR_FILENO] = O_RDONLY};

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        int opened = open("/dev/null", flags[fd]);
        if (opened < 0)
            return -errno;
        if (opened != fd)
            close(opened);
    }
    return 0;
}

const char *streams_null_advice(int error)
{
    if (error == EMFILE || error == ENFILE)
        return "";
    return "; a container or a chroot has to have it ('mknod -m 666 /dev/null c 1 3' makes it)";
}

int print_finish(FILE *out)
{
    errno = 0;
    if (fflush(out) == 0 && !ferror(out))
        return 0;
    return errno ? -errno : -EIO;
}
