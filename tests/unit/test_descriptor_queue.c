#include "handover/descriptor_queue.h"

#include "common.h"
#include "faults.h"

#include <sys/eventfd.h>
#include <sys/resource.h>

/* A message each fills a socket sooner than this, whatever net.unix.max_dgram_qlen is. */
#define MESSAGES_MAX 5000

static struct descriptor_queue queue;
static unsigned sent, received; /* descriptors, which are numbered from 1 */

/* What is on its way counts as well. */
static void setup(void)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    descriptor_queue_init(&queue);
}

static void teardown(void)
{
    descriptor_queue_clear(&queue);
}

FIXTURE(setup, teardown)

/* The next number, as a descriptor that is closed here when it has been put. */
static void put(void)
{
    int fd = eventfd(++sent, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    int r = descriptor_queue_put(&queue, fd);
    ck_assert_msg(r == 0, "%s", strerror(-r));
    r = descriptor_queue_flush(&queue);
    ck_assert_msg(r == 0, "%s", strerror(-r));
    close(fd);
}

/* Returns how many messages of one descriptor it took until there are so many sockets. */
static unsigned put_until(size_t ends)
{
    unsigned before = sent;
    while (queue.end_count < ends) {
        ck_assert_uint_lt(sent - before, MESSAGES_MAX);
        put();
    }
    return sent - before;
}

/* As whoever holds it for the next process. */
static int hold(size_t end)
{
    int fd = fcntl(queue.ends[end], F_DUPFD_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* That one message brings the next so many. */
static void expect_message(int end, int count)
{
    int fds[DESCRIPTORS_PER_MESSAGE];
    ck_assert_int_eq(descriptor_queue_take(end, fds), count);
    for (int i = 0; i < count; i++) {
        uint64_t number;
        ck_assert_int_eq(read(fds[i], &number, sizeof number), sizeof number);
        ck_assert_uint_eq(number, ++received);
        ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        close(fds[i]);
    }
}

TEST(more_than_one_message)
{
    enum { COUNT = 2 * DESCRIPTORS_PER_MESSAGE + 5 };
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        fds[i] = eventfd(++sent, EFD_CLOEXEC | EFD_NONBLOCK);
        ck_assert_int_ge(fds[i], 0);
        ck_assert_int_eq(descriptor_queue_put(&queue, fds[i]), 0);
    }
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0); /* nothing is left */
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_ge(fcntl(fds[i], F_GETFD), 0); /* still ours */
        close(fds[i]);
    }
    ck_assert_uint_eq(queue.end_count, 1);
    expect_message(queue.ends[0], DESCRIPTORS_PER_MESSAGE);
    expect_message(queue.ends[0], DESCRIPTORS_PER_MESSAGE);
    expect_message(queue.ends[0], 5);
    expect_message(queue.ends[0], 0);
}

TEST(more_than_one_socket)
{
    unsigned before = open_descriptors();
    put_until(3);
    for (size_t i = 0; i < 3; i++) {
        unsigned first = received;
        while (arrived(queue.ends[i]) > 0)
            expect_message(queue.ends[i], 1);
        ck_assert_uint_gt(received, first);
        expect_message(queue.ends[i], 0);
    }
    ck_assert_uint_eq(received, sent);
    descriptor_queue_clear(&queue);
    ck_assert_uint_eq(open_descriptors(), before);
}

/* The process that has sent them is gone. */
TEST(comes_after_the_sender_is_gone)
{
    put();
    put();
    int end = hold(0);
    descriptor_queue_clear(&queue);
    expect_message(end, 1);
    expect_message(end, 1);
    expect_message(end, 0);
    expect_message(end, 0);
    close(end);
}

/* There is something to hold all the same, so that whether it is held can be told. */
TEST(nothing_is_sent)
{
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    ck_assert_uint_eq(queue.end_count, 1);
    expect_message(queue.ends[0], 0);
    ck_assert(!descriptor_queue_is_held(&queue));
}

TEST(is_held)
{
    put();
    int end = hold(0);
    ck_assert(descriptor_queue_is_held(&queue));
    ck_assert_uint_eq(queue.end_count, 0);
    ck_assert(descriptor_queue_is_held(&queue));
    descriptor_queue_clear(&queue);
    expect_message(end, 1);
    expect_message(end, 0); /* whatever was sent to find out */
    close(end);
}

TEST(is_held_and_full)
{
    unsigned room = put_until(2) - 1; /* of one socket */
    descriptor_queue_clear(&queue);
    sent = 0;
    while (sent < room)
        put();
    ck_assert_uint_eq(queue.end_count, 1);
    int end = hold(0);
    ck_assert(descriptor_queue_is_held(&queue));
    descriptor_queue_clear(&queue);
    while (received < sent)
        expect_message(end, 1);
    expect_message(end, 0);
    close(end);
}

TEST(is_not_held)
{
    put();
    ck_assert(!descriptor_queue_is_held(&queue));
    descriptor_queue_clear(&queue);

    put_until(2); /* the first alone is not enough */
    int first = hold(0);
    ck_assert(!descriptor_queue_is_held(&queue));
    close(first);
}

/* What nobody has taken is closed with the queue. */
TEST(clear_closes_what_is_on_its_way)
{
    int client, server;
    tcp_pair(0, &client, &server);
    ck_assert_int_eq(descriptor_queue_put(&queue, server), 0);
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    close(server);
    expect_nothing_yet(client);
    descriptor_queue_clear(&queue);
    expect_end(client);
    close(client);
}

static const struct {
    unsigned before; /* descriptors sent */
    const char *rules;
    int error;
} failures[] = {
    {0, "socketpair:EMFILE", EMFILE},
    {0, "reallocarray:ENOMEM", ENOMEM},
    {0, "sendmsg:EAGAIN", EAGAIN}, /* to a socket that is new */
    {1, "sendmsg:ETOOMANYREFS", ETOOMANYREFS},
    {1, "sendmsg:ENOBUFS", ENOBUFS},
    {1, "sendmsg:EAGAIN:1,socketpair:EMFILE", EMFILE},
    {1, "sendmsg:EAGAIN:1,reallocarray:ENOMEM", ENOMEM},
};

/* And nothing is lost where it is tried again. */
TEST_EACH(failing_calls, failures)
{
    while (sent < c->before)
        put();
    unsigned before = open_descriptors();
    int fd = eventfd(++sent, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_eq(descriptor_queue_put(&queue, fd), 0);
    fault_rules(c->rules);
    int r = descriptor_queue_flush(&queue);
    fault_disarm();
    ck_assert_int_eq(r, -c->error);
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    close(fd);
    for (size_t i = 0; i < queue.end_count; i++)
        while (arrived(queue.ends[i]) > 0)
            expect_message(queue.ends[i], 1);
    ck_assert_uint_eq(received, sent);
    descriptor_queue_clear(&queue);
    ck_assert_uint_eq(open_descriptors(), before - 2 * c->before); /* the pair */
}

/* The kernel's word for a full socket may be another one. */
static const int full[] = {EAGAIN, ENOBUFS};

TEST_EACH(full_socket, full)
{
    put();
    fault_arm("sendmsg", *c, 1);
    put();
    fault_disarm();
    ck_assert_uint_eq(queue.end_count, 2);
    expect_message(queue.ends[0], 1);
    expect_message(queue.ends[0], 0);
    expect_message(queue.ends[1], 1);
}

/* All of a message wait when it cannot be sent; no more can be put then. */
TEST(put_after_a_failure)
{
    int fd = eventfd(0, EFD_CLOEXEC), fds[DESCRIPTORS_PER_MESSAGE], put = 0, r;
    fault_rules("sendmsg:ETOOMANYREFS");
    while ((r = descriptor_queue_put(&queue, fd)) == 0 && put <= DESCRIPTORS_PER_MESSAGE)
        put++;
    int again = descriptor_queue_put(&queue, fd);
    fault_disarm();
    ck_assert_int_eq(r, -ETOOMANYREFS);
    ck_assert_int_eq(again, -ETOOMANYREFS);
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    ck_assert_int_eq(descriptor_queue_take(queue.ends[0], fds), DESCRIPTORS_PER_MESSAGE);
    for (size_t i = 0; i < DESCRIPTORS_PER_MESSAGE; i++)
        close(fds[i]);
    close(fd);
}

/* The kernel counts what a user has on its way, and is strict with those without privileges alone. */
TEST(more_on_their_way_than_the_limit)
{
    struct rlimit usual;
    int fd = eventfd(0, EFD_CLOEXEC), r = 0;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const struct rlimit few = {.rlim_cur = 300, .rlim_max = usual.rlim_max};
    uid_t user = geteuid();
    if (user == 0 && seteuid(65534) < 0)
        return;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (unsigned i = 0; r == 0 && i < 10 * DESCRIPTORS_PER_MESSAGE; i++)
        r = descriptor_queue_put(&queue, fd);
    ck_assert_int_eq(seteuid(user), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    ck_assert_int_eq(r, -ETOOMANYREFS);
    close(fd);
}

TEST(failing_to_take)
{
    int fds[DESCRIPTORS_PER_MESSAGE];
    put();
    fault_arm("recvmsg", ENOMEM, 1);
    int r = descriptor_queue_take(queue.ends[0], fds);
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
    expect_message(queue.ends[0], 1);
    ck_assert_int_eq(descriptor_queue_take(-1, fds), -EBADF);
}

/* Leaves room for so many descriptors. */
static void limit_room(unsigned room)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (limit.rlim_cur = 0; room > 0; limit.rlim_cur++)
        room -= fcntl((int)limit.rlim_cur, F_GETFD) < 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

#define MANY (DESCRIPTORS_PER_MESSAGE - 1)

static const unsigned rooms[] = {1, 7, MANY - 1};

/* The first come, and the rest of the message is lost; the next is another matter. */
TEST_EACH(too_few_free_descriptors, rooms)
{
    struct rlimit usual;
    int fds[DESCRIPTORS_PER_MESSAGE], fd = eventfd(0, EFD_CLOEXEC);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(descriptor_queue_put(&queue, fd), 0);
    ck_assert_int_eq(descriptor_queue_flush(&queue), 0);
    sent = received = 0;
    put();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    limit_room(*c);
    int count = descriptor_queue_take(queue.ends[0], fds);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    ck_assert_int_eq(count, *c);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    expect_message(queue.ends[0], 1);
    expect_message(queue.ends[0], 0);
    close(fd);
}

/* Whole messages are lost, and that is no error. */
TEST(no_free_descriptor)
{
    struct rlimit usual;
    int fds[DESCRIPTORS_PER_MESSAGE];
    put();
    put();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = usual.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int count = descriptor_queue_take(queue.ends[0], fds);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    ck_assert_int_eq(count, 0);
    put();
    received = 2;
    expect_message(queue.ends[0], 1);
}
