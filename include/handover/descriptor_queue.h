/* Descriptors on their way from one process to the next, which may not exist yet: in the messages of Unix
 * datagram sockets (unix(7), SCM_RIGHTS), some in each. The kernel holds them for as long as somebody
 * holds the receiving ends: the service manager, or the same process across execve(2).
 *
 * Datagrams, since the other kinds of socket report a hang-up when their other end closes. A socket holds
 * only so many messages (net.unix.max_dgram_qlen, as few as 10), so there are as many of them as it takes. A
 * descriptor stays its owner's: what travels is a copy. Main thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The kernel allows 253 (SCM_MAX_FD). A receiver must have room for a whole message. */
#define DESCRIPTORS_PER_MESSAGE 64

struct descriptor_queue {
    int *ends; /* the receiving ends; owned */
    size_t end_count;
    int sender;                           /* of the last of them */
    int waiting[DESCRIPTORS_PER_MESSAGE]; /* not sent yet */
    size_t waiting_count;
};

void descriptor_queue_init(struct descriptor_queue *queue);

/* Both return 0 or a negative errno: -ETOOMANYREFS: more descriptors would be on their way than the limit of
 * the process allows (RLIMIT_NOFILE; getrlimit(2)); -EMFILE, -ENOMEM, and others of socketpair(2) and
 * sendmsg(2). Nothing has arrived before descriptor_queue_flush. */
int descriptor_queue_put(struct descriptor_queue *queue, int fd);
int descriptor_queue_flush(struct descriptor_queue *queue);

/* Gives up the receiving ends, as somebody else must hold them by now. */
void descriptor_queue_leave(struct descriptor_queue *queue);

/* The same, and returns whether somebody holds the last of them. */
bool descriptor_queue_is_held(struct descriptor_queue *queue);

/* Ends it: what is on its way and that nobody else holds is closed, its owner's descriptor aside. */
void descriptor_queue_clear(struct descriptor_queue *queue);

/* The next message of a receiving end. Returns how many descriptors came, which are the caller's now, 0 when
 * no more come, or a negative errno of recvmsg(2). What this process has no room for is lost (RLIMIT_NOFILE).
 */
int descriptor_queue_take(int end, int fds[static DESCRIPTORS_PER_MESSAGE]);
