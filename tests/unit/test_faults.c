/* The faults themselves: a rule that is never in force would let every test that relies on it pass. */
#include "faults.h"

#include "common.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls that a compiler cannot leave out. */
static void *(*volatile allocate)(size_t size) = malloc;

TEST(only_the_nth_call_fails)
{
    fault_arm("malloc", ENOMEM, 2);
    void *first = allocate(1);
    errno = 0;
    void *second = allocate(1);
    int error = errno;
    void *third = allocate(1);
    unsigned long hits = fault_disarm();

    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(second);
    ck_assert_int_eq(error, ENOMEM);
    ck_assert_ptr_nonnull(third);
    ck_assert_uint_eq(hits, 1);
    free(first);
    free(third);
}

TEST(each_arming_counts_anew)
{
    for (unsigned long nth = 1; nth < 200; nth++) {
        fault_arm("epoll_create1", EMFILE, nth);
        int first = epoll_create1(0);
        unsigned long hits = fault_disarm();
        ck_assert_int_eq(first < 0, nth == 1);
        ck_assert_uint_eq(hits, nth == 1);
        if (first >= 0)
            close(first);
    }
}

TEST(kinds_of_calls_are_told_apart)
{
    fault_rules("socket_inet6:EAFNOSUPPORT,epoll_ctl_mod:ENOMEM");
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    int error = errno;
    int four = socket(AF_INET, SOCK_STREAM, 0);
    int epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    int added = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, four, &event);
    int changed = epoll_ctl(epoll_fd, EPOLL_CTL_MOD, four, &event);
    fault_disarm();

    ck_assert_int_eq(six, -1);
    ck_assert_int_eq(error, EAFNOSUPPORT);
    ck_assert_int_ge(four, 0);
    ck_assert_int_eq(added, 0);
    ck_assert_int_eq(changed, -1);
    close(four);
    close(epoll_fd);
}

TEST(bytes_come_short)
{
    int pair[2];
    char got[8];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fault_rules("send:short=5:1 recv:short recv:count");
    ssize_t sent = send(pair[0], "123456", 6, 0);
    ssize_t sent_then = send(pair[0], "6", 1, 0);
    ssize_t received = recv(pair[1], got, sizeof got, 0);
    unsigned long hits = fault_disarm();
    ssize_t received_then = recv(pair[1], got + 1, sizeof got - 1, 0);

    ck_assert_int_eq(sent, 5);
    ck_assert_int_eq(sent_then, 1);
    ck_assert_int_eq(received, 1);
    ck_assert_int_eq(received_then, 5);
    ck_assert_mem_eq(got, "123456", 6);
    ck_assert_uint_eq(hits, 3);
    close(pair[0]);
    close(pair[1]);
}

static void *make_epoll(void *argument)
{
    pthread_setname_np(pthread_self(), "worker-7");
    *(int *)argument = epoll_create1(0);
    return NULL;
}

static int epoll_of_a_thread(const char *rules)
{
    pthread_t thread;
    int fd = -2;
    fault_rules(rules);
    int created = pthread_create(&thread, NULL, make_epoll, &fd);
    int joined = created == 0 ? pthread_join(thread, NULL) : 0;
    fault_disarm();
    ck_assert_int_eq(created, 0);
    ck_assert_int_eq(joined, 0);
    if (fd >= 0)
        close(fd);
    return fd;
}

TEST(threads_are_told_apart)
{
    ck_assert_int_eq(epoll_of_a_thread("epoll_create1@other:EMFILE"), -1);
    ck_assert_int_eq(epoll_of_a_thread("epoll_create1@worker:EMFILE"), -1);
    ck_assert_int_ge(epoll_of_a_thread("epoll_create1@main:EMFILE"), 0);
    ck_assert_int_ge(epoll_of_a_thread("epoll_create1@worker-8:EMFILE"), 0);
}

/* Which of eight calls fail. */
static unsigned failing_calls(const char *rules)
{
    unsigned failed = 0;
    fault_rules(rules);
    for (unsigned i = 0; i < 8; i++) {
        int fd = epoll_create1(0);
        if (fd < 0)
            failed |= 1U << i;
        else
            close(fd);
    }
    fault_disarm();
    return failed;
}

TEST(which_calls)
{
    ck_assert_uint_eq(failing_calls(""), 0);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE"), 0xFF);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE:*"), 0xFF);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE:3"), 0x04);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE:3-5"), 0x1C);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE:7-"), 0xC0);
    ck_assert_uint_eq(failing_calls("epoll_create1:EMFILE:/3"), 0x24);
    ck_assert_uint_eq(failing_calls("epoll_create1:count,epoll_create1:EMFILE:2\nepoll_create1:ENOMEM:3"),
                      0x06);
}

static const char *const bad_rules[] = {
    "epoll_create1",
    "epoll_create1:",
    "epoll_create1:NOERROR",
    "no_such_call:EIO",
    "epoll_create1:EIO:0",
    "epoll_create1:EIO:x",
    "epoll_create1:EIO:3-2",
    "epoll_create1:short",
    "recv:short=0",
    "recv:short=",
    "recv:sleep=x",
    "recv:EIO:/0",
    "recv@:EIO",
    "recv@sixteen-and-more:EIO",
};

/* Ends the process. */
TEST_EACH(refuses_what_it_cannot_read, bad_rules)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        fault_rules(*c);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 99, "status %#x", status);
}
