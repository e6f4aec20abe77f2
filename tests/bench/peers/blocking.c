/* Blocking echo, a thread or a process a connection. peer threads|processes PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void echo(int fd)
{
    static _Thread_local char bytes[65536];
    ssize_t length;
    while ((length = read(fd, bytes, sizeof bytes)) > 0)
        for (ssize_t done = 0, n; done < length; done += n)
            if ((n = write(fd, bytes + done, (size_t)(length - done))) <= 0)
                goto out;
out:
    close(fd);
}

static void *run(void *argument)
{
    echo((int)(intptr_t)argument);
    return NULL;
}

static void start_thread(int fd)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    if (pthread_create(&thread, &attributes, run, (void *)(intptr_t)fd) != 0)
        close(fd);
    pthread_attr_destroy(&attributes);
}

static void start_process(int server, int fd)
{
    if (fork() == 0) {
        close(server);
        echo(fd);
        _exit(0);
    }
    close(fd);
}

static void reap(int signal)
{
    (void)signal;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(int argc, char *argv[])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (argc != 3)
        return 64;
    int processes = strcmp(argv[1], "processes") == 0;
    int on = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons((uint16_t)atoi(argv[2]));
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, reap); /* and not SIG_IGN: so their CPU time is known */
    if (bind(server, (struct sockaddr *)&address, sizeof address) < 0 || listen(server, 4096) < 0) {
        perror("peer");
        return 69;
    }
    for (;;) {
        int fd = accept(server, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
        if (processes)
            start_process(server, fd);
        else
            start_thread(fd);
    }
}
