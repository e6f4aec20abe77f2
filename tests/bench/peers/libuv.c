/* The echo server of libuv's guide (chapter "Networking", TCP): each read and each write with memory of its
 * own. With TCP_NODELAY, which the guide leaves out. peer PORT */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct write_request {
    uv_write_t request;
    uv_buf_t buffer;
};

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    *buffer = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_close(uv_handle_t *handle)
{
    free(handle);
}

static void on_written(uv_write_t *request, int status)
{
    struct write_request *own = (struct write_request *)request;
    (void)status;
    free(own->buffer.base);
    free(own);
}

static void on_read(uv_stream_t *client, ssize_t length, const uv_buf_t *buffer)
{
    if (length > 0) {
        struct write_request *request = malloc(sizeof *request);
        if (!request)
            abort();
        request->buffer = uv_buf_init(buffer->base, (unsigned)length);
        uv_write(&request->request, client, &request->buffer, 1, on_written);
        return;
    }
    if (length < 0)
        uv_close((uv_handle_t *)client, on_close);
    free(buffer->base);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status < 0)
        return;
    uv_tcp_t *client = malloc(sizeof *client);
    if (!client)
        abort();
    uv_tcp_init(server->loop, client);
    if (uv_accept(server, (uv_stream_t *)client) == 0) {
        uv_tcp_nodelay(client, 1);
        uv_read_start((uv_stream_t *)client, allocate, on_read);
    } else {
        uv_close((uv_handle_t *)client, on_close);
    }
}

int main(int argc, char *argv[])
{
    uv_tcp_t server;
    struct sockaddr_in address;
    if (argc != 2)
        return 64;
    signal(SIGPIPE, SIG_IGN);
    uv_tcp_init(uv_default_loop(), &server);
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address);
    uv_tcp_bind(&server, (const struct sockaddr *)&address, 0);
    int r = uv_listen((uv_stream_t *)&server, 4096, on_connection);
    if (r < 0) {
        fprintf(stderr, "peer: %s\n", uv_strerror(r));
        return 69;
    }
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
