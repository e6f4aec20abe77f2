/* What the kernel itself takes: one thread sends and receives on both ends of a loopback connection, and
 * never waits. floor SIZE SECONDS prints the messages and the nanoseconds of CPU time of the server's half of
 * the work: one recv and one send of each message's two.
 *
 * CPU time is read around both halves, and halved: the ends do the same. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int make_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || ends[0] < 0 || bind(server, (struct sockaddr *)&address, length) < 0 ||
        listen(server, 1) < 0 || getsockname(server, (struct sockaddr *)&address, &length) < 0 ||
        connect(ends[0], (struct sockaddr *)&address, length) < 0)
        return -1;
    ends[1] = accept(server, NULL, NULL);
    close(server);
    for (int i = 0; i < 2; i++)
        if (ends[1] < 0 || setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
            return -1;
    return 0;
}

static int pass(int from, int to, char *bytes, size_t size)
{
    if (send(from, bytes, size, 0) != (ssize_t)size)
        return -1;
    for (size_t done = 0; done < size;) {
        ssize_t length = recv(to, bytes + done, size - done, 0);
        if (length <= 0)
            return -1;
        done += (size_t)length;
    }
    return 0;
}

int main(int argc, char *argv[])
{
    int ends[2];
    if (argc != 3)
        return 64;
    size_t size = (size_t)atol(argv[1]);
    uint64_t messages = 0, end = now(CLOCK_MONOTONIC) + (uint64_t)(atof(argv[2]) * 1e9);
    char *bytes = calloc(1, size);
    if (!bytes || make_pair(ends) < 0) {
        perror("floor");
        return 71;
    }
    uint64_t before = now(CLOCK_THREAD_CPUTIME_ID);
    while (now(CLOCK_MONOTONIC) < end)
        for (int i = 0; i < 64; i++, messages++)
            if (pass(ends[0], ends[1], bytes, size) < 0 || pass(ends[1], ends[0], bytes, size) < 0) {
                perror("floor");
                return 71;
            }
    printf("%llu %llu\n", (unsigned long long)messages,
           (unsigned long long)((now(CLOCK_THREAD_CPUTIME_ID) - before) / 2));
    return 0;
}
