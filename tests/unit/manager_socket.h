/* Both ends of the conversation with the service manager, sd_notify(3). */
#pragma once

#include "common.h"
#include "daemon/service_manager.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/un.h>

static struct service_manager manager;
static int manager_fd;
__attribute__((unused)) static struct sockaddr_un manager_name;
__attribute__((unused)) static socklen_t manager_length;

/* An abstract socket of the kernel's choosing: nothing to remove. */
static inline void manager_open(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(sa_family_t);
    char path[sizeof name.sun_path + 1];
    manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(manager_fd, 0);
    ck_assert_int_eq(bind(manager_fd, (struct sockaddr *)&name, length), 0);
    length = sizeof name;
    ck_assert_int_eq(getsockname(manager_fd, (struct sockaddr *)&name, &length), 0);
    size_t bytes = length - offsetof(struct sockaddr_un, sun_path);
    memcpy(path, name.sun_path, bytes);
    path[0] = '@';
    path[bytes] = '\0';
    manager_name = name;
    manager_length = length;
    ck_assert_int_eq(setenv("NOTIFY_SOCKET", path, 1), 0);
    service_manager_init(&manager);
}

static inline void manager_close(void)
{
    service_manager_deinit(&manager);
    unsetenv("NOTIFY_SOCKET");
    close(manager_fd);
}

static inline void expect(const char *message)
{
    char bytes[1024] = "";
    ck_assert(becomes_readable(manager_fd));
    ck_assert_int_ge(recv(manager_fd, bytes, sizeof bytes - 1, 0), 0);
    ck_assert_str_eq(bytes, message);
}

static inline bool is_readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 0) == 1;
}
