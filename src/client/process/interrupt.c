#include "client/process/interrupt.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A blocked signal, as signalfd(2) needs it, could not end a program that is stuck in a write. */

static volatile sig_atomic_t arrived;
static int told_fd = -1; /* an eventfd; the caller's of interrupt_open */
static int quit_fd = -1; /* the same of interrupt_open_quit */

static void on_signal(int number)
{
    int saved = errno;
    uint64_t one = 1;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    arrived = number;
    ssize_t written = write(told_fd, &one, sizeof one); /* fails only when it has been closed */
    (void)written;
    errno = saved;
}

static void on_quit(int number)
{
    int saved = errno;
    uint64_t one = 1;
    (void)number;
    ssize_t written = write(quit_fd, &one, sizeof one);
    (void)written;
    errno = saved;
}

int interrupt_open_quit(void)
{
    struct sigaction action = {.sa_handler = on_quit, .sa_flags = SA_RESTART};
    CLEANUP(fd_close) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    quit_fd = fd;
    if (sigaction(SIGQUIT, &action, NULL) < 0)
        return -errno;
    return TAKE_FD(fd);
}

void interrupt_take_quit(int fd)
{
    uint64_t count;
    ssize_t taken = read(fd, &count, sizeof count);
    (void)taken;
}

int interrupt_open(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CLEANUP(fd_close) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    arrived = 0;
    told_fd = fd;
    if (sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int interrupt_take(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
        return 0;
    return arrived;
}

int interrupt_number(void)
{
    return arrived;
}

int interrupt_watch(struct event_loop *loop, struct event_source *interrupt, struct event_source *quit)
{
    int r = event_loop_add(loop, interrupt, EPOLLIN);
    if (r < 0)
        return r;
    r = event_loop_add(loop, quit, EPOLLIN);
    if (r < 0)
        event_loop_remove(loop, interrupt);
    return r;
}

void interrupt_unwatch(struct event_loop *loop, struct event_source *interrupt, struct event_source *quit)
{
    event_loop_remove(loop, interrupt);
    event_loop_remove(loop, quit);
}

void interrupt_die(void)
{
    int number = arrived != 0 ? arrived : SIGINT;
    signal(number, SIG_DFL);
    raise(number);
    _exit(128 + number); /* pid 1 of a container survives what it does not handle */
}
