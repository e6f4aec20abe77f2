/* A client that has the server to itself, and spins until the answer is there: lone PORT SIZE SECONDS
 *
 * How a client is woken that sleeps costs more than all that a server does, and is the same for every server;
 * so this one does not sleep. Prints the median and the 99th percentile of the round trip in nanoseconds, and
 * how many were made. Each answer is compared. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MOST 4000000

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return one < other ? -1 : one > other;
}

static void fail(const char *what)
{
    fprintf(stderr, "lone: %s: %s\n", what, strerror(errno));
    exit(71);
}

static void exchange(int fd, const char *message, char *answer, size_t size)
{
    if (send(fd, message, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("send");
    for (size_t got = 0; got < size;) {
        ssize_t length = recv(fd, answer + got, size - got, MSG_DONTWAIT);
        if (length == 0 || (length < 0 && errno != EAGAIN))
            fail("recv");
        if (length > 0)
            got += (size_t)length;
    }
    if (memcmp(message, answer, size) != 0)
        fail("a wrong answer");
}

int main(int argc, char *argv[])
{
    if (argc != 4)
        return 64;
    struct sockaddr_in server = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(argv[1])),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    size_t size = (size_t)atol(argv[2]), count = 0;
    char *message = malloc(size), *answer = malloc(size);
    uint32_t *times = malloc(MOST * sizeof *times);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!message || !answer || !times || fd < 0 ||
        connect(fd, (struct sockaddr *)&server, sizeof server) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        fail("start");
    memset(message, 'x', size);

    uint64_t start = now(), end = start + (uint64_t)(atof(argv[3]) * 1e9), last = start;
    while (last < end && count < MOST) {
        exchange(fd, message, answer, size);
        uint64_t time = now();
        times[count++] = time - last < UINT32_MAX ? (uint32_t)(time - last) : UINT32_MAX;
        last = time;
    }
    qsort(times, count, sizeof *times, compare);
    printf("%u %u %zu\n", times[count / 2], times[count * 99 / 100], count);
    return 0;
}
