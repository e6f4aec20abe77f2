#include "handover/descriptor_queue.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(DESCRIPTORS_PER_MESSAGE * sizeof(int))];
};

void descriptor_queue_init(struct descriptor_queue *queue)
{
    *queue = (struct descriptor_queue){.sender = -1};
}

static int add_pair(struct descriptor_queue *queue)
{
    int *grown = reallocarray(queue->ends, queue->end_count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    queue->ends = grown;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    grown[queue->end_count++] = pair[0];
    fd_close(&queue->sender);
    queue->sender = pair[1];
    return 0;
}

static int send_waiting(struct descriptor_queue *queue)
{
    char byte = 0; /* a message without any is easily overlooked */
    struct iovec part = {.iov_base = &byte, .iov_len = sizeof byte};
    union control control;
    size_t size = queue->waiting_count * sizeof(int);
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(size)};
    memset(&control, 0, sizeof control);
    control.header =
        (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(size)};
    memcpy(CMSG_DATA(&control.header), queue->waiting, size);
    if (sendmsg(queue->sender, &message, MSG_NOSIGNAL) < 0)
        return -errno;
    queue->waiting_count = 0;
    return 0;
}

int descriptor_queue_flush(struct descriptor_queue *queue)
{
    int r = queue->end_count > 0 ? 0 : add_pair(queue);
    if (r < 0 || queue->waiting_count == 0)
        return r;
    r = send_waiting(queue);
    if (r != -EAGAIN && r != -ENOBUFS)
        return r;
    r = add_pair(queue);
    return r < 0 ? r : send_waiting(queue);
}

int descriptor_queue_put(struct descriptor_queue *queue, int fd)
{
    int r = queue->waiting_count < DESCRIPTORS_PER_MESSAGE ? 0 : descriptor_queue_flush(queue);
    if (r == 0)
        queue->waiting[queue->waiting_count++] = fd;
    return r;
}

void descriptor_queue_leave(struct descriptor_queue *queue)
{
    for (size_t i = 0; i < queue->end_count; i++)
        close(queue->ends[i]);
    queue->end_count = 0;
}

bool descriptor_queue_is_held(struct descriptor_queue *queue)
{
    descriptor_queue_leave(queue);
    /* A datagram to a socket that is closed fails; a full one is there. */
    return queue->sender < 0 || send(queue->sender, NULL, 0, MSG_NOSIGNAL) >= 0 || errno == EAGAIN;
}

void descriptor_queue_clear(struct descriptor_queue *queue)
{
    descriptor_queue_leave(queue);
    fd_close(&queue->sender);
    free(queue->ends);
    descriptor_queue_init(queue);
}

/* Returns how many a message has brought. */
static int take_rights(struct msghdr *message, int fds[static DESCRIPTORS_PER_MESSAGE])
{
    int count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t size = header->cmsg_len - CMSG_LEN(0);
        memcpy(fds, CMSG_DATA(header), size); /* one message has one such header, unix(7) */
        count = (int)(size / sizeof(int));
    }
    return count;
}

int descriptor_queue_take(int end, int fds[static DESCRIPTORS_PER_MESSAGE])
{
    int count = 0;
    while (count == 0) { /* the message of descriptor_queue_is_held brings none */
        char byte;
        struct iovec part = {.iov_base = &byte, .iov_len = sizeof byte};
        union control control;
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        ssize_t r = recvmsg(end, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (r < 0)
            return errno == EAGAIN ? 0 : -errno;
        count = take_rights(&message, fds);
    }
    return count;
}
