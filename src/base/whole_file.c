#include "base/whole_file.h"

#include "base/cleanup.h"
#include "base/streams.h"

#include <errno.h>
#include <fcntl.h>

/* Into an open file, which is closed. */
static int write_out(int fd, mode_t mode, void (*fill)(FILE *out, const void *what), const void *what,
                     struct stat *written)
{
    CLEANUP(fd_close) int owned = fd;
    if (fchmod(fd, mode) < 0)
        return -errno;
    CLEANUP(close_stream) FILE *out = fdopen(fd, "w");
    if (!out)
        return -errno;
    TAKE_FD(owned);
    fill(out, what);
    int r = print_finish(out);
    return r == 0 && written && fstat(fd, written) < 0 ? -errno : r;
}

int whole_file_check(const char *path)
{
    struct stat there;
    return lstat(path, &there) == 0 && !S_ISREG(there.st_mode) ? -EEXIST : 0;
}

int whole_file_write(const char *path, mode_t mode, void (*fill)(FILE *out, const void *what),
                     const void *what, struct stat *written)
{
    int r = whole_file_check(path);
    if (r < 0)
        return r;
    CLEANUP(free_pointer) char *part = NULL;
    if (asprintf(&part, "%s.XXXXXX", path) < 0) {
        part = NULL;
        return -ENOMEM;
    }
    int fd = mkostemp(part, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = write_out(fd, mode, fill, what, written);
    if (r == 0 && rename(part, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(part); /* there is nothing else to do about it */
    return r;
}
