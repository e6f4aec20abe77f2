/* Socket options of a plain number. Any thread. */
#pragma once

#include <errno.h>
#include <sys/socket.h>

/* setsockopt(2). Returns 0 or a negative errno. */
static inline int socket_set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* close(2) sends a RST then and drops what is unsent; no port is left in TIME_WAIT (socket(7), SO_LINGER).
 * Fails for no TCP socket; a Unix socket is closed as usual. */
static inline void socket_reset_on_close(int fd)
{
    const struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}
