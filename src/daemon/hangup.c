#include "daemon/hangup.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

enum {
    CONTROLLING, /* ours to close */
    STDERR,
    COUNT,
};

static bool is_hung_up(int fd)
{
    struct pollfd terminal = {.fd = fd};
    return fd >= 0 && poll(&terminal, 1, 0) > 0;
}

void hangup_find(struct hangup *hangup)
{
    struct sigaction hang_up;
    *hangup = HANGUP_NONE;
    if (sigaction(SIGHUP, NULL, &hang_up) < 0 || hang_up.sa_handler == SIG_IGN)
        return;
    /* Fails where there is none, with ENXIO. */
    hangup->terminals[CONTROLLING].source.fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (isatty(STDERR_FILENO))
        hangup->terminals[STDERR].source.fd = STDERR_FILENO;
}

static void unwatch(struct hangup_terminal *terminal)
{
    if (terminal->is_watched)
        event_loop_remove(terminal->hangup->loop, &terminal->source);
    terminal->is_watched = false;
}

/* Input comes here, too, and is for others. */
static void on_ready(struct event_source *source, uint32_t events)
{
    struct hangup_terminal *terminal = CONTAINER_OF(source, struct hangup_terminal, source);
    (void)events;
    if (!is_hung_up(source->fd))
        return;
    unwatch(terminal);
    terminal->hangup->on_gone(terminal->hangup);
}

int hangup_watch(struct hangup *hangup, struct event_loop *loop, void (*on_gone)(struct hangup *hangup))
{
    hangup->loop = loop;
    hangup->on_gone = on_gone;
    for (int i = 0; i < COUNT; i++) {
        struct hangup_terminal *terminal = &hangup->terminals[i];
        if (terminal->source.fd < 0)
            continue;
        terminal->source.ready = on_ready;
        terminal->hangup = hangup;
        /* vhangup(2) wakes those alone who wait for input. Edge-triggered, since nobody here reads it. */
        int r = event_loop_add(loop, &terminal->source, EPOLLIN | EPOLLET);
        if (r < 0) {
            unwatch(&hangup->terminals[CONTROLLING]);
            return r;
        }
        terminal->is_watched = true;
    }
    return 0;
}

bool hangup_has_come(const struct hangup *hangup)
{
    const struct hangup_terminal *terminals = hangup->terminals;
    return is_hung_up(terminals[CONTROLLING].source.fd) || is_hung_up(terminals[STDERR].source.fd);
}

void hangup_forget(struct hangup *hangup)
{
    for (int i = 0; i < COUNT; i++)
        unwatch(&hangup->terminals[i]);
    fd_close(&hangup->terminals[CONTROLLING].source.fd);
}
