#include "client/check/answer_check.h"

#include "base/cleanup.h"
#include "client/check/pattern.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RING_SIZE ((size_t)4 << 20)

static_assert(RING_SIZE > 2 * FAULT_REACH, "there is room for what is under way");

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

int answer_check_init(struct answer_check *check, enum expectation expect)
{
    *check = (struct answer_check){
        .expect = expect,
        .ring = malloc(RING_SIZE),
        .evidence = malloc(FAULT_EVIDENCE),
    };
    if (check->ring && check->evidence)
        return 0;
    answer_check_deinit(check);
    return -ENOMEM;
}

void answer_check_deinit(struct answer_check *check)
{
    free(check->ring);
    free(check->evidence);
    *check = (struct answer_check){0};
}

size_t answer_check_room(const struct answer_check *check)
{
    return RING_SIZE - FAULT_REACH - (size_t)(check->sent - check->right);
}

void answer_check_sent(struct answer_check *check, const void *bytes, size_t length)
{
    const uint8_t *from = bytes;
    while (length > 0) {
        size_t at = check->sent % RING_SIZE;
        size_t part = smaller(length, RING_SIZE - at);
        memcpy(check->ring + at, from, part);
        expect_apply(check->expect, check->ring + at, part);
        check->sent += part;
        from += part;
        length -= part;
    }
}

/* How many of the bytes are right, as far as the ring goes in one piece. */
static size_t count_right(const struct answer_check *check, const uint8_t *bytes, size_t length)
{
    size_t at = check->right % RING_SIZE;
    size_t part = smaller(smaller(length, RING_SIZE - at), (size_t)(check->sent - check->right));
    size_t same = 0;
    if (memcmp(check->ring + at, bytes, part) == 0)
        return part;
    while (check->ring[at + same] == bytes[same])
        same++;
    return same;
}

void answer_check_received(struct answer_check *check, const void *bytes, size_t length)
{
    const uint8_t *from = bytes;
    size_t right = 1;
    while (length > 0 && right > 0 && !answer_check_is_wrong(check)) {
        right = count_right(check, from, length);
        check->right += right;
        from += right;
        length -= right;
    }
    size_t kept = smaller(length, FAULT_EVIDENCE - check->evidence_length);
    memcpy(check->evidence + check->evidence_length, from, kept);
    check->evidence_length += kept;
}

static void copy_out(const struct answer_check *check, uint64_t start, uint8_t *out, size_t length)
{
    size_t at = start % RING_SIZE;
    size_t part = smaller(length, RING_SIZE - at);
    memcpy(out, check->ring + at, part);
    memcpy(out + part, check->ring, length - part);
}

static struct fault explain(const struct answer_check *check)
{
    uint64_t start = check->right > FAULT_REACH ? check->right - FAULT_REACH : 0;
    /* The oldest of what has come makes room for the newest of what was sent. */
    if (check->sent > RING_SIZE && start < check->sent - RING_SIZE)
        start = check->sent - RING_SIZE;
    size_t length = (size_t)(check->sent - start);
    CLEANUP(free_pointer) uint8_t *expected = malloc(length + 1);

    if (!expected)
        return (struct fault){.kind = FAULT_OTHER,
                              .offset = check->right,
                              .length = check->evidence_length,
                              .got = check->evidence[0],
                              .wanted = check->ring[check->right % RING_SIZE]};
    copy_out(check, start, expected, length);
    const struct answer_part part = {{expected, length}, (size_t)(check->right - start)};
    return diagnose_part(&part, check->expect, check->right,
                         (struct span){check->evidence, check->evidence_length});
}

bool answer_check_fault(const struct answer_check *check, bool ended, struct fault *out)
{
    if (answer_check_is_wrong(check)) {
        *out = explain(check);
        return true;
    }
    if (!ended || check->right == check->sent)
        return false;
    *out = (struct fault){.kind = FAULT_CUT, .offset = check->right, .length = check->sent - check->right};
    return true;
}
