/* A datagram socket whose owner does not read. */
#pragma once

#include "common.h"

#include <sys/un.h>

/* Until a sender that has sent nothing yet has to wait: one alone may have filled its own buffer instead. */
static inline void fill_queue(const struct sockaddr_un *name, socklen_t length)
{
    for (unsigned sent = 1; sent > 0;) {
        int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(sender, 0);
        sent = 0;
        while (sendto(sender, "full", 4, 0, (const struct sockaddr *)name, length) == 4)
            sent++;
        ck_assert_int_eq(errno, EAGAIN);
        close(sender);
    }
}

/* Reads all that has arrived; returns how many messages were not fill_queue()'s. */
static inline unsigned empty_queue(int fd)
{
    char bytes[1024];
    unsigned others = 0;
    ssize_t length;
    while ((length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) >= 0)
        others += length != 4 || memcmp(bytes, "full", 4) != 0;
    return others;
}
