#include "base/datagram.h"

#include "base/cleanup.h"

#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Connected, since poll(2) looks at the receiver's queue then. Returns -1 when nobody is there to make anyone
 * wait. */
static int connect_datagram(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    else
        length++;
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, size) < 0)
        return -1;
    return TAKE_FD(fd);
}

bool datagram_has_reader(const char *path)
{
    CLEANUP(fd_close) int fd = connect_datagram(path);
    return fd >= 0;
}

bool datagram_is_writable(const char *path, int timeout_msec)
{
    CLEANUP(fd_close) int fd = connect_datagram(path);
    if (fd < 0)
        return true;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    return poll(&writable, 1, timeout_msec) > 0;
}
