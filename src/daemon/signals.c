#include "daemon/signals.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void handled_signals(sigset_t *set)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(set, numbers[i]);
    sigaddset(set, SIGNAL_LEAVE); /* no constant */
}

void signals_block(void)
{
    sigset_t set;
    handled_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a write that is too long fails instead (setrlimit(2), RLIMIT_FSIZE) */
    /* Inherited as ignored, it would not come, and no child could be waited for (wait(2)). */
    signal(SIGCHLD, SIG_DFL);
}

void signals_release(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

bool signals_reap(pid_t child, int *status)
{
    bool found = false;
    pid_t pid;
    int its;
    while ((pid = waitpid(-1, &its, WNOHANG)) > 0) {
        if (pid != child)
            continue;
        *status = its;
        found = true;
    }
    return found;
}

static void on_ready(struct event_source *source, uint32_t events)
{
    struct signals *signals = CONTAINER_OF(source, struct signals, source);
    struct signalfd_siginfo info;
    (void)events;
    /* One a turn: the descriptor stays ready while there are more. */
    if (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info)
        signals->on_signal(signals, &info);
}

int signals_init(struct signals *signals, struct event_loop *loop,
                 void (*on_signal)(struct signals *signals, const struct signalfd_siginfo *info))
{
    sigset_t set;
    handled_signals(&set);
    CLEANUP(fd_close) int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    *signals = (struct signals){
        .source = {.fd = fd, .ready = on_ready},
        .loop = loop,
        .on_signal = on_signal,
    };
    int r = event_loop_add(loop, &signals->source, EPOLLIN);
    if (r < 0)
        return r;
    TAKE_FD(fd);
    return 0;
}

void signals_deinit(struct signals *signals)
{
    event_loop_remove(signals->loop, &signals->source);
    fd_close(&signals->source.fd);
}
