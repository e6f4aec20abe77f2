#include "serve/splice_pipe.h"

#include "common.h"
#include "faults.h"

#include <signal.h>

static struct splice_pipe own;
static int client, server;

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN); /* as in the daemon */
    splice_pipe_init(&own);
    ck_assert_int_ge(own.read_fd, 0);
    tcp_pair(0, &client, &server);
}

static void teardown(void)
{
    splice_pipe_deinit(&own);
    close(client);
    close(server);
}

static ssize_t take_when_there(size_t size)
{
    ck_assert(becomes_readable(server));
    return splice_pipe_take(&own, server, size);
}

START_TEST(there_and_back)
{
    static char sent[20000], got[20000];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 7 + i / 256);
    send_all(client, sent, sizeof sent);
    for (size_t done = 0; done < sizeof sent;) {
        ssize_t taken = take_when_there(3000);
        ck_assert_int_gt(taken, 0);
        ck_assert_int_le(taken, 3000);
        ck_assert_int_eq(splice_pipe_give(&own, server, (size_t)taken), taken);
        done += (size_t)taken;
    }
    receive_all(client, got, sizeof got);
    ck_assert_mem_eq(got, sent, sizeof sent);
}
END_TEST

START_TEST(nothing_there)
{
    ck_assert_int_eq(splice_pipe_take(&own, server, 100), 0);
}
END_TEST

START_TEST(end)
{
    shutdown(client, SHUT_WR);
    ck_assert_int_eq(take_when_there(100), 0);
}
END_TEST

/* splice(2) stops before one for good, also where it is in line. */
START_TEST(urgent_byte)
{
    char byte;
    set_socket_option(server, SOL_SOCKET, SO_OOBINLINE, 1);
    ck_assert_int_eq(send(client, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(take_when_there(100), 0);
    ck_assert_int_eq(recv(server, &byte, 1, 0), 1);
}
END_TEST

START_TEST(reset)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(client);
    ck_assert_int_eq(take_when_there(100), -ECONNRESET);
    client = -1;
}
END_TEST

START_TEST(lost_while_giving)
{
    static char bytes[100];
    send_all(client, bytes, sizeof bytes);
    ck_assert_int_eq(take_when_there(100), 100);
    shutdown(server, SHUT_WR);
    ck_assert_int_eq(splice_pipe_give(&own, server, 100), -EPIPE);
    ck_assert_int_eq(splice_pipe_empty(&own, (uint8_t *)bytes, 100), 0);
}
END_TEST

/* What the socket does not take is what is left to be copied, the last of what was taken. */
START_TEST(full_socket)
{
    static uint8_t bytes[4096], got[4096];
    memset(bytes, 'x', sizeof bytes);
    ssize_t taken, given;
    do {
        bytes[sizeof bytes - 1]++;
        send_all(client, bytes, sizeof bytes);
        WAIT_FOR(arrived(server) == sizeof bytes);
        taken = splice_pipe_take(&own, server, sizeof bytes);
        ck_assert_int_eq(taken, sizeof bytes);
        given = splice_pipe_give(&own, server, (size_t)taken);
        ck_assert_int_ge(given, 0);
    } while (given == taken);
    ck_assert_int_eq(splice_pipe_empty(&own, got, (size_t)(taken - given)), 0);
    ck_assert_mem_eq(got, bytes + given, (size_t)(taken - given));
}
END_TEST

START_TEST(kernel_without_it)
{
    static const int errors[] = {EINVAL, ENOSYS, EPERM, EACCES, ENOMEM, EAGAIN, EINTR};
    send_text(client, "x");
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        ck_assert(becomes_readable(server));
        fault_arm("splice", errors[i], 1);
        ck_assert_int_eq(splice_pipe_take(&own, server, 100), 0);
        fault_disarm();
    }
    ck_assert_int_eq(take_when_there(100), 1);
}
END_TEST

/* The next connection must not get what was meant for another. */
START_TEST(pipe_that_cannot_be_emptied)
{
    uint8_t bytes[5];
    send_text(client, "secret");
    ck_assert_int_eq(take_when_there(5), 5);
    fault_arm("read", EIO, 1);
    ck_assert_int_eq(splice_pipe_empty(&own, bytes, 5), -EIO);
    fault_disarm();
    ck_assert_int_eq(take_when_there(5), 0);
}
END_TEST

/* No pipe, or one that would make it slower, as a user with many pipes gets it: all is copied. */
START_TEST(no_pipe)
{
    static const char *const cases[] = {"pipe2:EMFILE", "fcntl:EPERM"};
    unsigned before = open_descriptors();
    send_text(client, "x");
    ck_assert(becomes_readable(server));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct splice_pipe other;
        fault_rules(cases[i]);
        splice_pipe_init(&other);
        fault_disarm();
        ck_assert_uint_eq(open_descriptors(), before);
        ck_assert_int_eq(splice_pipe_take(&other, server, 100), 0);
        splice_pipe_deinit(&other);
    }
}
END_TEST

/* As large as everybody's. */
START_TEST(pipe_that_does_not_grow)
{
    struct splice_pipe other;
    fault_arm("fcntl", EPERM, 1);
    splice_pipe_init(&other);
    fault_disarm();
    send_text(client, "x");
    ck_assert(becomes_readable(server));
    ck_assert_int_eq(splice_pipe_take(&other, server, 100), 1);
    splice_pipe_deinit(&other);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("pass_through");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, there_and_back);
    tcase_add_test(tests, nothing_there);
    tcase_add_test(tests, end);
    tcase_add_test(tests, urgent_byte);
    tcase_add_test(tests, reset);
    tcase_add_test(tests, lost_while_giving);
    tcase_add_test(tests, full_socket);
    tcase_add_test(tests, kernel_without_it);
    tcase_add_test(tests, pipe_that_cannot_be_emptied);
    tcase_add_test(tests, no_pipe);
    tcase_add_test(tests, pipe_that_does_not_grow);
    return run_case(tests);
}
