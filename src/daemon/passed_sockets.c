#include "daemon/passed_sockets.h"

#include "base/cleanup.h"
#include "daemon/daemon_log.h"
#include "daemon/handover_out.h"
#include "daemon/reexec.h"
#include "serve/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

/* Takes the name over in either case. */
static int add_item(struct passed_sockets *table, int fd, char *name)
{
    struct passed_socket *grown = reallocarray(table->items, table->count + 1, sizeof *grown);
    if (!grown || !name) {
        free(name);
        table->items = grown ? grown : table->items;
        return -ENOMEM;
    }
    table->items = grown;
    grown[table->count++] = (struct passed_socket){fd, name};
    return 0;
}

static int receive_from_manager(struct passed_sockets *out)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names); /* sets FD_CLOEXEC as well */
    int r = count < 0 ? count : 0;
    for (int i = 0; i < count; i++) {
        int added = add_item(out, SD_LISTEN_FDS_START + i, names[i]);
        r = added < 0 ? added : r;
    }
    free(names);
    return r;
}

/* "FD=NAME" of REEXEC_VARIABLE. */
static int receive_one(struct passed_sockets *out, const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (end == text || *end != '=' || fd <= STDERR_FILENO || fd > INT_MAX)
        return -EINVAL;
    if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return add_item(out, (int)fd, strdup(end + 1));
}

static int receive_from_before(struct passed_sockets *out)
{
    const char *value = getenv(REEXEC_VARIABLE);
    CLEANUP(free_pointer) char *copy = value ? strdup(value) : NULL;
    char *rest = copy;
    int r = value && !copy ? -ENOMEM : 0;
    for (const char *text; r == 0 && (text = strsep(&rest, ":"));)
        r = receive_one(out, text);
    unsetenv(REEXEC_VARIABLE);
    return r;
}

static const char *receive_failure(int error)
{
    switch (error) {
    case EINVAL:
    case ERANGE:
        return "cannot take the passed sockets: LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES in the environment "
               "is malformed (unset them, or start from a socket unit)";
    case EBADF:
        return "cannot take the passed sockets: fewer descriptors are open than LISTEN_FDS in the "
               "environment says (unset it, or start from a socket unit)";
    default:
        return "cannot take the passed sockets";
    }
}

int passed_sockets_receive(struct passed_sockets *out, struct problems *problems)
{
    *out = (struct passed_sockets){0};
    int r = receive_from_manager(out);
    if (r < 0) {
        daemon_log_system_error(problems, receive_failure(-r), -r);
        return r;
    }
    r = receive_from_before(out);
    if (r < 0)
        daemon_log_system_error(
            problems, "cannot take over: " REEXEC_VARIABLE " in the environment is malformed (unset it)", -r);
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
        bool is_own = strcmp(item->name, HANDOVER_LISTENER) == 0;
        int r = listener_adopt(item->fd, is_own ? NULL : item->name, &listener);
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
