/* What it costs to accept clients in one thread and serve them in another: hand_over together|apart PORT
 *
 * An echo server with no more than that takes. `together`, one thread does all; `apart`, one accepts, puts
 * what a turn has found into a queue, and wakes the other by an eventfd(2), as the daemon does. All else is
 * the same, so the difference is the hand-over. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE 4096

static int listener, wake, serving;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int queue[QUEUE];
static unsigned put, taken;

static void fail(const char *what)
{
    fprintf(stderr, "hand_over: %s: %s\n", what, strerror(errno));
    exit(71);
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static int next_client(void)
{
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED)
        fail("accept4");
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void take_from_queue(void)
{
    uint64_t ignored;
    int fds[QUEUE];
    unsigned count = 0;
    if (read(wake, &ignored, sizeof ignored) < 0)
        fail("read");
    pthread_mutex_lock(&lock);
    while (taken != put)
        fds[count++] = queue[taken++ % QUEUE];
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < count; i++)
        watch(serving, fds[i]);
}

/* The lock is held for the queue alone, so that nobody waits for a system call of the other's. */
static void hand_over(void)
{
    const uint64_t one = 1;
    bool is_any = false;
    for (int fd; (fd = next_client()) >= 0; is_any = true) {
        pthread_mutex_lock(&lock);
        if (put - taken == QUEUE)
            fail("the queue is full");
        queue[put++ % QUEUE] = fd;
        pthread_mutex_unlock(&lock);
    }
    if (is_any && write(wake, &one, sizeof one) < 0)
        fail("write");
}

static void serve(int fd)
{
    static char bytes[65536];
    ssize_t length = recv(fd, bytes, sizeof bytes, 0);
    if (length > 0)
        length = send(fd, bytes, (size_t)length, MSG_NOSIGNAL);
    if (length == 0 || (length < 0 && errno != EAGAIN))
        close(fd);
}

static void *serve_all(void *unused)
{
    for (;;) {
        struct epoll_event events[128];
        int count = epoll_wait(serving, events, 128, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                for (int client; (client = next_client()) >= 0;)
                    watch(serving, client);
            else if (fd == wake)
                take_from_queue();
            else
                serve(fd);
        }
    }
    return unused;
}

int main(int argc, char *argv[])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    if (argc != 3)
        return 64;
    bool is_apart = strcmp(argv[1], "apart") == 0;
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    serving = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || wake < 0 || serving < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        fail("start");
    watch(serving, is_apart ? wake : listener);
    if (!is_apart) {
        serve_all(NULL);
        return 0;
    }
    pthread_t thread;
    int accepting = epoll_create1(EPOLL_CLOEXEC);
    if (accepting < 0 || pthread_create(&thread, NULL, serve_all, NULL) != 0)
        fail("start");
    watch(accepting, listener);
    for (;;) {
        struct epoll_event event;
        if (epoll_wait(accepting, &event, 1, -1) == 1)
            hand_over();
    }
}
