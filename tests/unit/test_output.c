#include "client/report/output.h"

#include "client/process/exit_status.h"
#include "client/process/interrupt.h"
#include "common.h"
#include "faults.h"

#include <pthread.h>
#include <signal.h>

#define LENGTH ((size_t)300000) /* more than a pipe holds */

static int saved, ends[2], interrupt_fd;
static struct output output;

static void take_stdout(int fd)
{
    fflush(stdout);
    saved = dup(STDOUT_FILENO);
    ck_assert_int_ge(dup2(fd, STDOUT_FILENO), 0);
}

static void give_stdout_back(void)
{
    ck_assert_int_ge(dup2(saved, STDOUT_FILENO), 0);
    close(saved);
}

/* stdout is a pipe with a stream. */
static void set_up(void)
{
    ck_assert_int_eq(pipe(ends), 0);
    take_stdout(ends[1]);
    interrupt_fd = interrupt_open();
    ck_assert_int_ge(interrupt_fd, 0);
    ck_assert_int_eq(output_open(&output, interrupt_fd), 0);
}

static void tear_down(void)
{
    output_close(&output);
    give_stdout_back();
    close(interrupt_fd);
    close(ends[0]);
    close(ends[1]);
}

FIXTURE(set_up, tear_down)

static int write_much(void)
{
    for (size_t i = 0; i < LENGTH; i++)
        (void)fputc((char)i, output.stream);
    return output_finish(&output);
}

static void *read_much(void *unused)
{
    uint8_t byte;
    (void)unused;
    for (size_t i = 0; i < LENGTH; i++)
        if (read(ends[0], &byte, 1) != 1 || byte != (uint8_t)i)
            return (void *)1;
    return NULL;
}

/* However slow the reader, and with or without a signal. */
TEST_TIMES(waits_for_room, 2)
{
    pthread_t thread;
    void *failed;
    ck_assert_int_ge(output.owned, 0);
    ck_assert_int_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* the others' is as it was */
    ck_assert_int_eq(pthread_create(&thread, NULL, read_much, NULL), 0);
    if (variant == 1)
        raise(SIGTERM);
    int r = write_much();
    ck_assert_int_eq(pthread_join(thread, &failed), 0);
    ck_assert_int_eq(r, 0);
    ck_assert_ptr_null(failed);
}

static void *interrupt_soon(void *main_thread)
{
    nap();
    pthread_kill(*(pthread_t *)main_thread, SIGINT);
    return NULL;
}

TEST(nobody_reads)
{
    pthread_t thread, self = pthread_self();
    ck_assert_int_eq(pthread_create(&thread, NULL, interrupt_soon, &self), 0);
    ck_assert_int_eq(write_much(), -EINTR);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    /* And it stays so: nothing waits a second time. */
    (void)fputs("more", output.stream);
    ck_assert_int_eq(output_finish(&output), -EINTR);
}

TEST(reader_has_gone)
{
    (void)signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    ck_assert_int_eq(write_much(), -EPIPE);
    ends[0] = dup(ends[1]);
}

TEST(disk_is_full)
{
    fault_arm("write", ENOSPC, 0);
    int r = write_much();
    fault_disarm();
    ck_assert_int_eq(r, -ENOSPC);
}

TEST(exit_status)
{
    ck_assert_int_eq(output_exit_status(0), EXIT_SUCCESS);
    ck_assert_int_eq(output_exit_status(-EPIPE), EXIT_SUCCESS);
    ck_assert_int_eq(output_exit_status(-ENOSPC), EXIT_FILE);
}

TEST(waiting_fails)
{
    fault_rules("write:EAGAIN:1,poll:ENOMEM");
    int r = write_much();
    fault_disarm();
    ck_assert_int_eq(r, -ENOMEM);
}

TEST(of_every_kind)
{
    struct output other;
    char bytes[3];
    int sockets[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    ck_assert_int_ge(dup2(sockets[0], STDOUT_FILENO), 0);
    ck_assert_int_eq(output_open(&other, -1), 0);
    ck_assert(other.is_socket);
    ck_assert_int_eq(other.fd, STDOUT_FILENO);
    ck_assert_int_eq(output_write(&other, "abc", 3), 3);
    ck_assert_int_eq(read(sockets[1], bytes, 3), 3);
    while (output_write(&other, "more", 4) > 0)
        ;
    ck_assert_int_eq(errno, EAGAIN);
    output_close(&other);
    ck_assert_int_ge(dup2(ends[1], STDOUT_FILENO), 0);
    close(sockets[0]);
    close(sockets[1]);
    /* Without /proc, stdout has to do. */
    fault_arm("open", ENOENT, 0);
    ck_assert_int_eq(output_open(&other, -1), 0);
    fault_disarm();
    ck_assert_int_eq(other.fd, STDOUT_FILENO);
    output_close(&other);
    output_close(&other); /* does nothing */
}
