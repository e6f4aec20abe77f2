#include "client/check/checked_stream.h"

#include "common.h"
#include "faults.h"

#define LARGE ((size_t)8 << 20)

static struct checked_stream stream;
static int client, server;

static void set_up(void)
{
    stream = (struct checked_stream){.pattern = pattern_make(1, 2, 64), .expect = EXPECT_UPPER};
    tcp_pair(0, &client, &server);
}

static void tear_down(void)
{
    close(client);
    close(server);
}

FIXTURE(set_up, tear_down)

/* Neither more than the socket takes, nor more than a few pieces of a fast one. */
TEST(in_pieces)
{
    stream.due = LARGE;
    while (stream.sent < LARGE) {
        uint64_t before = stream.sent;
        int r = checked_stream_send(&stream, client);
        ck_assert_int_eq(r, stream.sent < LARGE ? -EAGAIN : 0);
        ck_assert_uint_le(stream.sent - before, 256 << 10);
        for (uint64_t left = stream.sent - before; left > 0;) {
            uint8_t bytes[65536];
            size_t part = left < sizeof bytes ? (size_t)left : sizeof bytes;
            receive_all(server, bytes, part);
            expect_apply(EXPECT_UPPER, bytes, part);
            ck_assert_uint_eq(checked_stream_take(&stream, bytes, part), part);
            left -= part;
        }
    }
}

/* A server cannot know what is not sent yet. */
TEST(an_answer_before_the_question)
{
    uint8_t answer[64];
    stream.due = 64;
    pattern_answer(&stream.pattern, EXPECT_UPPER, 0, answer, sizeof answer);
    ck_assert_uint_eq(checked_stream_take(&stream, answer, sizeof answer), 0);
    ck_assert_int_eq(checked_stream_diagnose(&stream, answer, sizeof answer).kind, FAULT_SURPLUS);
    ck_assert_uint_eq(checked_stream_count_wrong(&stream, answer, sizeof answer), 64);
    ck_assert_uint_eq(checked_stream_cut(&stream).length, 64);
}

TEST(other_errors)
{
    stream.due = 64;
    fault_arm("send", EINTR, 0);
    int r = checked_stream_send(&stream, client);
    fault_disarm();
    ck_assert_int_eq(r, -EAGAIN);
    fault_arm("send", ENOBUFS, 0);
    r = checked_stream_send(&stream, client);
    fault_disarm();
    ck_assert_int_eq(r, -ENOBUFS);
    ck_assert(!stream.was_reset);
}
