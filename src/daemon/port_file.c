#include "daemon/port_file.h"

#include "base/whole_file.h"
#include "daemon/daemon_log.h"

#include <errno.h>
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

static void print_listeners(FILE *out, const void *what)
{
    const struct acceptor *acceptor = what;
    LIST_FOR_EACH(link, &acceptor->listeners)
    {
        const struct listener *listener = CONTAINER_OF(link, struct listener, link);
        char place[CLIENT_PLACE_SIZE];
        fprintf(out, "%s %s\n", listener->config->service->name, client_place(listener, place));
    }
}

int port_file_write(struct port_file *file, const struct acceptor *acceptor, struct problems *problems)
{
    char what[PATH_MAX + 64];
    struct stat written;
    if (!file->path)
        return 0;
    int r = whole_file_write(file->path, FILE_MODE, print_listeners, acceptor, &written);
    if (r == 0) {
        file->device = written.st_dev;
        file->inode = written.st_ino;
    } else {
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
