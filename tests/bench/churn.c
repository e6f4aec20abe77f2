/* Connect, one message there and back, close: churn PORT SIZE IN_FLIGHT SECONDS
 *
 * One thread, IN_FLIGHT such exchanges at a time, each on a connection of its own. Prints how many were
 * completed with the right answer, and the seconds. Closes with a reset, which leaves no TIME_WAIT behind:
 * what is measured is the server, and not how many ports are left. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in server = {.sin_family = AF_INET};
static size_t size;
static char *message, *answer;
static int epoll;

struct exchange {
    int fd;
    size_t got;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
    exit(71);
}

static void begin(struct exchange *exchange)
{
    const struct linger reset = {.l_onoff = 1};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = exchange};
    exchange->got = 0;
    exchange->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (exchange->fd < 0 || setsockopt(exchange->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0 ||
        connect(exchange->fd, (struct sockaddr *)&server, sizeof server) < 0)
        fail("connect");
    if (send(exchange->fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("send");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, exchange->fd, &event) < 0)
        fail("epoll_ctl");
}

/* Returns whether the answer is complete. */
static bool go_on(struct exchange *exchange)
{
    ssize_t length = recv(exchange->fd, answer, size - exchange->got, 0);
    if (length <= 0 || memcmp(answer, message + exchange->got, (size_t)length) != 0)
        fail("wrong or no answer");
    exchange->got += (size_t)length;
    return exchange->got == size;
}

int main(int argc, char *argv[])
{
    if (argc != 5)
        return 64;
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size = (size_t)atol(argv[2]);
    size_t in_flight = (size_t)atol(argv[3]);
    struct exchange *exchanges = calloc(in_flight, sizeof *exchanges);
    message = malloc(size);
    answer = malloc(size);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!exchanges || !message || !answer || epoll < 0)
        fail("start");
    memset(message, 'x', size);

    uint64_t done = 0;
    double start = now(), end = start + atof(argv[4]), time = start;
    for (size_t i = 0; i < in_flight; i++)
        begin(&exchanges[i]);
    while (time < end) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll, events, 256, 5000);
        if (count <= 0)
            fail("nothing comes");
        for (int i = 0; i < count; i++) {
            struct exchange *exchange = events[i].data.ptr;
            if (!go_on(exchange))
                continue;
            close(exchange->fd);
            done++;
            begin(exchange);
        }
        time = now();
    }
    printf("%llu %.6f\n", (unsigned long long)done, time - start);
    return 0;
}
