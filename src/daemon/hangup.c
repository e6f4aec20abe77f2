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
    hangup->sources[CONTROLLING].fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (isatty(STDERR_FILENO))
        hangup->sources[STDERR].fd = STDERR_FILENO;
}

static void unwatch(struct hangup *hangup, int which)
{
    if (hangup->is_watched[which])
        event_loop_remove(hangup->loop, &hangup->sources[which]);
    hangup->is_watched[which] = false;
}

/* Input comes here, too, and is for others. */
static void look(struct hangup *hangup, int which)
{
    if (!is_hung_up(hangup->sources[which].fd))
        return;
    unwatch(hangup, which);
    hangup->on_gone(hangup);
}

static void on_controlling(struct event_source *source, uint32_t events)
{
    (void)events;
    look(CONTAINER_OF(source, struct hangup, sources[CONTROLLING]), CONTROLLING);
}

static void on_stderr(struct event_source *source, uint32_t events)
{
    (void)events;
    look(CONTAINER_OF(source, struct hangup, sources[STDERR]), STDERR);
}

int hangup_watch(struct hangup *hangup, struct event_loop *loop, void (*on_gone)(struct hangup *hangup))
{
    hangup->loop = loop;
    hangup->on_gone = on_gone;
    hangup->sources[CONTROLLING].ready = on_controlling;
    hangup->sources[STDERR].ready = on_stderr;
    for (int i = 0; i < COUNT; i++) {
        struct event_source *source = &hangup->sources[i];
        if (source->fd < 0)
            continue;
        /* vhangup(2) wakes those alone who wait for input. Edge-triggered, since nobody here reads it. */
        int r = event_loop_add(loop, source, EPOLLIN | EPOLLET);
        if (r < 0) {
            unwatch(hangup, CONTROLLING);
            return r;
        }
        hangup->is_watched[i] = true;
    }
    return 0;
}

bool hangup_has_come(const struct hangup *hangup)
{
    return is_hung_up(hangup->sources[CONTROLLING].fd) || is_hung_up(hangup->sources[STDERR].fd);
}

void hangup_forget(struct hangup *hangup)
{
    for (int i = 0; i < COUNT; i++)
        unwatch(hangup, i);
    fd_close(&hangup->sources[CONTROLLING].fd);
}
