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

FIXTURE(setup, teardown)

TEST(there_and_back)
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

/* Neither bytes nor the end are an error. */
TEST(nothing_there)
{
    ck_assert_int_eq(splice_pipe_take(&own, server, 100), 0);
    shutdown(client, SHUT_WR);
    ck_assert_int_eq(take_when_there(100), 0);
}

/* splice(2) stops before one for good, also where it is in line. */
TEST(urgent_byte)
{
    char byte;
    set_socket_option(server, SOL_SOCKET, SO_OOBINLINE, 1);
    ck_assert_int_eq(send(client, "!", 1, MSG_OOB), 1);
    ck_assert_int_eq(take_when_there(100), 0);
    ck_assert_int_eq(recv(server, &byte, 1, 0), 1);
}

TEST(reset)
{
    const struct linger now = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(client);
    ck_assert_int_eq(take_when_there(100), -ECONNRESET);
    client = -1;
}

TEST(lost_while_giving)
{
    static char bytes[100];
    send_all(client, bytes, sizeof bytes);
    ck_assert_int_eq(take_when_there(100), 100);
    shutdown(server, SHUT_WR);
    ck_assert_int_eq(splice_pipe_give(&own, server, 100), -EPIPE);
    ck_assert_int_eq(splice_pipe_empty(&own, (uint8_t *)bytes, 100), 0);
}

/* What the socket does not take is what is left to be copied, the last of what was taken. */
TEST(full_socket)
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

static const int errors[] = {EINVAL, ENOSYS, EPERM, EACCES, ENOMEM, EAGAIN, EINTR};

TEST_EACH(kernel_without_it, errors)
{
    send_text(client, "x");
    ck_assert(becomes_readable(server));
    fault_arm("splice", *c, 1);
    ck_assert_int_eq(splice_pipe_take(&own, server, 100), 0);
    fault_disarm();
    ck_assert_int_eq(take_when_there(100), 1);
}

/* The next connection must not get what was meant for another. */
TEST(pipe_that_cannot_be_emptied)
{
    uint8_t bytes[5];
    send_text(client, "secret");
    ck_assert_int_eq(take_when_there(5), 5);
    fault_arm("read", EIO, 1);
    ck_assert_int_eq(splice_pipe_empty(&own, bytes, 5), -EIO);
    fault_disarm();
    ck_assert_int_eq(take_when_there(5), 0);
}

static const struct {
    const char *rules;
    ssize_t taken;
} pipes[] = {
    {"pipe2:EMFILE", 0}, /* none, */
    {"fcntl:EPERM",
     0}, /* or one that would make it slower, as a user with many pipes gets it: all is copied */
    {"fcntl:EPERM:1", 1}, /* as large as everybody's */
};

TEST_EACH(pipe_that_is_not_what_was_wanted, pipes)
{
    struct splice_pipe other;
    unsigned before = open_descriptors();
    fault_rules(c->rules);
    splice_pipe_init(&other);
    fault_disarm();
    ck_assert_uint_eq(open_descriptors(), before + (c->taken > 0 ? 2 : 0));
    send_text(client, "x");
    ck_assert(becomes_readable(server));
    ck_assert_int_eq(splice_pipe_take(&other, server, 100), c->taken);
    splice_pipe_deinit(&other);
}
