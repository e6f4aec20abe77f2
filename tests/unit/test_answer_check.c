#include "client/check/answer_check.h"

#include "common.h"
#include "faults.h"

static struct answer_check check;

static void start(enum expectation expect)
{
    ck_assert_int_eq(answer_check_init(&check, expect), 0);
}

static void send_input(const char *text)
{
    answer_check_sent(&check, text, strlen(text));
}

static void receive_answer(const char *text)
{
    answer_check_received(&check, text, strlen(text));
}

static void expect_right(bool ended)
{
    struct fault fault;
    ck_assert(!answer_check_is_wrong(&check));
    ck_assert(!answer_check_fault(&check, ended, &fault));
}

static struct fault expect_wrong(bool ended, enum fault_kind kind, uint64_t offset)
{
    struct fault fault;
    char text[FAULT_TEXT_SIZE];
    ck_assert(answer_check_fault(&check, ended, &fault));
    ck_assert_msg(fault.kind == kind && fault.offset == offset, "%d: %s", (int)fault.kind,
                  fault_format(&fault, text));
    return fault;
}

TEST(right)
{
    start(EXPECT_ECHO);
    expect_right(true);
    send_input("hello ");
    receive_answer("hel");
    expect_right(false);
    send_input("world");
    receive_answer("lo world");
    expect_right(true);
    answer_check_deinit(&check);

    start(EXPECT_UPPER);
    send_input("hello \xe4");
    receive_answer("HELLO \xe4");
    expect_right(true);
    answer_check_deinit(&check);
}

TEST(cut)
{
    start(EXPECT_ECHO);
    send_input("hello");
    receive_answer("hel");
    expect_right(false);
    ck_assert_uint_eq(expect_wrong(true, FAULT_CUT, 3).length, 2);
    answer_check_deinit(&check);
}

TEST(surplus)
{
    start(EXPECT_ECHO);
    receive_answer("hello");
    ck_assert_uint_eq(expect_wrong(false, FAULT_SURPLUS, 0).length, 5);
    answer_check_deinit(&check);
}

TEST(changed)
{
    start(EXPECT_ECHO);
    send_input("0123456789abcdefghij");
    receive_answer("0123456");
    receive_answer("?89abc");
    receive_answer("defghij");
    ck_assert(answer_check_is_wrong(&check));
    ck_assert(!answer_check_is_certain(&check));
    struct fault fault = expect_wrong(false, FAULT_CHANGED, 7);
    ck_assert_uint_eq(fault.length, 1);
    ck_assert_int_eq(fault.got, '?');
    ck_assert_int_eq(fault.wanted, '7');
    answer_check_deinit(&check);
}

TEST(the_other_kind)
{
    start(EXPECT_UPPER);
    send_input("hello");
    receive_answer("hello");
    expect_wrong(false, FAULT_CASE, 0);
    answer_check_deinit(&check);
}

static void fill(uint8_t *bytes, size_t length, uint64_t *state)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)next_random(state);
}

/* Through the ring many times, with pieces of every size. */
TEST(endless)
{
    static uint8_t bytes[100003];
    uint64_t sending = 1, choosing = 2;
    uint64_t total = 0;
    start(EXPECT_ECHO);
    while (total < (UINT64_C(20) << 20)) {
        size_t length = 1 + next_random(&choosing) % sizeof bytes;
        ck_assert_uint_ge(answer_check_room(&check), length);
        fill(bytes, length, &sending);
        answer_check_sent(&check, bytes, length);
        size_t first = next_random(&choosing) % length;
        answer_check_received(&check, bytes, first);
        answer_check_received(&check, bytes + first, length - first);
        total += length;
        ck_assert_uint_eq(check.right, total);
    }
    expect_right(true);
    /* What came a while ago is known when it comes again. */
    answer_check_sent(&check, bytes, sizeof bytes);
    answer_check_received(&check, bytes, sizeof bytes);
    send_input("what comes next");
    answer_check_received(&check, bytes + 1000, 2000);
    struct fault fault = expect_wrong(false, FAULT_REPEATED, total + sizeof bytes);
    ck_assert_uint_eq(fault.length, sizeof bytes - 1000);
    answer_check_deinit(&check);
}

/* No more may be sent than the ring can tell about; evidence has its limit. */
TEST(bounds)
{
    static uint8_t bytes[1 << 16];
    uint64_t state = 3, sent = 0;
    start(EXPECT_ECHO);
    size_t room = answer_check_room(&check);
    while (answer_check_room(&check) >= sizeof bytes) {
        fill(bytes, sizeof bytes, &state);
        answer_check_sent(&check, bytes, sizeof bytes);
        sent += sizeof bytes;
    }
    ck_assert_uint_eq(answer_check_room(&check), room - sent);
    memset(bytes, 0, sizeof bytes);
    answer_check_received(&check, bytes, sizeof bytes / 2);
    ck_assert(!answer_check_is_certain(&check));
    answer_check_received(&check, bytes, sizeof bytes);
    answer_check_received(&check, bytes, sizeof bytes);
    ck_assert(answer_check_is_certain(&check));
    expect_wrong(false, FAULT_OTHER, check.right);
    answer_check_deinit(&check);
}

TEST(no_memory)
{
    for (unsigned nth = 1; nth <= 2; nth++) {
        fault_arm("malloc", ENOMEM, nth);
        int r = answer_check_init(&check, EXPECT_ECHO);
        fault_disarm();
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert_ptr_null(check.ring);
        ck_assert_ptr_null(check.evidence);
    }
    /* The place is known all the same. */
    struct fault fault;
    start(EXPECT_ECHO);
    send_input("hello, world");
    receive_answer("hellO, world");
    fault_arm("malloc", ENOMEM, 0);
    bool wrong = answer_check_fault(&check, false, &fault);
    fault_disarm();
    ck_assert(wrong);
    ck_assert_int_eq(fault.kind, FAULT_OTHER);
    ck_assert_uint_eq(fault.offset, 4);
    ck_assert_int_eq(fault.got, 'O');
    ck_assert_int_eq(fault.wanted, 'o');
    answer_check_deinit(&check);
}
