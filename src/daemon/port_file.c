#include "daemon/port_file.h"

#include "base/cleanup.h"
#include "base/streams.h"
#include "daemon/daemon_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What it says is no secret, whatever the umask. */
#define FILE_MODE 0644

const char *client_place(const struct listener *listener, char out[static CLIENT_PLACE_SIZE])
{
    const struct listen_address *at = &listener->listen_address;
    const char *loopback = NULL;
    if (!at->path && (at->any || address_is_any(&at->at)))
        loopback = !at->any && at->at.family == AF_INET6 ? "[::1]" : "127.0.0.1";
    if (loopback)
        snprintf(out, CLIENT_PLACE_SIZE, "%s:%" PRIu16, loopback, listener->port);
    else
        snprintf(out, CLIENT_PLACE_SIZE, "%s", listener->name);
    return out;
}

static void print_listeners(const struct acceptor *acceptor, FILE *out)
{
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        const struct listener *listener = CONTAINER_OF(link, struct listener, link);
        char place[CLIENT_PLACE_SIZE];
        fprintf(out, "%s %s\n", listener->config->service->name, client_place(listener, place));
    }
}

/* Into an open file, which is closed. Returns 0 or a negative errno, and which file it is. */
static int fill(int fd, const struct acceptor *acceptor, struct stat *written)
{
    CLEANUP(fd_close) int owned = fd;
    if (fchmod(fd, FILE_MODE) < 0)
        return -errno;
    CLEANUP(close_stream) FILE *out = fdopen(fd, "w");
    if (!out)
        return -errno;
    TAKE_FD(owned);
    print_listeners(acceptor, out);
    int r = print_finish(out);
    return r == 0 && fstat(fd, written) < 0 ? -errno : r;
}

static int replace(struct port_file *file, const struct acceptor *acceptor)
{
    struct stat there, written;
    /* What a mistyped name would take away for good: /dev/null, /dev/stdout. */
    if (lstat(file->path, &there) == 0 && !S_ISREG(there.st_mode))
        return -EEXIST;
    CLEANUP(free_pointer) char *part = NULL;
    if (asprintf(&part, "%s.XXXXXX", file->path) < 0) {
        part = NULL;
        return -ENOMEM;
    }
    int fd = mkostemp(part, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fill(fd, acceptor, &written);
    if (r == 0 && rename(part, file->path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(part);
        return r;
    }
    file->device = written.st_dev;
    file->inode = written.st_ino;
    return 0;
}

int port_file_write(struct port_file *file, const struct acceptor *acceptor, struct problems *problems)
{
    char what[PATH_MAX + 64];
    int r = file->path ? replace(file, acceptor) : 0;
    if (r < 0) {
        snprintf(what, sizeof what, "cannot write the port file %s%s", file->path,
                 r == -EEXIST ? ", since there is something that is no regular file" : "");
        daemon_log_system_error(problems, what, -r);
    }
    return r;
}

void port_file_remove(struct port_file *file)
{
    char what[PATH_MAX + 64];
    struct stat there;
    if (file->inode == 0 || lstat(file->path, &there) < 0 || there.st_dev != file->device ||
        there.st_ino != file->inode || unlink(file->path) == 0)
        return;
    int error = errno;
    snprintf(what, sizeof what, "cannot remove the port file %s", file->path);
    daemon_log_system_error(NULL, what, error);
}
