#include "daemon/passed_sockets.h"

#include "base/cleanup.h"
#include "daemon/daemon_log.h"
#include "serve/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

/* Moves the names; those after the last that found a place are freed with the array. */
static int make_table(struct passed_sockets *out, char **names, size_t count)
{
    out->items = calloc(count, sizeof *out->items);
    if (!out->items)
        return -ENOMEM;
    out->count = count;
    for (size_t i = 0; i < count; i++)
        out->items[i] = (struct passed_socket){SD_LISTEN_FDS_START + (int)i, TAKE_PTR(names[i])};
    return 0;
}

static void free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static const char *receive_failure(int error)
{
    switch (error) {
    case EINVAL:
    case ERANGE:
        return "cannot take the passed sockets: LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES in the environment "
               "is "
               "malformed (unset them, or start from a socket unit)";
    case EBADF:
        return "cannot take the passed sockets: fewer descriptors are open than LISTEN_FDS in the "
               "environment says "
               "(unset it, or start from a socket unit)";
    default:
        return "cannot take the passed sockets";
    }
}

int passed_sockets_receive(struct passed_sockets *out, struct problems *problems)
{
    char **names = NULL;
    *out = (struct passed_sockets){0};
    int count = sd_listen_fds_with_names(1, &names); /* sets FD_CLOEXEC as well */
    int r = count < 0 ? count : 0;
    if (count > 0) {
        r = make_table(out, names, (size_t)count);
        free_names(names, (size_t)count);
    }
    if (r < 0)
        daemon_log_system_error(problems, receive_failure(-r), -r);
    return r;
}

static const char *kind_of_file(int fd)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return "no socket";
    switch (file.st_mode & S_IFMT) {
    case S_IFREG:
        return "a file";
    case S_IFIFO:
        return "a pipe";
    case S_IFCHR:
        return "a device";
    default:
        return "no socket";
    }
}

static const char *kind_of_socket(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
        return "no stream socket";
    switch (type) {
    case SOCK_DGRAM:
        return "a datagram socket";
    case SOCK_SEQPACKET:
        return "a sequential packet socket";
    default:
        return "no stream socket";
    }
}

/* What it is, when listener_adopt says that it cannot be served; NULL: something else failed. */
static const char *describe(int fd, int error)
{
    switch (error) {
    case ENOTSOCK:
        return kind_of_file(fd);
    case ESOCKTNOSUPPORT:
        return kind_of_socket(fd);
    case EAFNOSUPPORT:
        return "a socket of another family than IPv4, IPv6 and Unix";
    case EPROTONOSUPPORT:
        return "a socket of another protocol than TCP and MPTCP";
    case EDESTADDRREQ:
        return "a Unix socket without a path";
    case EINVAL:
        return "a socket that does not listen (of a socket unit with Accept=yes?)";
    default:
        return NULL;
    }
}

int passed_sockets_adopt(struct passed_sockets *passed, struct list *listeners, struct problems *problems)
{
    int result = 0;
    for (size_t i = 0; i < passed->count; i++) {
        struct passed_socket *item = &passed->items[i];
        struct listener *listener;
        if (item->fd < 0)
            continue;
        int r = listener_adopt(item->fd, item->name, &listener);
        if (r < 0) {
            daemon_log_cannot_adopt(problems, item->fd, item->name, describe(item->fd, -r), -r);
            result = r;
            continue;
        }
        item->fd = -1;
        list_append(listeners, &listener->link);
    }
    return result;
}

void passed_sockets_clear(struct passed_sockets *passed)
{
    for (size_t i = 0; i < passed->count; i++) {
        fd_close(&passed->items[i].fd);
        free(passed->items[i].name);
    }
    free(passed->items);
    *passed = (struct passed_sockets){0};
}
