/* The answers to any input of a talk, sent and received in pieces. */
#include "fuzz.h"

#include "client/check/answer_check.h"

#define STREAM_MAX 8192

static struct answer_check check;

/* What was sent, as it should come back, and what came. */
static uint8_t sent[STREAM_MAX], came[STREAM_MAX];
static size_t sent_length, came_length;

static void send_some(struct span *input)
{
    struct span bytes = fuzz_bytes(input, fuzz_number(input, 100));
    bytes = span_first(bytes, STREAM_MAX - sent_length);
    memcpy(sent + sent_length, bytes.bytes, bytes.length);
    expect_apply(check.expect, sent + sent_length, bytes.length);
    answer_check_sent(&check, bytes.bytes, bytes.length);
    sent_length += bytes.length;
}

static void receive_some(struct span bytes)
{
    bytes = span_first(bytes, STREAM_MAX - came_length);
    uint8_t *copy = fuzz_copy(bytes);
    memcpy(came + came_length, bytes.bytes, bytes.length);
    came_length += bytes.length;
    answer_check_received(&check, copy, bytes.length);
    free(copy);
}

static void compare(uint64_t start, bool ended)
{
    struct fault fault;
    FUZZ_CHECK(check.sent == start + sent_length);
    FUZZ_CHECK(check.right <= check.sent);
    size_t good = (size_t)(check.right - start);
    FUZZ_CHECK(good <= came_length && memcmp(sent, came, good) == 0);
    FUZZ_CHECK(check.evidence_length == came_length - good);
    FUZZ_CHECK(memcmp(check.evidence, came + good, came_length - good) == 0);
    if (!answer_check_fault(&check, ended, &fault)) {
        FUZZ_CHECK(good == came_length && (!ended || good == sent_length));
        return;
    }
    FUZZ_CHECK(fault.offset == check.right);
    FUZZ_CHECK((fault.kind == FAULT_CUT) == (good == came_length));
    if (fault.kind == FAULT_CUT)
        FUZZ_CHECK(ended && fault.length == sent_length - good);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct span input = {bytes, length};
    uint8_t kind = fuzz_byte(&input);
    uint64_t start = fuzz_byte(&input);
    /* Around the end of the ring, too, but seldom: that takes a look at a megabyte. */
    if (fuzz_is_seldom(input))
        start = ((uint64_t)4 << 20) - start;

    if (!check.ring)
        FUZZ_CHECK(answer_check_init(&check, EXPECT_ECHO) == 0);
    check.expect = kind & 1 ? EXPECT_UPPER : EXPECT_ECHO;
    check.sent = check.right = start;
    check.evidence_length = 0;
    sent_length = came_length = 0;
    while (input.length > 0 && came_length < STREAM_MAX && sent_length < STREAM_MAX) {
        uint8_t step = fuzz_byte(&input);
        if (step & 1) {
            send_some(&input);
        } else if (step & 2) {
            receive_some(fuzz_bytes(&input, step >> 2));
        } else { /* from what was sent: the next, or any other */
            struct span stream = {sent, sent_length};
            size_t from = step & 4 ? came_length : fuzz_number(&input, sent_length);
            receive_some(span_first(span_from(stream, from), step >> 3 << 1));
        }
    }
    compare(start, false);
    compare(start, true);
    return 0;
}
