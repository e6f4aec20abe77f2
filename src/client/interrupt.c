#include "client/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void awaited_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

int interrupt_open(void)
{
    sigset_t set;
    int error;

    awaited_signals(&set);
    error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0)
        return -error;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int interrupt_take(int fd)
{
    struct signalfd_siginfo info;
    sigset_t set;

    if (read(fd, &info, sizeof info) != (ssize_t)sizeof info)
        return 0;
    awaited_signals(&set);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* has worked with SIG_BLOCK */
    return (int)info.ssi_signo;
}

void interrupt_die(int number)
{
    (void)signal(number, SIG_DFL);
    (void)raise(number);
    _exit(128 + number); /* pid 1 of a container survives what it does not handle */
}
