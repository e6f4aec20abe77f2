/* A server of a unit test: each connection's bytes come back, in one thread. */
#pragma once

#include "client_sockets.h"

#include <pthread.h>
#include <stdatomic.h>

#define ECHO_CONNECTIONS 64

struct echo_server {
    int listening;
    atomic_bool stop;
    atomic_uint accepted;
    pthread_t thread;
};

static inline void echo_once(int fd, struct pollfd *item)
{
    static uint8_t bytes[65536];
    ssize_t length = recv(fd, bytes, sizeof bytes, 0);
    for (ssize_t done = 0; done < length;) {
        ssize_t sent = send(fd, bytes + done, (size_t)(length - done), MSG_NOSIGNAL);
        if (sent < 0)
            length = -1;
        else
            done += sent;
    }
    if (length > 0)
        return;
    close(fd);
    item->fd = -1;
}

static inline void *echo_run(void *argument)
{
    struct echo_server *server = argument;
    struct pollfd items[1 + ECHO_CONNECTIONS] = {{.fd = server->listening, .events = POLLIN}};
    nfds_t count = 1;
    while (!atomic_load(&server->stop)) {
        poll(items, count, 10);
        for (nfds_t i = 1; i < count; i++)
            if (items[i].fd >= 0 && items[i].revents != 0)
                echo_once(items[i].fd, &items[i]);
        if (items[0].revents == 0 || count == 1 + ECHO_CONNECTIONS)
            continue;
        items[count++] = (struct pollfd){.fd = accept(server->listening, NULL, NULL), .events = POLLIN};
        atomic_fetch_add(&server->accepted, 1);
    }
    for (nfds_t i = 1; i < count; i++)
        if (items[i].fd >= 0)
            close(items[i].fd);
    return NULL;
}

/* `listening` is the caller's. */
static inline void echo_start(struct echo_server *server, int listening)
{
    *server = (struct echo_server){.listening = listening};
    ck_assert_int_eq(pthread_create(&server->thread, NULL, echo_run, server), 0);
}

static inline void echo_stop(struct echo_server *server)
{
    atomic_store(&server->stop, true);
    ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
}
